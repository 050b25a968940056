"""`BridgeMiddleware`, for a project that keeps Django's own entry points."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from bridge._asgi_to_wsgi import Portal
from bridge._concurrency.jobs import current
from bridge._concurrency.pool import at_end
from bridge.django import _hops, _settings, _streams
from bridge.django._bridge import ServerBridge
from bridge.django._request import Input, Request, bring_body_of


class BridgeMiddleware:
    """Streams of both kinds on both interfaces, one event loop for async code under WSGI, and `request.bridge`.

    Put it first in `settings.MIDDLEWARE`, so that it sees the final response. It is sync- and async-capable. It works
    under Django's own handlers, `runserver`, the test clients and the handlers of this package. Raises
    `ImproperlyConfigured` for a wrong `settings.BRIDGE`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        settings = _settings.read()
        self._portal = Portal.of(settings.loop_factory)
        self._timing = settings.server_timing
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)
        if self._timing:
            _hops.install()
        # Our threads may run Django's own handlers, and what their async code does after the response. As in `Handler`.
        at_end.add(connections.close_all)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Django's middleware protocol."""
        bridge = self._introduce(request)
        if self._async:
            return self._acall(request, bridge)
        hops = _hops.begin(_crossed(request)) if self._timing else None
        installed = self._portal.install()
        brought: list[Input] = []
        bring = partial(_bring, request, brought)
        if type(request) is WSGIRequest:
            self._portal.prepare(bring)
        try:
            response: HttpResponseBase = self._get_response(request)
            if response.streaming and _streams.is_async(response):
                bring()  # the stream may read it, on the loop
        finally:
            self._portal.uninstall(installed)
        self._finish(request, response, bridge, hops, brought)
        return response

    async def _acall(self, request: HttpRequest, bridge: ServerBridge) -> HttpResponseBase:
        hops = _hops.begin() if self._timing else None
        try:
            response: HttpResponseBase = await self._get_response(request)
        except asyncio.CancelledError:
            bridge.cancelled = True  # for sync code of the request, which goes on in its thread
            raise
        self._finish(request, response, bridge, hops, [])
        return response

    def _introduce(self, request: HttpRequest) -> ServerBridge:
        if isinstance(request, Request):
            return request.bridge
        bridge = ServerBridge(request, self._portal)
        introduced: Any = request
        introduced.bridge = bridge
        return bridge

    def _finish(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        bridge: ServerBridge,
        hops: _hops.Hops | None,
        brought: list[Input],
    ) -> None:
        # The handlers of this package accept streams of both kinds.
        if response.streaming and not isinstance(request, Request):
            self._match(response, bridge, partial(_bring, request, brought), is_async_wanted=_is_for_a_loop(request))
        if type(request) is WSGIRequest:
            _streams.end_like_the_view(response, self._portal)
            if brought or response.streaming:
                # Last, because the end of a stream may read it. What a stream itself brings is not there yet.
                closing: Any = response
                closing._resource_closers.append(partial(_close_all, brought))
        if hops is not None:
            before = response.headers.get("Server-Timing")
            response.headers["Server-Timing"] = f"{before}, {hops.header()}" if before else hops.header()

    def _match(self, response: Any, bridge: ServerBridge, bring: Callable[[], None], *, is_async_wanted: bool) -> None:
        """Give the response an iterator of the kind that Django's handler does not read to the end before it sends. Its
        steps find the same loop as the view.
        """
        if not hasattr(response, "_iterator"):
            return  # of the project's own kind: it has no content that could be replaced
        is_async = _streams.is_async(response)
        if is_async_wanted and not is_async:
            response.streaming_content = _streams.on_loop(response, content=True)
        elif is_async and not is_async_wanted:
            response.streaming_content = _streams.in_thread(response, self._portal, bridge.environ, bring)
        elif not (is_async or _streams.is_file(response)):
            _streams.like_the_view(response, self._portal, bring)


def _bring(request: HttpRequest, brought: list[Input]) -> None:
    """Receive the body of a request of Django's WSGI handler, and note what has to be closed."""
    if type(request) is WSGIRequest and (body := bring_body_of(request)) is not None:
        brought.append(body)


def _close_all(bodies: list[Input]) -> None:
    for body in bodies:
        body.close()


def _is_for_a_loop(request: HttpRequest) -> bool:
    """Whether it is a request of Django's ASGI handler, or of its async test client."""
    return not isinstance(request, Request) and hasattr(request, "scope")


def _crossed(request: HttpRequest) -> int:
    """The hops to this thread and back, if it is a thread of a pool, or of asgiref under Django's ASGI handler."""
    return 2 if current.thread is not None or _is_for_a_loop(request) else 0
