"""Middleware that is sync, async or both, in any order, around views of either kind; each way through the package."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core import signals
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project
from support.django_clients import Asgi, Wsgi
from support.waiting import Flag, until

Face = Asgi | Wsgi
variable: contextvars.ContextVar[str] = contextvars.ContextVar("chains", default="unset")
seen: dict[str, Any] = {}


def _on_the_way_out(response: Any) -> Any:
    response.headers["X-Seen"] = variable.get()
    return response


class Sync:
    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        variable.set("middleware")
        return _on_the_way_out(self._get_response(request))

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return HttpResponse("caught") if "caught" in request.path else None


class Async:
    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        variable.set("middleware")
        return _on_the_way_out(await self._get_response(request))

    async def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        await asyncio.sleep(0)
        variable.set(f"{variable.get()}, hook")

    async def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        await asyncio.sleep(0)
        return HttpResponse("caught") if "caught" in request.path else None


class Both(Sync):
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self._acall(request) if iscoroutinefunction(self) else super().__call__(request)

    async def _acall(self, request: HttpRequest) -> Any:
        variable.set("middleware")
        return _on_the_way_out(await self._get_response(request))


CHAINS: dict[str, tuple[type, ...]] = {
    "sync": (Sync,),
    "async": (Async,),
    "both": (Both,),
    "sync async both sync": (Sync, Async, Both, Sync),
    "async sync async": (Async, Sync, Async),
}


@pytest.fixture(params=["thread", "wsgi", "loop"])
def face(
    request: pytest.FixtureRequest, chain: str, finished: list[int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Face]:
    """A server with the chain around the views of this module; on "loop" with the async ones on the loop."""
    seen.clear()
    for kind in (Sync, Async, Both):
        monkeypatch.setattr(django_project, kind.__name__, kind, raising=False)
    named = [f"{view.__module__}.{view.__name__}" for view in VIEWS if iscoroutinefunction(view)]
    settings = {
        "ROOT_URLCONF": urlpatterns,
        "MIDDLEWARE": [f"support.django_project.{kind.__name__}" for kind in CHAINS[chain]],
        "BRIDGE": {"ON_LOOP": named if request.param == "loop" else []},
    }
    with override_settings(**settings):
        made: Face = (
            Wsgi(get_wsgi_application())
            if request.param == "wsgi"
            else Asgi(get_asgi_application(threads=2, shutdown_timeout=2.0))
        )
        yield made
        made.close()


@pytest.fixture
def finished() -> Iterator[list[int]]:
    """The threads in which a request was finished."""
    threads: list[int] = []

    def finish(**_: Any) -> None:
        threads.append(threading.get_ident())

    signals.request_finished.connect(finish)
    yield threads
    signals.request_finished.disconnect(finish)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("prefix", ["", "async_"])
class TestEachChain:
    def test_context_variables(self, face: Face, chain: str, prefix: str) -> None:
        """What middleware and hooks set is seen by the view, and what the view sets by the middleware."""
        reply = face.ask(f"/{prefix}variables")

        assert reply.body.startswith(b"middleware")
        # The hook of the innermost middleware is the last to be called before the view.
        assert reply.body.endswith(b", hook") == (Async in CHAINS[chain])
        assert "view" == reply.header("x-seen")

    def test_errors(self, face: Face, chain: str, prefix: str, finished: list[int]) -> None:
        """Become responses, by Django or by `process_exception`; each request is finished once."""
        assert 500 == face.ask(f"/{prefix}fails").status
        assert 500 == face.ask(f"/{prefix}returns_nothing").status
        assert b"caught" == face.ask(f"/{prefix}is_caught").body
        until(lambda: 3 == len(finished))

    def test_a_stream_that_fails_at_once(self, face: Face, chain: str, prefix: str, finished: list[int]) -> None:
        """The server sees its error."""
        assert isinstance(face.ask(f"/{prefix}fails_in_its_stream").error, ValueError)
        until(lambda: finished)

    def test_one_thread_for_what_is_sensitive(self, face: Face, chain: str, prefix: str) -> None:
        """Also from async code that sync code has called, and from many tasks at once."""
        assert {"threads": 1} == face.ask(f"/{prefix}sensitive").json()


@pytest.mark.parametrize("chain", ["sync"])
def test_a_transaction_is_rolled_back_when_the_client_leaves(face: Face, finished: list[int]) -> None:
    """Sync code that waits for async code is interrupted as by any exception."""
    if isinstance(face, Wsgi):
        return  # its client is the test's, and does not leave
    seen["waits"] = Flag()
    with face.open("/waits_in_a_transaction") as opened:
        seen["waits"].wait()
        opened.leave()
    until(lambda: finished)
    assert "asyncio.exceptions.CancelledError" in seen["raised"]
    assert [] == seen["on commit"]


def variables(request: HttpRequest) -> HttpResponse:
    before = variable.get()
    variable.set("view")
    return HttpResponse(before)


async def async_variables(request: HttpRequest) -> HttpResponse:
    before = variable.get()
    assert before == await sync_to_async(variable.get)()
    await sync_to_async(variable.set)("view")
    return HttpResponse(before)


def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("no")


async def async_fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("no")


def returns_nothing(request: HttpRequest) -> None: ...


async def async_returns_nothing(request: HttpRequest) -> None: ...


def fails_in_its_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        raise ValueError("no")
        yield b""

    return StreamingHttpResponse(parts())


async def async_fails_in_its_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> Any:
        raise ValueError("no")
        yield b""

    return StreamingHttpResponse(parts())


async def _several() -> list[int]:
    return await asyncio.gather(*(sync_to_async(threading.get_ident)() for _ in range(10)))


def sensitive(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"threads": len({threading.get_ident(), *async_to_sync(_several)()})})


async def async_sensitive(request: HttpRequest) -> JsonResponse:
    inner = await sync_to_async(async_to_sync(_several))()
    return JsonResponse({"threads": len({*inner, *await _several()})})


def waits_in_a_transaction(request: Any) -> HttpResponse:
    async def waits() -> None:
        seen["waits"].set()
        await asyncio.Event().wait()

    seen["on commit"] = []
    try:
        with transaction.atomic():
            transaction.on_commit(lambda: seen["on commit"].append("committed"))
            request.bridge.call_async(waits)
    except BaseException as error:
        seen["raised"] = f"{type(error).__module__}.{type(error).__qualname__}"
        raise
    return HttpResponse()


VIEWS: tuple[Callable[..., Any], ...] = (
    *(variables, async_variables, fails, async_fails, returns_nothing, async_returns_nothing, fails_in_its_stream),
    *(async_fails_in_its_stream, sensitive, async_sensitive, waits_in_a_transaction),
)
urlpatterns = (
    *(path(view.__name__, view) for view in VIEWS),
    path("is_caught", fails),
    path("async_is_caught", async_fails),
)
