"""Django's chain of middleware and view, in the thread of its request. Async views run on the loop from there."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any, Final, cast

from asgiref.sync import iscoroutinefunction
from django.core import signals
from django.core.handlers.wsgi import WSGIHandler, get_script_name
from django.db import close_old_connections, connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from bridge._asgi_to_wsgi import Portal
from bridge._concurrency.pool import at_end
from bridge._servers.connection import Connection
from bridge._types import Environ, StartResponse
from bridge._wsgi_to_asgi import AsyncBody
from bridge.django import _hops, _signals
from bridge.django._agents import GET_RESPONSE_ASYNC, AsyncFace, WsgiCall, make_request
from bridge.django._isolation import Nothing, find_caches, keep_caches, leave_caches
from bridge.django._request import Request
from bridge.django._streams import async_parts, end_like_the_view, is_async, is_file, like_the_view
from bridge.errors import ClientDisconnected

_log = logging.getLogger("bridge")

# Django's own block size is 4 KiB, so a large file has very many blocks.
BLOCK_BYTES: Final = 64 * 1024


class Handler(WSGIHandler):
    """A WSGI application like Django's own, for both kinds of server.

    Middleware, signals and sync views run in the thread that calls it. Async views and streams run on the loop that
    `portal` finds for this thread. Thread-sensitive code that they call runs in this thread again.
    """

    request_class = Request

    def __init__(self, portal: Portal, *, on_asgi: bool = False) -> None:
        self.portal = portal
        self._on_asgi = on_asgi
        # How each view of the URLconf is called. Looking this up is faster than inspecting the view. Two threads may
        # inspect a view at once, with the same result.
        self._views: dict[Callable[..., Any], Callable[..., Any]] = {}
        # The connections of a thread that ends because it had nothing to do. They have to be closed, not only dropped.
        at_end.add(connections.close_all)
        super().__init__()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        """Serve one request (PEP 3333). Returns the iterable of the body."""
        find_caches()
        set_script_prefix(get_script_name(environ))
        installed = self.portal.install()
        try:
            response = self._respond(environ)
        except BaseException as error:
            # There is no response whose close() would do this. Django's ASGI handler does the same.
            signals.request_finished.send(sender=self.__class__)
            if isinstance(error, asyncio.CancelledError):
                # A CancelledError, so that Django's middleware does not turn it into a response. But that would end a
                # worker of the server.
                left = "the client left before the request was over"
                raise Connection(environ).departure(left, begun=False) from None
            raise
        finally:
            keep_caches()
            self.portal.uninstall(installed)
        try:
            start_response(f"{response.status_code} {response.reason_phrase}", headers(response))
            return self._body(response, environ)
        except BaseException:
            response.close()  # it does not reach the server, which would do it
            raise

    def call_watched(self, watched: WsgiCall, call: Callable[..., Any]) -> Any:
        """Like `__call__`, through `call`: Django's own, and what others have put around it."""
        find_caches()
        installed = self.portal.install()
        try:
            return watched.run(call)
        finally:
            keep_caches()
            self.portal.uninstall(installed)

    def _respond(self, environ: Environ) -> Any:
        _signals.start(self.__class__, environ)
        request: Any = make_request(self.request_class, environ) if self._on_asgi else self.request_class(environ)
        request._portal = self.portal
        # Django's async function needs asyncio.
        as_asgi = self._on_asgi and not GET_RESPONSE_ASYNC.is_own() and self.portal.is_on_asyncio()
        try:
            response: Any = self._get_response_as_asgi(request) if as_asgi else self.get_response(request)
        except BaseException:
            request.close()
            raise
        response._handler_class = self.__class__
        return response

    def get_response(self, request: Any) -> Any:
        """Like Django's, but receives the body before async code begins, because only this thread can wait for it."""
        self.portal.prepare(request.prepare_body)
        response: Any = super().get_response(request)
        if response.streaming:
            if is_async(response):
                request.prepare_body()
            elif not (self._on_asgi or is_file(response)):
                like_the_view(response, self.portal, request.prepare_body)
        if not self._on_asgi:  # there, the thread is one of the pool's
            end_like_the_view(response, self.portal)
        return response

    def _get_response_as_asgi(self, request: Any) -> Any:
        """Like `get_response`, through the function that only Django's ASGI handler calls, which others have replaced.

        That function runs on the event loop, so the body has to be there before.
        """
        chain: Callable[[Any], Any] = cast(Any, self)._middleware_chain
        face = AsyncFace(chain=chain)
        bring_body(request)
        try:
            return self.portal.call(request.environ, face.get_response_async, request)
        except BaseException as error:
            if face.cancelled:
                # What came back through the loop says less.
                raise asyncio.CancelledError("the client left before the request was over") from None
            if face.response is None or not isinstance(error, asyncio.CancelledError):
                raise
            # The client left after everything was done. Whoever sends the response finds that out, and closes it.
            face.response._resource_closers.append(request.close)
            return face.response

    def _body(self, response: Any, environ: Environ) -> Any:
        if not response.streaming:
            return _whole(response, environ)
        body = self.stream(response, environ)
        return _file(response, environ) if body is response and isinstance(response, FileResponse) else body

    def stream(self, response: Any, environ: Environ) -> Any:
        """The iterable of a streaming response: the response itself, or what replaces it."""
        if environ["REQUEST_METHOD"] == "HEAD":
            return Nothing(response.close)  # a stream may have no end, and servers iterate over it to drop it
        if is_async(response):
            return AsyncBody(
                lambda: async_parts(response), partial(self.portal.iterate, environ), response.close, _between
            )
        if isinstance(response, FileResponse):
            response.block_size = max(response.block_size, BLOCK_BYTES)
        return response

    def make_view_atomic(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Django's hook around each view. Raises `RuntimeError` for an async view with ATOMIC_REQUESTS."""
        atomic: Callable[..., Any] = super().make_view_atomic(view)
        if atomic is not view:
            # Wrapped for ATOMIC_REQUESTS, which async views cannot have, or by something that watches views. This
            # happens anew for each request, so keeping the result would not help.
            return self._called(atomic)
        try:
            return self._views[view]
        except KeyError:
            called = self._views[view] = self._called(view)
            return called
        except TypeError:  # a callable that cannot be hashed
            return self._called(view)

    def _called(self, view: Callable[..., Any]) -> Callable[..., Any]:
        return self._waiting_for(view) if iscoroutinefunction(view) else view

    def adapt_method_mode(
        self,
        is_async: bool,
        method: Callable[..., Any],
        method_is_async: bool | None = None,
        debug: bool = False,
        name: str | None = None,
    ) -> Any:
        """Django's hook for joining sync and async code. Async middleware runs on the loop, too."""
        if not is_async and (iscoroutinefunction(method) if method_is_async is None else method_is_async):
            return self._waiting_for(method)
        return super().adapt_method_mode(is_async, method, method_is_async, debug, name)

    def _waiting_for(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Request, *args: Any, **kwargs: Any) -> Any:
            __traceback_hide__ = True
            bring_body(request)
            _hops.count(2)
            response = self.portal.call(request.environ, function, request, *args, **kwargs)
            if iscoroutinefunction(getattr(response, "render", None)):
                # Django's sync chain renders the response, and would not wait for an async `render`.
                response.render = partial(self.portal.call, request.environ, response.render)
            return response

        # Django reads the class of a hook from this, even if nothing is wrong.
        hook: Any = call
        hook.__self__ = getattr(function, "__self__", None)
        return call


def bring_body(request: Request) -> None:
    """Wait for the body, before code on the event loop can ask for it."""
    try:
        request.bring_body()
    except ClientDisconnected as error:
        # Nobody waits for a response, so an error page is not made, and nothing is logged.
        raise asyncio.CancelledError(str(error)) from None


def _between() -> None:
    """Drop what a thread must not keep, and what a stream must not take to another thread."""
    close_old_connections()
    leave_caches()


def headers(response: HttpResponseBase) -> list[tuple[str, str]]:
    """The headers of a response, with its cookies, for start_response."""
    # `items()` would build these pairs anew, name by name.
    kept: dict[str, tuple[str, str]] = response.headers._store
    cookies = (("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values())
    return [*kept.values(), *cookies]


def _whole(response: Any, environ: Environ) -> Iterable[bytes]:
    """A response that is complete.

    It is closed at once if that takes no time. Behind `WsgiToAsgi`, one hop then takes it to the loop. But
    what a project does at the end may take time, and the client must not wait for that.
    """
    if not _signals.closes_at_once(response) or ("asgi.scope" not in environ and _signals.much_to_close()):
        return cast(Iterable[bytes], response)
    content: bytes = response.content
    try:
        _signals.close(response)
    except Exception:
        _log.exception("closing a response raised")  # which is no reason to send a different response
    return [content]


def _file(response: Any, environ: Environ) -> Iterable[bytes]:
    """A file that the server sends itself, if it can (PEP 3333, "Optional Platform-Specific File Handling")."""
    opened = response.file_to_stream
    if opened is None or "wsgi.file_wrapper" not in environ:
        return cast(Iterable[bytes], response)
    # The server closes the file, and not the response, which knows what else has to be closed. It does so outside the
    # context of the request.
    opened.close = partial(copy_context().run, response.close)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](opened, response.block_size)
    return wrapped
