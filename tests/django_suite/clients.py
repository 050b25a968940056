"""What stands in for the way in of Django's test clients.

Each request of the sync client is a whole WSGI conversation with the handler, each of the async one a whole ASGI
conversation with the application. What was sent is compared with the response that the test then sees.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import django.test.client
from asgiref.sync import sync_to_async
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections
from django.test.client import conditional_content_removal

from bridge.django._handler import headers as headers_of
from bridge.django._loop_handler import LoopHandler
from django_suite.handlers import Application, WSGIHandler, specified


@contextmanager
def _connections_kept() -> Iterator[None]:
    """The end of a request does not close the connection that the test works with; as in Django's own clients."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in signals:
            signal.connect(close_old_connections)


class ClientHandler(WSGIHandler):
    """The way in of the sync test client."""

    _made: Any
    _begun = False

    def __init__(self, enforce_csrf_checks: bool = True) -> None:
        self.enforce_csrf_checks = enforce_csrf_checks
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        """Not before the first request: clients are made before the settings of their test."""
        if self._begun:
            super().load_middleware(is_async)

    def __call__(self, environ: Any) -> Any:  # type: ignore[override]
        if not self._begun:
            self._begun = True
            self.load_middleware()
        heads: list[Any] = []
        with _connections_kept():
            body = super().__call__(environ, lambda status, headers: heads.append((status, headers)))
            response = self._made
            _compare(heads, [(f"{response.status_code} {response.reason_phrase}", headers_of(response))])
            if response.streaming:
                return _streaming(response, _Chunks(body))
            _compare(b"".join(body), response.content)
            body.close()
        return response

    def get_response(self, request: Any) -> Any:
        request._dont_enforce_csrf_checks = not self.enforce_csrf_checks
        self._made = response = super().get_response(request)
        conditional_content_removal(request, response)
        response.wsgi_request = request
        return response


def _streaming(response: Any, chunks: Any) -> Any:
    """The response as its client gets it; the one that the view made is still being sent."""
    seen = copy.copy(response)
    seen._resource_closers = []
    seen.streaming_content = chunks
    seen.close = getattr(chunks, "close", lambda: None)
    return seen


class _Chunks:
    """The chunks of a WSGI response, which is closed at their end, or before."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._chunks = iter(body)
        self._closed = False

    def __iter__(self) -> "_Chunks":
        return self

    def __next__(self) -> bytes:
        try:
            chunk: bytes = next(self._chunks)
        except BaseException:
            self.close()
            raise
        return chunk

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with _connections_kept():
                self._body.close()


def _compare(sent: object, made: object) -> None:
    if sent != made:
        raise AssertionError(f"bridge sent {sent!r:.500}, where the response was {made!r:.500}")


class _Kept:
    """For the async client: keeps the response in the conversation that it is part of."""

    def get_response(self, request: Any) -> Any:
        conversation = Conversation.of(request)
        conversation.response = response = super().get_response(request)  # type: ignore[misc]
        return response

    async def get_response_async(self, request: Any) -> Any:
        conversation = Conversation.of(request)
        conversation.response = response = await super().get_response_async(request)  # type: ignore[misc]
        return response


class _KeptHandler(_Kept, WSGIHandler):
    """The chain in a thread."""


class _KeptLoopHandler(_Kept, LoopHandler):
    """The chain on the loop."""


class AsyncClientHandler:
    """The way in of the async test client."""

    _application: Application | None = None

    def __init__(self, enforce_csrf_checks: bool = True) -> None:
        self.enforce_csrf_checks = enforce_csrf_checks

    async def __call__(self, scope: Any) -> Any:
        if self._application is None:
            self._application = Application(_KeptHandler(), _KeptLoopHandler)
        body = scope.pop("_body_file", None)
        async with _connections_shared():
            conversation = Conversation(body.read() if body else b"", self.enforce_csrf_checks)
            return await conversation.hold(self._application, {**specified(scope), "django_suite": conversation})


@asynccontextmanager
async def _connections_shared() -> AsyncIterator[None]:
    """All threads use the test's own database connections, as with Django's LiveServerTestCase."""

    def take() -> dict[str, Any]:
        return {alias: connections[alias] for alias in connections}

    shared = await sync_to_async(take)()
    before = connections._connections
    connections._connections = SimpleNamespace(**shared)
    for connection in shared.values():
        connection.inc_thread_sharing()
    try:
        with _connections_kept():
            yield
    finally:
        connections._connections = before
        for connection in shared.values():
            connection.dec_thread_sharing()


class Conversation:
    """One request, as an ASGI server and its client see it."""

    request: Any = None
    response: Any = None

    def __init__(self, body: bytes, enforce_csrf_checks: bool) -> None:
        half = len(body) // 2
        self._request = [
            {"type": "http.request", "body": body[half:], "more_body": False},
            {"type": "http.request", "body": body[:half], "more_body": True},
        ]
        self.enforce_csrf_checks = enforce_csrf_checks
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._left = asyncio.Event()

    @staticmethod
    def of(request: Any) -> "Conversation":
        """The one that a request is part of."""
        conversation: Conversation = request.scope["django_suite"]
        conversation.request = request
        request._dont_enforce_csrf_checks = not conversation.enforce_csrf_checks
        return conversation

    async def hold(self, application: Any, scope: Any) -> Any:
        """The response, once its head was sent; where it does not stream, once all is over."""
        task = asyncio.create_task(application(scope, self._receive, self._events.put))
        task.add_done_callback(lambda _: self._events.put_nowait(None))
        start = await self._events.get()
        if start is None:
            await task
            raise AssertionError("the application returned without a response")
        response = self.response
        if response is None:
            raise AssertionError(f"bridge has refused the request: {start}")
        response.asgi_request = self.request
        _compare((start["status"], _sorted(start["headers"])), (response.status_code, _sorted(headers_of(response))))
        if response.streaming:
            return _streaming(response, self._stream(task))
        content = b"".join([chunk async for chunk in self._stream(task)])
        conditional_content_removal(self.request, response)
        _compare(content, response.content)
        return response

    async def _receive(self) -> Any:
        if self._request:
            return self._request.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _stream(self, task: "asyncio.Task[None]") -> AsyncIterator[bytes]:
        try:
            while (event := await self._events.get()) is not None:
                if event.get("body"):
                    yield event["body"]
        finally:
            self._left.set()
            await task


def _sorted(headers: Any) -> list[tuple[str, str]]:
    pairs = ((_text(name).lower(), _text(value)) for name, value in headers)
    return sorted(pair for pair in pairs if pair[0] != "content-length")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def put_in_place() -> None:
    """From here on, Django's test clients go this way."""
    django.test.client.ClientHandler = ClientHandler  # type: ignore[assignment,misc]
    django.test.client.AsyncClientHandler = AsyncClientHandler  # type: ignore[assignment,misc]
