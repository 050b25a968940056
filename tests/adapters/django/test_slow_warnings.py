"""A slow request of a Django project is named by its method and path, on either kind of server."""

from collections.abc import Iterator

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project  # noqa: F401  # sets Django up
from support.django_clients import Asgi
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served
from support.waiting import Flag, LogWatch

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")

# The gate of the test that runs.
gates: list[Flag] = []


def waits(request: HttpRequest) -> HttpResponse:
    gates[-1].wait()
    return HttpResponse("done\n")


async def blocks(request: HttpRequest) -> HttpResponse:
    gates[-1].wait()
    return HttpResponse("done\n")


class Views:
    urlpatterns = [path("waits", waits), path("blocks", blocks)]


@pytest.fixture
def go_on() -> Iterator[Flag]:
    gates.append(Flag())
    with override_settings(ROOT_URLCONF=Views, MIDDLEWARE=[]):
        yield gates[-1]
    gates.pop().set()


def test_a_sync_view_on_an_asgi_server(go_on: Flag, log: LogWatch) -> None:
    """`slow_warning` of `get_asgi_application`; the query string is not logged, since it may hold secrets."""
    face = Asgi(get_asgi_application(shutdown_timeout=2.0, slow_warning=0.01))
    try:
        with face.open("/waits?token=secret"):
            line = log.wait_for("WARNING GET '/waits' has taken", "in waits")
            go_on.set()
    finally:
        face.close()

    assert "secret" not in line


@pytest.mark.usefixtures("looks_often")
def test_an_async_view_that_blocks_the_loop_of_a_wsgi_server(
    go_on: Flag, log: LogWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a function of Django's and not an ASGI app that runs there; what is named is its request."""
    monkeypatch.setattr("bridge._asgi_to_wsgi.portal._SLOW_SECONDS", 0.01)
    app = get_wsgi_application()
    try:
        with Served(app, environ_for("GET", "/blocks", QUERY_STRING="token=secret")) as served:
            ended = served.begin()
            line = log.wait_for("has been blocked", "by GET '/blocks'; its thread", "in blocks")
            go_on.set()
            ended()
            served.close()
    finally:
        app.close()

    assert "secret" not in line
