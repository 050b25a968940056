"""Each way in which a project is served whose first middleware is `BridgeMiddleware`."""

from collections.abc import Iterator

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from bridge import WsgiToAsgi
from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project
from support.django_clients import Asgi, Plain, Wsgi, portals_closed

FIRST = ["bridge.django.BridgeMiddleware", *django_project.MIDDLEWARE]


@pytest.fixture
def bridged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The middleware comes first; what it has opened, the exit of the process would close."""
    django_project.events.clear()
    with portals_closed(monkeypatch), override_settings(MIDDLEWARE=FIRST):
        yield


@pytest.fixture(params=["django wsgi", "django asgi", "WsgiToAsgi", "bridge wsgi", "bridge asgi"])
def face(request: pytest.FixtureRequest, bridged: None) -> Iterator[Asgi | Wsgi]:
    """Each way in which a project is served."""
    made: Asgi | Wsgi
    if request.param == "django wsgi":
        made = Wsgi(Plain(WSGIHandler()))
    elif request.param == "django asgi":
        made = Asgi(Plain(ASGIHandler()), djangos_own=True)
    elif request.param == "WsgiToAsgi":
        made = Asgi(WsgiToAsgi(WSGIHandler(), shutdown_timeout=2.0))
    elif request.param == "bridge wsgi":
        made = Wsgi(get_wsgi_application())
    else:
        made = Asgi(get_asgi_application(shutdown_timeout=2.0))
    yield made
    made.close()
