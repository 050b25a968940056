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
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._concurrency.wake_policy import threads_take_turns
from bridge._servers import process
from bridge._types import Environ, StartResponse
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
    """

    def __init__(self, grace: int) -> None:
        self._grace = grace

    def exit(self, timeout: float | None = None) -> None:
        """Called when Python begins to exit, in its main thread."""
        del timeout
        # A thread cannot do this: none can be started at that time.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(self._grace)


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
        process.register(LastWord(told["grace"]))
    try:
        app = find(told["app"])
    except (Exception, SystemExit) as error:
        if not told["reload"]:
            raise
        sys.stderr.write(users_traceback())
        _watch(error)
        app = _NotLoaded(told["app"])
    return adapted(app, told["wanted"], told["threads"], told["grace"])


class _NotLoaded:
    """A WSGI application in the place of one that cannot be imported after a change of its files.

    If the import raised, Gunicorn and Hypercorn would end, and not look at the files any more.
    """

    def __init__(self, spec: str) -> None:
        self._told = f"{spec} cannot be loaded since the last change. The output of bridge serve says why.\n".encode()

    def __call__(self, _environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(self._told)))]
        start_response("500 Internal Server Error", headers)
        return [self._told]


def _watch(error: BaseException) -> None:
    """Show the files that `error` comes from to the reloaders that look at the files of `sys.modules`. Python has
    removed from there what could not be imported.
    """
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    for number, file in enumerate(dict.fromkeys(files)):
        if Path(file).is_file():
            module = ModuleType(f"{__name__}.file{number}")
            module.__file__ = file
            sys.modules[module.__name__] = module


app = _from_environment()
