"""Adapters that are dropped without close(), as test suites with an app factory do, leave nothing behind."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project  # noqa: F401  # sets Django up
from support.asgi_apps import Lifespan, hello
from support.plain_servers import call_asgi, environ_for, scope_for
from support.scripted_wsgi_server import ask
from support.waiting import Flag, adapters_own_threads, until
from support.wsgi_apps import reply


class Wsgi:
    """A WSGI app that can be looked at from afar."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return reply(start_response)


class Asgi:
    """The same as an ASGI app, without lifespan."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        await hello(scope, receive, send)


def by_asgi(adapter: Any) -> None:
    assert asyncio.run(call_asgi(adapter, scope_for("GET", "/async_hello"), [])).status == 200


def by_wsgi(adapter: Any) -> None:
    assert ask(adapter, environ_for("GET", "/async_hello")).status == "200 OK"


KINDS: dict[str, tuple[Callable[[Any], Any], Callable[[], Any], Callable[[Any], None]]] = {
    "WsgiToAsgi": (WsgiToAsgi, Wsgi, by_asgi),
    "AsgiToWsgi": (AsgiToWsgi, Asgi, by_wsgi),
    "AsgiToWsgi, a lifespan": (AsgiToWsgi, Lifespan, by_wsgi),
    "AsgiToWsgi, no lifespan": (lambda app: AsgiToWsgi(app, lifespan="off"), Asgi, by_wsgi),
    "nested for ASGI": (lambda app: WsgiToAsgi(AsgiToWsgi(app, lifespan="off")), Asgi, by_asgi),
    "nested for WSGI": (lambda app: AsgiToWsgi(WsgiToAsgi(app), lifespan="off"), Wsgi, by_wsgi),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [0, 1, 2])
def test_neither_threads_nor_an_app(kind: str, asked: int) -> None:
    """As soon as they are collected, and while the process goes on."""
    adapt, make, request = KINDS[kind]
    apps = []
    for _ in range(5):
        app = make()
        apps.append(weakref.ref(app))
        adapter = adapt(app)
        for _ in range(asked):
            request(adapter)
        del adapter, app

    def gone() -> bool:
        gc.collect()
        return not adapters_own_threads() and not any(app() for app in apps)

    until(gone)


def test_a_lifespan_is_shut_down() -> None:
    """The app hears of its end, on its loop."""
    app = Lifespan()
    adapter = AsgiToWsgi(app)
    by_wsgi(adapter)
    del adapter
    gc.collect()
    until(lambda: app.events == ["startup", "shutdown"] and not adapters_own_threads())


def test_a_request_that_runs_is_finished() -> None:
    """Its thread ends with it."""
    entered, go = Flag(), Flag()

    def app(environ: Any, start_response: Any) -> Any:
        entered.set()
        go.wait()
        return reply(start_response)

    async def main() -> Any:
        request = asyncio.ensure_future(call_asgi(WsgiToAsgi(app), scope_for("GET", "/"), []))
        await entered.waited()
        gc.collect()
        go.set()
        return await request

    assert asyncio.run(main()).body == b"served"
    gc.collect()
    until(lambda: not adapters_own_threads())


@pytest.mark.parametrize(
    ("make", "request_"),
    [(get_asgi_application, by_asgi), (get_wsgi_application, by_wsgi)],
    ids=["get_asgi_application", "get_wsgi_application"],
)
def test_django_applications(make: Any, request_: Any) -> None:
    """The handlers of a project as well."""
    application = make()
    request_(application)
    del application

    def gone() -> bool:
        gc.collect()
        return not adapters_own_threads()

    until(gone)
