"""All steps of a sync stream run in one context, wherever they run: what a step has set can be reset in another. And
async code that they call runs on one loop.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from bridge._asgi_to_wsgi import Portal
from bridge.django import get_asgi_application, get_wsgi_application, on_loop
from support import django_project
from support.django_clients import Asgi, Plain, Wsgi, portals_closed
from support.plain_servers import scope_for
from support.waiting import PATIENCE, until

variable: contextvars.ContextVar[str] = contextvars.ContextVar("stream_contexts", default="unset")
outcomes: list[str] = []
loops: list[asyncio.AbstractEventLoop] = []


def _parts(number: int) -> Iterator[str]:
    token = variable.set("set")
    try:
        for _ in range(number):
            yield variable.get()
    finally:
        try:
            variable.reset(token)
            outcomes.append("reset")
        except ValueError as error:
            outcomes.append(str(error))


def sync_view(request: HttpRequest, number: int) -> StreamingHttpResponse:
    return StreamingHttpResponse(_parts(number))


async def async_view(request: HttpRequest, number: int) -> StreamingHttpResponse:
    return StreamingHttpResponse(_parts(number))


@on_loop
async def view_on_the_loop(request: HttpRequest, number: int) -> StreamingHttpResponse:
    return StreamingHttpResponse(_parts(number))


class Parts:
    """An iterator whose `close()` gives something back, which must not be done twice."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._left -= 1
        if self._left < 0:
            raise StopIteration
        return "part"

    def close(self) -> None:
        outcomes.append("closed")


def sync_iterator(request: HttpRequest, number: int) -> StreamingHttpResponse:
    return StreamingHttpResponse(Parts(number))


@on_loop
async def iterator_on_the_loop(request: HttpRequest, number: int) -> StreamingHttpResponse:
    return StreamingHttpResponse(Parts(number))


async def _note_loop() -> None:
    loops.append(asyncio.get_running_loop())


def calls_async_code(request: HttpRequest, number: int) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        try:
            for _ in range(number):
                async_to_sync(_note_loop)()
                yield "part"
        finally:
            async_to_sync(_note_loop)()
            outcomes.append("ended")

    async_to_sync(_note_loop)()
    return FileResponse(parts()) if "as_file" in request.GET else StreamingHttpResponse(parts())


def whole_response(request: HttpRequest, number: int) -> HttpResponse:
    async_to_sync(_note_loop)()
    return HttpResponse("whole")


async def async_stream(request: HttpRequest, number: int) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        yield "part"

    await _note_loop()
    return StreamingHttpResponse(parts())


VIEWS: list[Any] = [sync_view, async_view, view_on_the_loop]
ITERATORS: list[Any] = [sync_iterator, iterator_on_the_loop]
SHARED = HttpResponse("shared")


def shared_response(request: HttpRequest, number: int) -> HttpResponse:
    return SHARED


OTHERS: list[Any] = [calls_async_code, whole_response, shared_response, async_stream]
urlpatterns = [path(f"{view.__name__}/<int:number>", view) for view in [*VIEWS, *ITERATORS, *OTHERS]]


@pytest.fixture(params=["asgi", "asgi, all async", "wsgi", "middleware under Django's ASGI handler"])
def face(request: pytest.FixtureRequest) -> Iterator[Asgi | Wsgi]:
    """Each way to such a stream."""
    outcomes.clear()
    chain = {"asgi": django_project.MIDDLEWARE, "wsgi": django_project.MIDDLEWARE, "asgi, all async": []}
    with override_settings(
        ROOT_URLCONF=__name__, MIDDLEWARE=chain.get(request.param, ["bridge.django.BridgeMiddleware"])
    ):
        made: Asgi | Wsgi
        if request.param == "wsgi":
            made = Wsgi(get_wsgi_application())
        elif "middleware" in request.param:
            made = Asgi(Plain(ASGIHandler()), djangos_own=True)
        else:
            made = Asgi(get_asgi_application(shutdown_timeout=2.0))
        yield made
        made.close()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_to_its_end(face: Asgi | Wsgi, view: Any) -> None:
    """What the first step has set, the others see."""
    assert face.ask(f"/{view.__name__}/3").body == b"set" * 3
    assert outcomes == ["reset"]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_left_in_the_middle(face: Asgi | Wsgi, view: Any) -> None:
    """The end of a stream whose client has left is a step as well."""
    with face.open(f"/{view.__name__}/1000000") as opened:
        assert opened.next()
        opened.leave()
        until(lambda: outcomes)
    assert outcomes == ["reset"]


@pytest.mark.parametrize("view", ITERATORS, ids=lambda view: view.__name__)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "left"])
def test_an_iterator_is_closed_once(face: Asgi | Wsgi, view: Any, whole: bool) -> None:
    """By the stream, or by the response."""
    if whole:
        assert face.ask(f"/{view.__name__}/3").body == b"part" * 3
    else:
        with face.open(f"/{view.__name__}/1000000") as opened:
            assert opened.next()
            opened.leave()
    until(lambda: outcomes)
    assert outcomes == ["closed"]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "left"])
@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "application"])
@pytest.mark.parametrize("query", ["", "?as_file"])
def test_its_async_code_runs_on_one_loop(
    middleware: bool, whole: bool, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the view, on a WSGI server. A pool of connections belongs to one loop."""
    outcomes.clear()
    loops.clear()
    chain = ["bridge.django.BridgeMiddleware"] if middleware else []
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=chain), portals_closed(monkeypatch):
        server = Wsgi(Plain(WSGIHandler()) if middleware else get_wsgi_application())
        if whole:
            assert server.ask(f"/calls_async_code/3{query}").body == b"part" * 3
        else:
            with server.open(f"/calls_async_code/1000000{query}") as opened:
                assert opened.next()
        server.close()
    assert outcomes == ["ended"]
    assert len(loops) == (5 if whole else 3)
    assert len(set(loops)) == 1


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "application"])
@pytest.mark.parametrize("view", [whole_response, calls_async_code, async_stream], ids=lambda view: view.__name__)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_async_code_at_the_end_of_the_request_runs_on_that_loop(
    middleware: bool, view: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver of `request_finished` may give back what belongs to the loop."""
    loops.clear()
    ended: list[asyncio.AbstractEventLoop] = []

    async def receiver(**_: Any) -> None:
        ended.append(asyncio.get_running_loop())

    chain = ["bridge.django.BridgeMiddleware"] if middleware else []
    request_finished.connect(receiver)
    try:
        with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=chain), portals_closed(monkeypatch):
            server = Wsgi(Plain(WSGIHandler()) if middleware else get_wsgi_application())
            for _ in range(2):
                server.ask(f"/{view.__name__}/1", method=method)
            server.close()
    finally:
        request_finished.disconnect(receiver)
    assert len(ended) == 2
    assert len({*loops, *ended}) == 1


@pytest.fixture
def ended() -> Iterator[list[object]]:
    """What an async receiver of `request_finished` has seen."""
    seen: list[object] = []

    async def receiver(sender: object, **_: Any) -> None:
        seen.append(sender)

    request_finished.connect(receiver)
    yield seen
    request_finished.disconnect(receiver)


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "application"])
def test_a_view_may_give_the_same_response_to_many_requests(
    middleware: bool, ended: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    install = Portal.install

    def counted(portal: Portal) -> Any:
        calls.append(portal)
        return install(portal)

    chain = ["bridge.django.BridgeMiddleware"] if middleware else []
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=chain), portals_closed(monkeypatch):
        server = Wsgi(Plain(WSGIHandler()) if middleware else get_wsgi_application())
        monkeypatch.setattr(Portal, "install", counted)
        steps = []
        for _ in range(3):
            calls.clear()
            server.ask("/shared_response/1")
            steps.append(len(calls))
        server.close()
    assert len(ended) == 3
    assert steps == [steps[0]] * 3


def test_a_cache_may_keep_the_response(ended: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """That of Django is often the first in MIDDLEWARE, before `BridgeMiddleware`."""
    chain = ["django.middleware.cache.UpdateCacheMiddleware", "bridge.django.BridgeMiddleware"]
    chain.append("django.middleware.cache.FetchFromCacheMiddleware")
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}
    settings = override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=chain, CACHES=caches)
    with settings, portals_closed(monkeypatch):
        server = Wsgi(Plain(WSGIHandler()))
        loops.clear()
        assert [b"whole"] * 3 == [server.ask("/whole_response/1").body for _ in range(3)]
        server.close()
    assert len(loops) == 1
    assert len(ended) == 3


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_left_while_a_part_is_sent(view: Any) -> None:
    """Django's ASGI handler then closes the response, and not the stream."""
    outcomes.clear()

    async def serve() -> None:
        sending, left = asyncio.Event(), asyncio.Event()
        events = [{"type": "http.request"}]

        async def receive() -> dict[str, Any]:
            if events:
                return events.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(event: Mapping[str, Any]) -> None:
            if event["type"] == "http.response.body":
                sending.set()
                await asyncio.Event().wait()

        request = asyncio.ensure_future(ASGIHandler()(scope_for("GET", f"/{view.__name__}/3", []), receive, send))
        async with asyncio.timeout(PATIENCE):
            await sending.wait()
            left.set()
            await request

    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=["bridge.django.BridgeMiddleware"]):
        asyncio.run(serve())
    assert outcomes == ["reset"]
