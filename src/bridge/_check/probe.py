"""Makes all requests of a check to an application, through both validators, on a separate loop."""

import asyncio
import contextlib
import signal
import traceback
from collections.abc import Coroutine, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._check.asgi_validator import asgi_validator
from bridge._check.client import GRACE_SECONDS, RESPONSE_SECONDS, CheckClient
from bridge._check.findings import Finding, Note, Outcome, of_error
from bridge._check.lifespan import LifespanCheck
from bridge._check.progress import Progress
from bridge._check.requests import CheckRequest
from bridge._check.wsgi_validator import wsgi_validator
from bridge._types import ASGIApp, WSGIApp
from bridge._wsgi_to_asgi import WsgiToAsgi
from bridge.errors import ProtocolError

# How long a request may block the loop before its code is interrupted.
_BLOCKED_SECONDS: Final = 2 * RESPONSE_SECONDS
LIFESPAN: Final = "lifespan"
_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)
_ERRORS: Final = {
    "wsgi": ("a response for every request", "PEP 3333, Error Handling"),
    "asgi": ("a response for every request", "ASGI HTTP & WebSocket, Response Start"),
}

_current: ContextVar[Outcome] = ContextVar("bridge_check_outcome")


def _note() -> Note:
    return _current.get().note


def names(requests: Sequence[CheckRequest], *, wsgi: bool, asgi: bool) -> list[str]:
    """What will be asked of an application that speaks these interfaces."""
    asked = [request.name for request in requests]
    return [*(asked if wsgi else ()), *((LIFESPAN, *asked, *map(_as_wsgi, asked)) if asgi else ())]


def _as_wsgi(asked: str) -> str:
    return f"{asked}, as WSGI"


def probe_wsgi(app: WSGIApp, requests: Sequence[CheckRequest], progress: Progress | None = None) -> list[Outcome]:
    """Check a WSGI application, behind the adapter that an ASGI server would need."""
    progress = progress or Progress()
    with WsgiToAsgi(wsgi_validator(app, _note), shutdown_timeout=GRACE_SECONDS, slow_warning=None) as adapter:
        return _run(_ask_all(asgi_validator(adapter, _note), requests, "wsgi", None, progress), progress)


def probe_asgi(app: ASGIApp, requests: Sequence[CheckRequest], progress: Progress | None = None) -> list[Outcome]:
    """Check an ASGI application: its lifespan, the requests, and then the requests again as a WSGI server would make
    them.
    """
    told = progress or Progress()
    watched = asgi_validator(app, _note)
    inner = AsgiToWsgi(watched, lifespan="off", disconnect_grace=GRACE_SECONDS / 2, shutdown_timeout=GRACE_SECONDS)
    outer = WsgiToAsgi(wsgi_validator(inner, _note), slow_warning=None, shutdown_timeout=GRACE_SECONDS)

    async def ask() -> list[Outcome]:
        outcomes = [Outcome(LIFESPAN)]
        lifespan = LifespanCheck(app, outcomes[0])
        try:
            told.begin(f"{LIFESPAN}, startup")
            if await lifespan.start():
                outcomes += await _ask_all(watched, requests, "asgi", lifespan.state, told)
                behind = [replace(one, name=_as_wsgi(one.name)) for one in requests]
                outcomes += await _ask_all(outer, behind, "asgi", lifespan.state, told)
            told.begin(f"{LIFESPAN}, shutdown")
        finally:
            found = list(outcomes[0].findings)
            await lifespan.stop()
            if told.interrupted:
                # The loop is ending, and has cancelled the lifespan. That is not the application's fault.
                outcomes[0].findings[:] = found
            if found or not told.interrupted:
                told.end(outcomes[0])
        return outcomes

    with outer, inner:
        return _run(ask(), told)


def _run(asking: Coroutine[Any, Any, list[Outcome]], progress: Progress) -> list[Outcome]:
    """Run it on a new loop. Returns what has been found until the application ended that loop, if it does."""
    try:
        return asyncio.run(asking)
    except (asyncio.CancelledError, RuntimeError):  # RuntimeError: the loop was stopped
        if not progress.loop_lost:
            raise
        return progress.outcomes


async def _ask_all(
    app: ASGIApp, requests: Sequence[CheckRequest], interface: str, state: dict[str, Any] | None, progress: Progress
) -> list[Outcome]:
    outcomes = []
    for request in requests:
        progress.begin(request.name)
        try:
            outcomes.append(await _ask(app, request, interface, state))
        except asyncio.CancelledError:
            if not progress.interrupted:
                # Nobody but the application cancels the check, or stops its loop, which cancels it too.
                progress.loop_lost = True
                did = "stopped the event loop, or cancelled tasks of the server"
                found = Finding(did, *_ERRORS[interface])
                progress.end(Outcome(request.name, "no response, and the rest is not asked", [found]))
            raise
        progress.end(outcomes[-1])
    return outcomes


async def _ask(app: ASGIApp, request: CheckRequest, interface: str, state: dict[str, Any] | None) -> Outcome:
    outcome = Outcome(request.name)
    _current.set(outcome)
    clients = [CheckClient(request, state) for _ in range(request.at_once)]
    with _interrupted_when_blocked():
        await asyncio.gather(*(client.run(app) for client in clients))
    for client in clients:
        _judge(client, outcome, interface)
    outcome.ended = ", ".join(dict.fromkeys(map(_ended, clients)))
    return outcome


def _judge(client: CheckClient, outcome: Outcome, interface: str) -> None:
    error = client.error
    if isinstance(error, ProtocolError):
        outcome.note(of_error(error))
    elif error is not None and not client.left:
        where = _where(error)
        when = "before its response" if client.status is None else "before the end of its response"
        message = " ".join(str(error).split())
        outcome.note(Finding(f"raised {type(error).__name__}: {message:.200}{where} {when}", *_ERRORS[interface]))
    if client.silent:
        did = f"has not answered within {RESPONSE_SECONDS:.0f} seconds"
        outcome.note(Finding(did, *_ERRORS[interface]))
    if client.stuck:
        did = f"continued for {GRACE_SECONDS:.0f} seconds after its client had left"
        outcome.note(Finding(did, "that the request ends", "ASGI HTTP & WebSocket, Disconnect"))


def _where(error: BaseException) -> str:
    """The place in the application's code that raised."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_PACKAGE):
            return f" ({Path(frame.filename).name}:{frame.lineno})"
    return ""


def _ended(client: CheckClient) -> str:
    if client.status is None:
        return "no response"
    size = f"{client.status}, {client.size} bytes"
    return f"{size}, then left" if client.left else size


@contextlib.contextmanager
def _interrupted_when_blocked() -> Iterator[None]:
    """Interrupt code that blocks the loop, because it would block the check for ever."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"the event loop was blocked for {_BLOCKED_SECONDS:.0f} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, _BLOCKED_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
