"""An ASGI application behind a WSGI server. Other packages import from here."""

from bridge._asgi_to_wsgi.adapter import AsgiToWsgi
from bridge._asgi_to_wsgi.portal import Portal
from bridge._asgi_to_wsgi.responder import refuse

__all__ = ["AsgiToWsgi", "Portal", "refuse"]
