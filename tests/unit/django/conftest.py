"""Each way in which a project is served whose first middleware is `BridgeMiddleware`."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from bridge import WsgiToAsgi
from bridge._asgi_to_wsgi.portal import Portal
from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project
from support.django_clients import Asgi, Plain, Wsgi

FIRST = ["bridge.django.BridgeMiddleware", *django_project.MIDDLEWARE]


@pytest.fixture
def bridged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The middleware comes first; what it has opened, the exit of the process would close."""
    django_project.events.clear()
    portals: list[Portal] = []
    original = Portal.__init__

    def init(self: Portal, options: Any) -> None:
        original(self, options)
        portals.append(self)

    monkeypatch.setattr(Portal, "__init__", init)
    with override_settings(MIDDLEWARE=FIRST):
        yield
    for portal in portals:
        portal.close()


@pytest.fixture(params=["django wsgi", "django asgi", "WsgiToAsgi", "bridge wsgi", "bridge asgi"])
def face(request: pytest.FixtureRequest, bridged: None) -> Iterator[Asgi | Wsgi]:
    """Each way in which a project is served."""
    made: Asgi | Wsgi
    if request.param == "django wsgi":
        made = Wsgi(Plain(WSGIHandler()))
    elif request.param == "django asgi":
        made = Asgi(Plain(ASGIHandler()), sends_from_its_task=False)
    elif request.param == "WsgiToAsgi":
        made = Asgi(WsgiToAsgi(WSGIHandler(), shutdown_timeout=2.0))
    elif request.param == "bridge wsgi":
        made = Wsgi(get_wsgi_application())
    else:
        made = Asgi(get_asgi_application(shutdown_timeout=2.0))
    yield made
    made.close()
