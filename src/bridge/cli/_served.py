"""What a server imports: the application that `bridge serve` was given, as the server wants it.

The server is another process (Python's workers may each be one more), so that the command line reaches it through the
environment.
"""

import json
import os
import signal
from typing import Any

from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._servers import process
from bridge._wsgi_to_asgi import WsgiToAsgi
from bridge.cli._load import find
from bridge.cli._servers import KEY
from bridge.interfaces import as_asgi, as_wsgi, asgi_side, wsgi_side


def adapted(app: Any, wanted: str, threads: int, grace: float) -> Any:
    """`app` as one that speaks `wanted`, and keeps a stop for no longer than `grace` seconds."""
    if wanted == "wsgi":
        return AsgiToWsgi(app, shutdown_timeout=grace) if wsgi_side(app) is None else as_wsgi(app)
    return WsgiToAsgi(app, threads=threads, shutdown_timeout=grace) if asgi_side(app) is None else as_asgi(app)


class LastWord:
    """Ends this process `grace` seconds after Python has begun to exit, whatever threads it then waits for.

    A worker of Gunicorn's that is to be replaced, since a file has changed, has nobody that would end it: it would
    stay, and keep the new one from starting, until the last of its streams has ended.
    """

    def __init__(self, grace: int) -> None:
        self._grace = grace

    def exit(self, timeout: float | None = None) -> None:
        """Called when Python begins to exit, in its main thread."""
        del timeout
        # No thread of ours could do it: at that time none can be started.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(self._grace)


def _from_environment() -> Any:
    if KEY not in os.environ:
        raise RuntimeError(f"{__name__} is for the servers that `bridge serve` starts: {KEY} is not set")
    told = json.loads(os.environ[KEY])
    if told["reload"]:
        process.register(LastWord(told["grace"]))
    return adapted(find(told["app"]), told["wanted"], told["threads"], told["grace"])


app = _from_environment()
