"""What type checkers make of `request.bridge`, with django-stubs. Never executed: mypy and pyright read it.

A line with an ignored error is one that has to be an error.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar, assert_type, cast

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views import View

from bridge.django import Bridge, BridgeRequest, on_loop

R = TypeVar("R")


async def count(word: str) -> int:
    return len(word)


def view(request: BridgeRequest) -> HttpResponse:
    """A view may ask for it, and has all of Django's request beside."""
    assert_type(request.bridge, Bridge)
    assert_type(request.bridge.interface, Literal["asgi", "wsgi"])
    assert_type(request.bridge.call_async(count, "word"), int)
    assert_type(request.bridge.client_disconnected(), bool)
    assert_type(request.method, str | None)
    print(request.bridge.call_sync)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    request.bridge.interface = "wsgi"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    return HttpResponse()


@on_loop
async def waits(request: BridgeRequest) -> HttpResponse:
    return HttpResponse(str(request.bridge.client_disconnected()))


class Page(View):
    def get(self, request: BridgeRequest) -> HttpResponse:
        return HttpResponse(request.bridge.interface)


kept: Callable[[BridgeRequest], Coroutine[Any, Any, HttpResponse]] = waits
urlpatterns = [path("a", view), path("b", waits), path("c", Page.as_view()), path("d", login_required(Page.as_view()))]


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """What has Django's request only says what it knows."""

    def respond(request: HttpRequest) -> HttpResponse:
        if cast(BridgeRequest, request).bridge.interface == "asgi":
            return HttpResponse()
        return get_response(request)

    return respond


class StandIn:
    """What a test gives in place of a server."""

    interface: Literal["asgi", "wsgi"] = "wsgi"

    def call_async(self, function: Callable[..., Coroutine[Any, Any, R]], /, *args: Any, **kwargs: Any) -> R:
        raise AssertionError

    def client_disconnected(self) -> bool:
        return True


stand_in: Bridge = StandIn()
wrong: Bridge = object()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
