"""A WSGI application behind an ASGI server. Other packages import from here."""

from bridge._wsgi_to_asgi.adapter import WsgiToAsgi
from bridge._wsgi_to_asgi.lifespan import answer_lifespan
from bridge._wsgi_to_asgi.loop_response import AsyncBody, LoopResponse
from bridge._wsgi_to_asgi.request_body import RequestBody
from bridge._wsgi_to_asgi.responder import Responder, complete_environ, log_failure, warn_of_dropped
from bridge._wsgi_to_asgi.scope_view import ScopeView

__all__ = [
    "AsyncBody",
    "LoopResponse",
    "RequestBody",
    "Responder",
    "ScopeView",
    "WsgiToAsgi",
    "answer_lifespan",
    "complete_environ",
    "log_failure",
    "warn_of_dropped",
]
