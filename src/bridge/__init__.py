"""WSGI apps on ASGI servers, ASGI apps on WSGI servers.

`WsgiToAsgi(app)` is an ASGI application that runs the WSGI application `app` in worker threads. `AsgiToWsgi(app)` is a
WSGI application that runs the ASGI application `app` on a private event loop. `as_asgi` and `as_wsgi` adapt an
application only if it needs it. `Mounts` serves applications of both interfaces under path prefixes, on servers of
either kind.
"""

from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._stats import LoopStats, ThreadStats
from bridge._wsgi_to_asgi import WsgiToAsgi
from bridge.errors import (
    ApplicationProtocolError,
    ClientDisconnected,
    ClientProtocolError,
    LifespanFailed,
    ProtocolError,
    ServerProtocolError,
)
from bridge.interfaces import as_asgi, as_wsgi, interface_of
from bridge.mounts import Mounts

__all__ = [
    "ApplicationProtocolError",
    "AsgiToWsgi",
    "ClientDisconnected",
    "ClientProtocolError",
    "LifespanFailed",
    "LoopStats",
    "Mounts",
    "ProtocolError",
    "ServerProtocolError",
    "ThreadStats",
    "WsgiToAsgi",
    "as_asgi",
    "as_wsgi",
    "interface_of",
]
__version__ = "0.1.0"

# So that a repr, a traceback or a pickle shows the module that users import from, not the one where they are defined.
for _public in (AsgiToWsgi, LoopStats, Mounts, ThreadStats, WsgiToAsgi):
    _public.__module__ = __name__
del _public
