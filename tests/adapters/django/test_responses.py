"""What becomes of a response and its request, on each of the three ways through `bridge.django`: in a worker thread, on
a WSGI server's thread, and on the loop.
"""

import asyncio
import contextlib
import contextvars
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import signals
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project  # noqa: F401  # sets Django up
from support.django_clients import Asgi, Wsgi
from support.waiting import Flag, until

Face = Asgi | Wsgi
Start = Callable[..., Face]
WAYS = ("thread", "wsgi", "loop")
seen: dict[str, Any] = {}
closing: contextvars.ContextVar[str] = contextvars.ContextVar("closing", default="unset")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(way: str) -> Iterator[Start]:
    """Starts a server with the views of this module; `settings` are those of Django for the time being."""
    seen.clear()
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Face:
            chain = "bridge.django.BridgeMiddleware" if way == "loop" else "support.django_project.thread_middleware"
            stack.enter_context(override_settings(ROOT_URLCONF=urlpatterns, MIDDLEWARE=[chain], **settings))
            face: Face = (
                Wsgi(get_wsgi_application()) if way == "wsgi" else Asgi(get_asgi_application(shutdown_timeout=2.0))
            )
            stack.callback(face.close)
            return face

        yield start


@pytest.fixture
def face(start: Start) -> Face:
    return start()


@pytest.fixture
def finished() -> Iterator[list[str]]:
    """What a receiver of `request_finished` has seen of the context of the request."""
    found: list[str] = []

    def finish(**_: Any) -> None:
        found.append(closing.get())

    signals.request_finished.connect(finish)
    yield found
    signals.request_finished.disconnect(finish)


class TestClose:
    def test_a_response_that_the_server_refuses(self, face: Face, finished: list[str]) -> None:
        """Is closed as well: its files are, and `request_finished` is sent."""
        reply = face.ask("/refused")
        until(lambda: finished)

        assert reply.error is not None or reply.status == 500 or isinstance(face, Wsgi)
        assert ["closed"] == seen["closed"]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("kind", ["whole", "file", "stream", "async_stream"])
    def test_in_the_context_of_its_request(self, face: Face, finished: list[str], kind: str, method: str) -> None:
        """Whatever the view has set is there for the receivers of `request_finished`."""
        assert 200 == face.ask(f"/closing/{kind}", method=method).status
        until(lambda: finished)

        assert [kind] == finished

    def test_the_client_does_not_wait_for_it(self, face: Face) -> None:
        """A project may do work in `close()`, after the response."""
        if isinstance(face, Wsgi):
            return  # the server calls close(), after it has sent the response
        seen["go on"] = Flag()
        with face.open("/late") as opened:
            assert b"here" == opened.next()
            seen["go on"].set()
        until(lambda: "late" in seen)
        assert seen["late"] != face._thread.ident

    def test_one_that_raises(self, face: Face, caplog: pytest.LogCaptureFixture) -> None:
        """The client has its response; the log tells."""
        if isinstance(face, Wsgi):
            return
        reply = face.ask("/breaks_closing")
        until(lambda: "close failed" in caplog.text)

        assert (200, b"here") == (reply.status, reply.body)


class TestRequest:
    def test_an_attribute_of_the_project(self, face: Face) -> None:
        """`request.portal` is the project's to use."""
        assert b"mine" == face.ask("/portal").body

    def test_the_file_of_a_body_is_closed(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """Though the view has failed to make a response."""
        if isinstance(face := start(FILE_UPLOAD_MAX_MEMORY_SIZE=1000, DATA_UPLOAD_MAX_MEMORY_SIZE=None), Wsgi):
            return  # its client is the test's, and does not leave
        seen["waits"] = Flag()
        with face.open("/waits", pieces=[b"x" * 300_000]) as opened:
            seen["waits"].wait()
            opened.leave()
        until(lambda: "cancelled" in seen)
        until(lambda: seen["input"].closed)


def test_async_render(face: Face, way: str) -> None:
    """A response that an async view returns may be rendered by async code."""
    assert (200, b"rendered") == ((reply := face.ask("/async_render")).status, reply.body)


def refused(request: Any) -> HttpResponse:
    response = HttpResponse(b"x", headers={"X Y": "no name of a header"})
    response._resource_closers.append(lambda: seen.setdefault("closed", []).append("closed"))  # type: ignore[attr-defined]
    return response


async def async_refused(request: Any) -> HttpResponse:
    return refused(request)


async def closing_view(request: Any, kind: str) -> Any:
    closing.set(kind)

    async def parts() -> Any:
        yield b"part"

    if kind == "whole":
        return HttpResponse(b"whole")
    if kind == "file":
        return FileResponse(io.BytesIO(b"file"))
    return StreamingHttpResponse(parts() if kind == "async_stream" else iter([b"part"]))


class LateResponse(HttpResponse):
    """Does some work once the client has the response."""

    def close(self) -> None:
        super().close()
        seen["go on"].wait()
        seen["late"] = threading.get_ident()


class BreakingResponse(HttpResponse):
    def close(self) -> None:
        super().close()
        raise OSError("close failed")


async def late(request: Any) -> HttpResponse:
    return LateResponse(b"here")


async def breaks_closing(request: Any) -> HttpResponse:
    return BreakingResponse(b"here")


async def portal(request: Any) -> HttpResponse:
    request.portal = "mine"
    assert request.bridge.interface in ("asgi", "wsgi")

    async def found() -> str:
        return "mine"

    return HttpResponse(await asyncio.to_thread(request.bridge.call_async, found))


@csrf_exempt
async def waits(request: Any) -> HttpResponse:
    seen["input"] = request._input
    seen["waits"].set()
    try:
        await asyncio.Event().wait()
    finally:
        seen["cancelled"] = True
    return HttpResponse()


class Rendered(TemplateResponse):
    async def render(self) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        self.content = b"rendered"
        return self


async def async_render(request: Any) -> HttpResponse:
    return Rendered(request, engines["django"].from_string(""))


urlpatterns = (
    path("refused", async_refused),
    path("closing/<kind>", closing_view),
    path("late", late),
    path("breaks_closing", breaks_closing),
    path("portal", portal),
    path("waits", waits),
    path("async_render", async_render),
)
