"""The user's startup and shutdown hooks as the lifespan of an ASGI application (ASGI Lifespan)."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from bridge import _arguments
from bridge._concurrency.interrupts import may_pass
from bridge._types import Receive, Scope, Send

Hook = Callable[..., Any]
# Runs a function in a thread. Returns its result, and raises what it raises.
RunInThread = Callable[[Callable[[], Any]], Awaitable[Any]]

_log = logging.getLogger("bridge")


async def _nothing() -> None:
    """Do nothing."""


async def answer_lifespan(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    startup: Hook | None,
    shutdown: Hook | None,
    in_thread: RunInThread,
    stop: Callable[[], Awaitable[None]] = _nothing,
    end: Callable[[], Awaitable[None]] = _nothing,
) -> None:
    """Answer `lifespan.startup` and `lifespan.shutdown`, each after its hook has run.

    `in_thread` is for hooks that are not async. `stop()` is awaited before the shutdown hook runs, because requests in
    progress may need what the hook removes. `end()` is awaited before the last answer, whichever it is: after that,
    Hypercorn cancels what still runs, and treats its worker as failed.

    If a hook raises, this is logged and answered with "failed". Then the exception is raised, as in the routers of
    frameworks, because test clients see only this.
    """
    state = scope.get("state", {})
    for phase, hook in (("startup", startup), ("shutdown", shutdown)):
        await receive()
        try:
            if phase == "shutdown":
                await stop()
            if hook is not None:
                await run_hook(hook, (state,) if _arguments.takes_argument(hook) else (), in_thread)
        except BaseException as error:
            if not may_pass(error):
                raise
            _log.error("the %s hook of the application raised", phase, exc_info=error)
            await end()
            await send({"type": f"lifespan.{phase}.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        if phase == "shutdown":
            await end()
        await send({"type": f"lifespan.{phase}.complete"})


async def run_hook(hook: Hook, arguments: tuple[Any, ...], in_thread: RunInThread) -> None:
    """Run a hook: an async one on the loop, any other with `in_thread`. Its result may be awaitable.

    Raises what the hook raises.
    """
    returned = hook(*arguments) if _arguments.is_async(hook) else await in_thread(partial(hook, *arguments))
    if inspect.isawaitable(returned):
        await returned
