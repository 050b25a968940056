"""The startup and shutdown hooks of the user's as the lifespan of an ASGI application (ASGI Lifespan)."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from bridge import _arguments
from bridge._concurrency.interrupts import may_pass
from bridge._types import Receive, Scope, Send

Hook = Callable[..., Any]
# Runs a function in a thread; returns what it returns, raises what it raises.
RunInThread = Callable[[Callable[[], Any]], Awaitable[Any]]

_log = logging.getLogger("bridge")


async def _nothing() -> None:
    """There is nothing to do."""


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
    """Answer `lifespan.startup` and `lifespan.shutdown`, each when its hook has run.

    `in_thread` is for hooks that are not async. `stop()` is awaited before the shutdown hook runs: requests that still
    go on may need what the hook takes away. `end()` is awaited before the last answer, whichever that is: Hypercorn
    cancels what is not over then, and takes its worker for failed.

    A hook that raises is logged, answered with "failed", and what it raised is raised then: test clients look at that
    only, as the routers of frameworks have it.
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
    """Run a hook of the user's: an async one on the loop, another by `in_thread`; what that returns may be awaitable.

    Raises what the hook raises.
    """
    returned = hook(*arguments) if _arguments.is_async(hook) else await in_thread(partial(hook, *arguments))
    if inspect.isawaitable(returned):
        await returned
