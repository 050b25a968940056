"""One Django project, its sync and its async views, on ASGI and on WSGI servers.

`get_asgi_application` and `get_wsgi_application` stand in for Django's functions of the same names in `asgi.py` and
`wsgi.py`. `"bridge.django.BridgeMiddleware"`, first in `settings.MIDDLEWARE`, gives most of that to a project that
cannot change those. `"bridge.django"` in `settings.INSTALLED_APPS` adds `manage.py bridge_report` and system checks.
"""

from bridge.django._applications import get_asgi_application, get_wsgi_application
from bridge.django._bridge import Bridge, BridgeRequest
from bridge.django._middleware import BridgeMiddleware
from bridge.django._modes import on_loop

__all__ = ["Bridge", "BridgeMiddleware", "BridgeRequest", "get_asgi_application", "get_wsgi_application", "on_loop"]

BridgeMiddleware.__module__ = __name__  # as `settings.MIDDLEWARE` spells it
