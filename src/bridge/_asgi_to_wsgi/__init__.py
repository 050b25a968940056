"""An ASGI application behind a WSGI server."""

from bridge._asgi_to_wsgi.adapter import AsgiToWsgi

__all__ = ["AsgiToWsgi"]
