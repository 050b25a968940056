"""One Django project, its sync and its async views, on ASGI and on WSGI servers.

`get_asgi_application` and `get_wsgi_application` replace Django's functions of the same names in `asgi.py` and
`wsgi.py`. For a project that cannot change these files, `"bridge.django.BridgeMiddleware"`, first in
`settings.MIDDLEWARE`, does most of the same. `"bridge.django"` in `settings.INSTALLED_APPS` adds `manage.py
bridge_report` and system checks.
"""

from bridge.django._applications import get_asgi_application, get_wsgi_application
from bridge.django._bridge import Bridge, BridgeRequest
from bridge.django._middleware import BridgeMiddleware
from bridge.django._modes import on_loop

__all__ = ["Bridge", "BridgeMiddleware", "BridgeRequest", "get_asgi_application", "get_wsgi_application", "on_loop"]

BridgeMiddleware.__module__ = __name__  # as `settings.MIDDLEWARE` spells it
