"""`request.bridge`: what a view can ask of the server that it runs on."""

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path

from bridge.django._bridge import ServerBridge
from support.django_clients import Asgi, Wsgi
from support.patience import PATIENCE
from support.plain_servers import scope_for
from support.waiting import until

pytestmark = pytest.mark.usefixtures("bridged")


class TestRequestBridge:
    def test_interface(self, face: Asgi | Wsgi) -> None:
        """That of the server."""
        with override_settings(ROOT_URLCONF=__name__):
            assert {"interface": face.name, "left": False} == face.ask("/interface").json()

    def test_call_async_in_async_code(self) -> None:
        """Says what to do instead."""

        async def function() -> None: ...

        async def call() -> None:
            ServerBridge(HttpRequest(), None).call_async(function)  # type: ignore[arg-type]

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
                await server.wait(PATIENCE)

        asyncio.run(leave())


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
