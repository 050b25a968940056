"""Django code that reads a request body on an event loop finds it there, however it has come to that loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import async_only_middleware
from django.views.decorators.csrf import csrf_exempt

from bridge import WsgiToAsgi
from bridge.django import get_asgi_application, get_wsgi_application, on_loop
from support import django_project, scripted_asgi_server
from support.django_clients import Asgi, Ask, Plain, Wsgi, portals_closed
from support.scripted_wsgi_server import Input, Served
from support.waiting import Flag

BODY = bytes(range(256)) * (12 * 1024)  # 3 MiB, more than what is kept in memory anywhere
FIRST = ["bridge.django.BridgeMiddleware", *django_project.MIDDLEWARE]


# --- views


entered = Flag()


async def _read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.read())


@csrf_exempt
def by_async_to_sync(request: HttpRequest) -> HttpResponse:
    entered.set()
    response: HttpResponse = async_to_sync(_read)(request)
    return response


@csrf_exempt
def by_call_async(request: Any) -> HttpResponse:
    entered.set()
    response: HttpResponse = request.bridge.call_async(_read, request)
    return response


@csrf_exempt
async def by_an_async_view(request: HttpRequest) -> HttpResponse:
    entered.set()
    return await _read(request)


@csrf_exempt
@on_loop
async def by_a_view_on_the_loop(request: HttpRequest) -> HttpResponse:
    return await _read(request)


@csrf_exempt
def by_an_async_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        while data := request.read(64 * 1024):
            yield data

    return StreamingHttpResponse(parts())


@csrf_exempt
def by_a_sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    """The code that reads is async. It may begin with the response, or once the client has got some of it."""

    async def read() -> bytes:
        return request.read(64 * 1024)

    def parts() -> Iterator[bytes]:
        while data := async_to_sync(read)():
            yield data

    return StreamingHttpResponse(parts())


async def quick(request: HttpRequest) -> HttpResponse:
    return HttpResponse("quick")


VIEWS = [by_async_to_sync, by_call_async, by_an_async_view, by_a_view_on_the_loop, by_an_async_stream, by_a_sync_stream]
urlpatterns = [*(path(view.__name__, view) for view in VIEWS), path("quick", quick)]
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)


@pytest.fixture(autouse=True)
def urls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """These views; what middleware opens is closed."""
    monkeypatch.setattr(f"{__name__}.entered", Flag())
    with portals_closed(monkeypatch), override_settings(ROOT_URLCONF=__name__):
        yield


FACES: dict[str, Callable[[], Asgi | Wsgi]] = {
    "asgi": lambda: Asgi(get_asgi_application(shutdown_timeout=2.0)),
    "wsgi": lambda: Wsgi(get_wsgi_application()),
    "WsgiToAsgi(bridge)": lambda: Asgi(WsgiToAsgi(get_wsgi_application(), shutdown_timeout=2.0)),
    "middleware, django asgi": lambda: Asgi(Plain(ASGIHandler()), djangos_own=True),
    "middleware, django wsgi": lambda: Wsgi(Plain(WSGIHandler())),
    "middleware, WsgiToAsgi(django)": lambda: Asgi(WsgiToAsgi(WSGIHandler(), shutdown_timeout=2.0)),
}


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Asgi | Wsgi]:
    """Each way in which a project is served."""
    with override_settings(MIDDLEWARE=FIRST if "middleware" in request.param else django_project.MIDDLEWARE):
        made = FACES[request.param]()
        yield made
        made.close()


PIECES = [BODY[at : at + 64 * 1024] for at in range(0, len(BODY), 64 * 1024)]


@each_view
def test_the_body_arrives_whole(face: Asgi | Wsgi, view: Any) -> None:
    """To the byte."""
    assert face.ask(f"/{view.__name__}", pieces=PIECES).body == BODY


@each_view
def test_with_something_around_the_view(face: Asgi | Wsgi, view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As agents do it, who wrap each view anew where Django makes it atomic."""
    original = BaseHandler.make_view_atomic

    def make_view_atomic(self: BaseHandler, given: Any) -> Any:
        made: Any = original(self, given)
        if not iscoroutinefunction(made):
            return made

        @wraps(made)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            return await made(*args, **kwargs)

        return watched

    monkeypatch.setattr(BaseHandler, "make_view_atomic", make_view_atomic)

    assert face.ask(f"/{view.__name__}", pieces=PIECES).body == BODY


@pytest.mark.parametrize("view", [by_async_to_sync, by_call_async, by_an_async_view], ids=lambda view: view.__name__)
@pytest.mark.parametrize("middleware", [False, True])
def test_a_slow_upload_does_not_hold_the_private_loop(view: Any, middleware: bool) -> None:
    """It is read in its server's thread, before async code begins: other async views are served meanwhile."""
    hold = Flag()
    with override_settings(MIDDLEWARE=FIRST if middleware else []):
        app: Any = Plain(WSGIHandler()) if middleware else get_wsgi_application()
        face = Wsgi(app)
        environ = Ask(f"/{view.__name__}", pieces=[b"slow"]).environ() | {"wsgi.input": Input(b"slow", hold=hold)}
        with Served(app, environ) as served:
            response = served.begin()
            if view is not by_an_async_view:
                entered.wait()
            assert face.ask("/quick").body == b"quick"
            hold.set()
            response()
            served.rest()
            served.close()
        face.close()

    assert served.body == b"slow"


def streamed_slowly(app: Any, path: str, *, meanwhile: str) -> tuple[bytes, bytes]:
    """What a stream gives whose upload comes only after `meanwhile` has been answered; and that answer."""
    hold = Flag()
    face = Wsgi(app)
    body = Input(b"slow", hold=hold)
    with Served(app, Ask(path, pieces=[b"slow"]).environ() | {"wsgi.input": body}) as served:
        served.call()
        part = served.begin_next()
        body.reading.wait()
        answer = face.ask(meanwhile).body
        hold.set()
        part()
        served.rest()
        served.close()
    face.close()
    return served.body, answer


@pytest.mark.parametrize("middleware", [False, True])
def test_a_slow_upload_does_not_hold_the_loop_of_a_stream(middleware: bool) -> None:
    """The same for async code that a sync stream calls."""
    with override_settings(MIDDLEWARE=FIRST if middleware else []):
        app = Plain(WSGIHandler()) if middleware else get_wsgi_application()
        assert streamed_slowly(app, "/by_a_sync_stream", meanwhile="/quick") == (b"slow", b"quick")


@async_only_middleware
def only_async(get_response: Any) -> Any:
    async def middleware(request: HttpRequest) -> Any:
        return await get_response(request)

    return middleware


@pytest.mark.parametrize("view", [by_an_async_stream, by_a_sync_stream], ids=lambda view: view.__name__)
def test_nor_below_async_middleware_alone(view: Any) -> None:
    """Django runs such a chain on a loop of its own, but the stream is made on the private one."""
    with override_settings(MIDDLEWARE=["bridge.django.BridgeMiddleware", f"{__name__}.only_async"]):
        bodies = streamed_slowly(Plain(WSGIHandler()), f"/{view.__name__}", meanwhile="/by_an_async_stream")
        assert bodies == (b"slow", b"")


@pytest.mark.parametrize("view", [by_async_to_sync, by_call_async], ids=lambda view: view.__name__)
def test_a_slow_upload_does_not_hold_the_servers_loop(view: Any) -> None:
    """As that, on an ASGI server."""
    face = Asgi(get_asgi_application(shutdown_timeout=2.0))
    scope, _ = Ask(f"/{view.__name__}", pieces=[BODY]).scope()
    half = len(BODY) // 2
    request = scripted_asgi_server.Request(
        face.app, scope, [scripted_asgi_server.piece_event(BODY[:half], more=True)], None
    )

    async def begin() -> Any:
        return asyncio.ensure_future(request.run())

    async def end() -> None:
        request.feed(scripted_asgi_server.piece_event(BODY[half:], more=False))
        await task

    task = face.run(begin())
    entered.wait()
    assert face.ask("/quick").body == b"quick"
    face.run(end())
    face.close()

    assert request.body == BODY
