"""WSGI apps on ASGI servers, ASGI apps on WSGI servers.

`WsgiToAsgi(app)` is an ASGI application that runs the WSGI application `app` in worker threads; `AsgiToWsgi(app)` is a
WSGI application that runs the ASGI application `app` on a private event loop.
"""

from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._wsgi_to_asgi import WsgiToAsgi
from bridge.errors import (
    ApplicationProtocolError,
    ClientDisconnected,
    ClientProtocolError,
    LifespanFailed,
    ProtocolError,
    ServerProtocolError,
)

__all__ = [
    "ApplicationProtocolError",
    "AsgiToWsgi",
    "ClientDisconnected",
    "ClientProtocolError",
    "LifespanFailed",
    "ProtocolError",
    "ServerProtocolError",
    "WsgiToAsgi",
]
__version__ = "0.1.0"
