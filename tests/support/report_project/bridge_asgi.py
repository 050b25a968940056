"""The drop-in."""

from bridge.django import get_asgi_application

application = get_asgi_application()
