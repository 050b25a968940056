"""An ASGI application behind a WSGI server. Other packages import from here."""

from bridge._asgi_to_wsgi.adapter import AsgiToWsgi, refuse
from bridge._asgi_to_wsgi.portal import Portal

__all__ = ["AsgiToWsgi", "Portal", "refuse"]
