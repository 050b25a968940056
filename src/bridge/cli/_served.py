"""What a server imports: the application of `bridge serve`, in the interface of the server.

The server is another process, and each of its workers may be one more. So the command line is passed in the
environment.
"""

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._concurrency.wake_policy import threads_take_turns
from bridge._servers import process
from bridge._types import ASGIApp, Environ, Event, Receive, Scope, Send, StartResponse
from bridge._wsgi_to_asgi import WsgiToAsgi
from bridge.cli._load import find, users_traceback
from bridge.cli._servers import KEY
from bridge.interfaces import as_asgi, as_wsgi, asgi_side, wsgi_side


def adapted(app: Any, wanted: str, threads: int, grace: float) -> Any:
    """`app` in the interface `wanted`. It holds up a stop for at most `grace` seconds."""
    if wanted == "wsgi":
        return AsgiToWsgi(app, shutdown_timeout=grace) if wsgi_side(app) is None else as_wsgi(app)
    return WsgiToAsgi(app, threads=threads, shutdown_timeout=grace) if asgi_side(app) is None else as_asgi(app)


class LastWord:
    """End this process `grace` seconds after Python has begun to exit, whatever threads it waits for.

    When a file has changed, nothing ends Gunicorn's old worker. It would stay until its last stream has ended, and the
    new worker would not start before that. On a Python without a lock, Granian's workers are threads, which it cannot
    end.

    `as_ended`: with exit status 0, as if it had ended by itself. Otherwise by the signal, which also ends code that
    does not let Python handle signals. Hypercorn ends altogether if a worker has another status.
    """

    def __init__(self, grace: int, *, as_ended: bool = False) -> None:
        self._grace = grace
        self._as_ended = as_ended

    def exit(self, timeout: float | None = None) -> None:
        """Called when Python begins to exit, in its main thread."""
        del timeout
        # A thread cannot do this: none can be started at that time.
        signal.signal(signal.SIGALRM, _end if self._as_ended else signal.SIG_DFL)
        signal.alarm(self._grace)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


_wait_closed: Final = asyncio.Server.wait_closed


async def _wait_for_the_sockets(server: asyncio.Server) -> None:
    """What `asyncio.Server.wait_closed` was before Python 3.12: a server whose sockets are closed is closed.

    Hypercorn calls it before the time begins that requests in progress get. Since 3.12 it also waits for all
    connections, so that time would not begin while a client has an open stream.
    """
    if server.sockets:
        await _wait_closed(server)


def _from_environment() -> Any:
    if KEY not in os.environ:
        raise RuntimeError(f"{__name__} is for the servers that `bridge serve` starts: {KEY} is not set")
    told = json.loads(os.environ[KEY])
    if told["under"] == "hypercorn":
        servers: Any = asyncio.Server
        servers.wait_closed = _wait_for_the_sockets
    if told["reload"] or (told["under"] == "granian" and not threads_take_turns()):
        process.register(LastWord(told["grace"], as_ended=told["under"] == "hypercorn"))
    adapter = partial(adapted, wanted=told["wanted"], threads=told["threads"], grace=told["grace"])
    if not told["reload"]:
        return adapter(find(told["app"]))
    try:
        app = adapter(find(told["app"]))
    except (Exception, SystemExit) as error:
        sys.stderr.write(users_traceback())
        _watch(error)
        return adapter(_Failing(f"{told['app']} cannot be loaded since the last change"))
    return app if told["wanted"] == "wsgi" else _KeptUp(app, told["app"])


class _Failing:
    """A WSGI application in the place of one that cannot be imported after a change of its files, or does not start.

    If the import raised, Gunicorn and Hypercorn would end, and not look at the files any more.
    """

    def __init__(self, problem: str) -> None:
        self._told = f"{problem}. The output of bridge serve says why.\n".encode()

    def __call__(self, _environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(self._told)))]
        start_response("500 Internal Server Error", headers)
        return [self._told]


class _KeptUp:
    """An ASGI application whose lifespan may fail without ending the server. If it does not start, requests get 500.

    Hypercorn and Granian would end, and not look at the files any more. Uvicorn would let requests wait.
    """

    def __init__(self, app: ASGIApp, spec: str) -> None:
        self._app = app
        self._spec = spec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = _Answers(send, self._note_failure)
        try:
            await self._app(scope, receive, answers.send)
        except SystemExit as error:
            # Other errors without an answer say that the app has no lifespan. This one would end a server.
            await answers.fail(error)
        except asyncio.CancelledError:
            # Hypercorn cancels an app that goes on after the shutdown, and ends altogether if it hears of that.
            if not answers.stopped:
                raise
        except Exception:
            if not answers.failed:
                raise
        # An app may go on after a failure, and answer the shutdown itself.
        if answers.failed and not answers.stopped:
            while (await receive())["type"] != "lifespan.shutdown":
                pass  # the startup, which an app need not have received before it failed
            await send({"type": "lifespan.shutdown.complete"})

    def _note_failure(self, phase: str, message: str) -> None:
        sys.stderr.write(f"bridge: {self._spec}: its {phase} failed: {message}\n")
        if phase == "startup":
            self._app = WsgiToAsgi(_Failing(f"{self._spec} has not started"))


class _Answers:
    """What an application answers in its lifespan. The server is told of no failure; `on_failure` is."""

    def __init__(self, send: Send, on_failure: Callable[[str, str], None]) -> None:
        self._send = send
        self._on_failure = on_failure
        self.started = self.stopped = self.failed = False

    async def send(self, event: Event) -> None:
        phase, _, outcome = event["type"].removeprefix("lifespan.").partition(".")
        self.started = True
        self.stopped = self.stopped or phase == "shutdown"
        if outcome == "failed":
            self.failed = True
            self._on_failure(phase, event.get("message", ""))
            event = {"type": f"lifespan.{phase}.complete"}
        await self._send(event)

    async def fail(self, error: BaseException) -> None:
        """Take what the application has raised for the answer that it owes, if it owes one."""
        if not (self.failed or self.stopped):
            phase = "shutdown" if self.started else "startup"
            await self.send({"type": f"lifespan.{phase}.failed", "message": repr(error)})


def _watch(error: BaseException) -> None:
    """Show the files that `error` comes from to the reloaders that look at the files of `sys.modules`. Python has
    removed from there what could not be imported.
    """
    files = []
    for each in _chain(error):
        files += [frame.filename for frame in traceback.extract_tb(each.__traceback__)]
        if isinstance(each, SyntaxError) and each.filename:
            files.append(each.filename)
    for number, file in enumerate(dict.fromkeys(files)):
        if Path(file).is_file():
            module = ModuleType(f"{__name__}.file{number}")
            module.__file__ = file
            sys.modules[module.__name__] = module


def _chain(error: BaseException) -> list[BaseException]:
    """The error, and those that code of the application had caught before it raised this one."""
    chain = [error]
    for each in chain:
        chain += [one for one in (each.__cause__, each.__context__) if one is not None and one not in chain]
    return chain


app = _from_environment()
