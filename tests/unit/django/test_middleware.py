"""`BridgeMiddleware` under Django's own handlers, its test clients, and those of `bridge.django`."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from bridge import WsgiToAsgi
from bridge._asgi_to_wsgi.portal import Portal
from bridge.django import get_asgi_application, get_wsgi_application
from bridge.django._bridge import Bridge
from support import django_project
from support.django_clients import Asgi, Wsgi
from support.plain_servers import scope_for
from support.waiting import until

FIRST = ["bridge.django.BridgeMiddleware", *django_project.MIDDLEWARE]


@pytest.fixture(autouse=True)
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


class Plain:
    """An adapter that has nothing to be closed."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, *arguments: Any) -> Any:
        return self._app(*arguments)

    def close(self) -> None: ...


@pytest.fixture(params=["django wsgi", "django asgi", "WsgiToAsgi", "bridge wsgi", "bridge asgi"])
def face(request: pytest.FixtureRequest) -> Iterator[Asgi | Wsgi]:
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


BOTH = pytest.mark.parametrize("prefix", ["", "async_"])


class TestStreams:
    @BOTH
    def test_parts_come_one_by_one(self, face: Asgi | Wsgi, prefix: str) -> None:
        """From an iterator of either kind, which is closed when the client leaves."""
        with face.open(f"/{prefix}endless") as opened:
            assert opened.next()
            opened.leave()
            until(lambda: "closed" in dict(django_project.events))

    @BOTH
    def test_whole_streams(self, face: Asgi | Wsgi, prefix: str) -> None:
        """Nothing is lost, and Django warns of nothing."""
        assert b"".join(b"%d\n" % number for number in range(300)) == face.ask(f"/{prefix}stream?parts=300").body

    @BOTH
    def test_files(self, face: Asgi | Wsgi, prefix: str) -> None:
        """A `FileResponse` is not read into memory first."""
        with open(django_project.__file__, "rb") as source:
            assert source.read() == face.ask(f"/{prefix}file").body


class TestLoops:
    def test_async_views_share_one_loop(self, face: Asgi | Wsgi) -> None:
        """The server's, or the private one."""
        loops = {face.ask("/async_where").json()["loop"] for _ in range(3)}

        assert 1 == len(loops)

    def test_sync_code_calls_async_code_there(self, face: Asgi | Wsgi) -> None:
        """By asgiref, and by `request.bridge`."""
        loops = face.ask("/calls_async").json()

        assert {face.ask("/async_where").json()["loop"]} == set(loops.values())

    def test_the_thread_is_left_as_it_was(self) -> None:
        """What runs in it later makes a loop of its own, as without the middleware."""
        Client().get("/calls_async")

        async def loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        assert async_to_sync(loop)() is not async_to_sync(loop)()


class TestClients:
    def test_the_sync_client(self) -> None:
        """It calls the chain itself."""
        assert b"hello\n" == Client().get("/async_hello").content
        assert b"0\n1\n2\n" == b"".join(Client().get("/async_stream").streaming_content)  # type: ignore[arg-type]

    def test_the_async_client(self) -> None:
        """As well."""

        async def ask() -> None:
            assert b"hello\n" == (await AsyncClient().get("/hello")).content
            response = await AsyncClient().get("/stream")
            assert b"0\n1\n2\n" == b"".join([part async for part in response.streaming_content])

        asyncio.run(ask())


class TestRequestBridge:
    def test_interface(self, face: Asgi | Wsgi) -> None:
        """That of the server."""
        with override_settings(ROOT_URLCONF=__name__):
            assert {"interface": face.name, "left": False} == face.ask("/interface").json()

    def test_call_async_in_async_code(self) -> None:
        """Says what to do instead."""

        async def function() -> None: ...

        async def call() -> None:
            Bridge(HttpRequest(), None).call_async(function)  # type: ignore[arg-type]

        with pytest.raises(RuntimeError, match="await the function instead"):
            asyncio.run(call())

    def test_what_it_raises_and_returns(self, face: Asgi | Wsgi) -> None:
        """The function's own."""
        with override_settings(ROOT_URLCONF=__name__):
            assert {"returned": [1, 2], "raised": "ValueError('no')"} == face.ask("/calls").json()

    def test_client_disconnected_under_djangos_asgi_handler(self) -> None:
        """A sync view that asks learns that its request was cancelled."""
        entered, seen = threading.Event(), threading.Event()

        def asks(request: Any) -> HttpResponse:
            entered.set()
            until(request.bridge.client_disconnected)
            seen.set()
            return HttpResponse()

        async def leave() -> None:
            urls = type("urls", (), {"urlpatterns": [path("asks", asks)]})
            with override_settings(ROOT_URLCONF=urls):
                server = ApplicationCommunicator(ASGIHandler(), scope_for("GET", "/asks"))
                await server.send_input({"type": "http.request"})
                await asyncio.to_thread(entered.wait, 5)
                await server.send_input({"type": "http.disconnect"})
                assert await asyncio.to_thread(seen.wait, 5)
                await server.wait(5)

        asyncio.run(leave())


class TestServerTiming:
    def test_none_without_debug(self, face: Asgi | Wsgi) -> None:
        """It is for development."""
        assert face.ask("/hello").header("server-timing") is None

    @pytest.mark.parametrize(
        ("handler", "view", "hops"),
        [
            (WSGIHandler, "hello", 0),
            (WSGIHandler, "async_hello", 2),
            (WSGIHandler, "async_where", 6),
            # Thirteen sync hooks of the seven classes of startproject, out and back; and a sync view.
            (ASGIHandler, "async_hello", 26),
            (ASGIHandler, "hello", 28),
        ],
    )
    def test_hops_under_djangos_handlers(self, handler: Any, view: str, hops: int) -> None:
        """As counted between Django and asgiref."""
        with override_settings(BRIDGE={"SERVER_TIMING": True}):
            app = Plain(handler())
            face = Wsgi(app) if handler is WSGIHandler else Asgi(app, djangos_own=True)
            said = face.ask(f"/{view}").header("server-timing") or ""
            face.close()

        assert said.startswith(f'hops;desc="{hops}", hop-wait;dur=')

    def test_hops_in_a_thread_of_djangos_asgi_handler(self) -> None:
        """Sync only middleware brings the chain there: out, back for the core of Django, and out to the view."""
        chain = ["bridge.django.BridgeMiddleware", "support.django_project.thread_middleware"]
        with override_settings(BRIDGE={"SERVER_TIMING": True}, MIDDLEWARE=chain):
            face = Asgi(Plain(ASGIHandler()), djangos_own=True)
            said = face.ask("/hello").header("server-timing") or ""
            face.close()

        assert said.startswith('hops;desc="6", hop-wait;dur=')

    @pytest.mark.parametrize(
        ("view", "on_asgi", "on_wsgi"), [("hello", 2, 0), ("async_hello", 4, 2), ("async_where", 8, 6)]
    )
    def test_hops_under_ours(self, view: str, on_asgi: int, on_wsgi: int) -> None:
        """One out and one back on an ASGI server, and the same to the loop for an async view."""
        with override_settings(DEBUG=True):
            for face, hops in (
                (Asgi(get_asgi_application(shutdown_timeout=2.0)), on_asgi),
                (Wsgi(get_wsgi_application()), on_wsgi),
            ):
                said = face.ask(f"/{view}").header("server-timing") or ""
                face.close()
                assert said.startswith(f'hops;desc="{hops}"')


def interface(request: Any) -> HttpResponse:
    return JsonResponse({"interface": request.bridge.interface, "left": request.bridge.client_disconnected()})


def calls(request: Any) -> HttpResponse:
    async def returns(*arguments: int) -> list[int]:
        await sync_to_async(int)()
        return list(arguments)

    async def raises() -> None:
        raise ValueError("no")

    try:
        request.bridge.call_async(raises)
    except ValueError as error:
        return JsonResponse({"returned": request.bridge.call_async(returns, 1, 2), "raised": repr(error)})
    raise AssertionError("it did not raise")


urlpatterns = [path("interface", interface), path("calls", calls)]
