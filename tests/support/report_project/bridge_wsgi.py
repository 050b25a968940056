"""The drop-in."""

from bridge.django import get_wsgi_application

application = get_wsgi_application()
