"""What a server imports: the application that `bridge serve` was given, as the server wants it.

The server is another process (Python's workers may each be one more), so that the command line reaches it through the
environment.
"""

import json
import os
from typing import Any

from bridge._wsgi_to_asgi import WsgiToAsgi
from bridge.cli._load import find
from bridge.cli._servers import KEY
from bridge.interfaces import as_asgi, as_wsgi, asgi_side


def adapted(app: Any, wanted: str, threads: int) -> Any:
    """`app` as one that speaks `wanted`."""
    if wanted == "wsgi":
        return as_wsgi(app)
    return WsgiToAsgi(app, threads=threads) if asgi_side(app) is None else as_asgi(app)


def _from_environment() -> Any:
    if KEY not in os.environ:
        raise RuntimeError(f"{__name__} is for the servers that `bridge serve` starts: {KEY} is not set")
    told = json.loads(os.environ[KEY])
    return adapted(find(told["app"]), told["wanted"], told["threads"])


app = _from_environment()
