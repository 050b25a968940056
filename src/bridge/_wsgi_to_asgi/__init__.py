"""A WSGI application behind an ASGI server."""

from bridge._wsgi_to_asgi.adapter import WsgiToAsgi

__all__ = ["WsgiToAsgi"]
