import asyncio
import logging
from collections.abc import Coroutine

from bridge import _arguments
from bridge._concurrency.calls import run_in_thread

_log = logging.getLogger("bridge")


async def run_hook(side, hook, arguments):
    results = hook(*arguments) if asyncio.iscoroutinefunction(hook) else None
    if results is not None:
        await results
        return
    outcome = await run_in_thread(side, lambda: hook(*arguments))
    if isinstance(outcome, Coroutine):
        await outcome


async def answer_lifespan(d, startup, shutdown, scope, receive, send):
    state = scope.get("state", {})
    side = d.here()
    for phase, hook in (("startup", startup), ("shutdown", shutdown)):
        await receive()
        answer = {"type": f"lifespan.{phase}.complete"}
        try:
            if phase == "shutdown":
                await d.drain(side)
                await side.shut_down()
            if hook is not None:
                await run_hook(d.here(), hook, (state,) if _arguments.takes_argument(hook) else ())
        except Exception as error:
            _log.exception("the %s hook of the application raised", phase)
            answer = {"type": f"lifespan.{phase}.failed", "message": f"{type(error).__name__}: {error}"}
        last = phase == "shutdown" or "message" in answer
        if last:
            await d.drain(d.here())
        await send(answer)
        if last:
            break
