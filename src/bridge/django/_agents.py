"""What tracers, error reporters and profilers have put on Django's handlers, to see each request.

They replace functions of Django's classes, before or after the application is made. `Hook` says whether a function was
replaced. If none was, nothing in this module is called. If one was, Django's own `__call__` runs around the request,
with everything that was put on it, and calls the code below where it would call its own.
"""

import asyncio
import functools
import importlib
import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from contextvars import ContextVar, copy_context
from types import CodeType, FunctionType
from typing import Any, Final, Protocol

from asgiref.sync import sync_to_async
from django.core import signals
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.dispatch import Signal
from django.http import HttpResponse

from bridge._concurrency.per_process import PerProcess
from bridge._types import Environ, Send, StartResponse
from bridge.errors import ClientDisconnected

# The status that a transaction shows if its client has left. Nobody receives it. The number is from nginx.
_CLIENT_LEFT: Final = 499
_LEFT: Final = "the client left before the request was over"


class Hook:
    """A function in a class or module of Django that others may have replaced.

    `own` is Django's function, or None if it had been replaced before this module was imported.
    """

    def __init__(self, owner: Any, name: str) -> None:
        self._owner = owner
        self.name = name
        found = getattr(owner, name, None)
        module = getattr(owner, "__module__", None) or owner.__name__
        own = _code_in_file(module, *(owner.__qualname__.split(".") if isinstance(owner, type) else ()), name)
        # It may have been replaced before this module was imported. type() instead of isinstance(): proxies report the
        # class of the object that they stand for, and have its code.
        is_whole = type(found) is FunctionType and own is not None and _same(found.__code__, own)
        self.own: Any = found if is_whole else None
        self._code = getattr(self.own, "__code__", None)

    def is_own(self) -> bool:
        """Whether the function and its code are Django's: some agents write other code into it."""
        function = getattr(self._owner, self.name)
        return function is self.own and function.__code__ is self._code

    def __str__(self) -> str:
        return f"{self._owner.__name__}.{self.name}"

    def replaced_by(self) -> str:
        """The module of the current function, as far as it is known."""
        function = getattr(self._owner, self.name)
        where = getattr(function, "__globals__", None) or {}
        return str(where.get("__name__") or getattr(function, "__module__", None) or type(function).__module__)


def _code_in_file(module: str, *path: str) -> CodeType | None:
    """The code of a function in the file of its module, whatever has replaced it. None if there is no file."""
    code = _module_in_file(module)
    for name in path:
        inner = code.co_consts if code is not None else ()
        code = next((one for one in inner if isinstance(one, CodeType) and one.co_name == name), None)
    return code


@functools.cache
def _module_in_file(module: str) -> CodeType | None:
    # There are many kinds of loaders. Without the file, everything counts as replaced, which takes longer but is just
    # as correct.
    with suppress(Exception):
        spec = importlib.util.find_spec(module)
        loader: Any = spec.loader if spec is not None else None
        code: CodeType | None = loader.get_code(module)
        return code
    return None


def _same(one: CodeType, other: CodeType) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("co_code", "co_names", "co_varnames"))


WSGI_CALL: Final = Hook(WSGIHandler, "__call__")
ASGI_CALL: Final = Hook(ASGIHandler, "__call__")
GET_RESPONSE_ASYNC: Final = Hook(BaseHandler, "get_response_async")
CREATE_REQUEST: Final = Hook(ASGIHandler, "create_request")
SIGNALS: Final = tuple(Hook(Signal, name) for name in ("send", "asend", "_live_receivers"))
# Functions that the ASGI application of this package does not call, so replacements of them are never called.
UNUSED: Final = (
    *(Hook(ASGIHandler, name) for name in ("handle", "read_body", "run_get_response", "send_response")),
    Hook(ASGIHandler, "listen_for_disconnect"),
    Hook(ASGIRequest, "__init__"),
)


# --- the functions that make applications -----------------------------------------------------------------------------

_making: Final = PerProcess(threading.Lock)


def made_by_django(interface: str, application: Callable[..., Any]) -> Any:
    """What `django.core.{asgi,wsgi}.get_..._application()` makes from `application`, if this function was wrapped.

    Returns `application` itself if it was not wrapped. Otherwise it sets up Django again.
    """
    module: Any = importlib.import_module(f"django.core.{interface}")
    name, handler = f"get_{interface}_application", f"{interface.upper()}Handler"
    if Hook(module, name).is_own():
        return application
    with _making.here():
        own = getattr(module, handler)
        # Nothing else makes that function return our application.
        setattr(module, handler, lambda: application)
        try:
            made = getattr(module, name)()
        finally:
            setattr(module, handler, own)
    return made


# --- ASGI -------------------------------------------------------------------------------------------------------------


class Sending:
    """The server's `send`. If it raises because the client has left, this is not an error of the application."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.error: OSError | None = None

    async def __call__(self, event: Any) -> None:
        """ASGI HTTP, "Disconnected Client - send"."""
        try:
            await self._send(event)
        except OSError as error:
            self.error = error
            raise ClientDisconnected(_LEFT) from error


def make_request(request_class: Callable[[Environ], Any], environ: Environ) -> Any:
    """A request of this class. If others have replaced the function of Django's ASGI handler that makes requests, it is
    made through that function.
    """
    if not CREATE_REQUEST.is_own():
        made, _refused = AsyncFace(lambda _scope, _body_file: request_class(environ)).create_request(
            environ["asgi.scope"], environ["wsgi.input"]
        )
        if made is not None:
            return made
    return request_class(environ)


class AsyncFace(ASGIHandler):
    """One request as the hooks of Django's ASGI handler see it, whatever its middleware and view are."""

    def __init__(self, request_class: Any = None, chain: Callable[[Any], Any] | None = None) -> None:
        # Without Django's constructor, which would make a chain.
        self.request_class = request_class
        self._chain: Any = chain
        self.response: Any = None
        self.cancelled = False

    async def _middleware_chain(self, request: Any) -> Any:
        # Django's `get_response_async` continues here: in the thread of the request.
        return await sync_to_async(self._run, thread_sensitive=True)(request)

    def _run(self, request: Any) -> Any:
        try:
            self.response = self._chain(request)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.response


# --- WSGI -------------------------------------------------------------------------------------------------------------

_current_call: ContextVar["WsgiCall"] = ContextVar("bridge_wsgi_call")


class Maker(Protocol):
    """Makes responses, and the iterables of streams."""

    portal: Any

    def get_response(self, request: Any) -> Any:
        """Django's function, with what others have put on it."""

    def stream(self, response: Any, environ: Environ) -> Any:
        """The iterable of a streaming response."""


class WsgiCall:
    """One request through Django's own `WSGIHandler.__call__`, and everything that is around it.

    A client that has left is not an error of the application, so the code around it must not see an error: it sees a
    response, and the server gets the `ClientDisconnected`.
    """

    def __init__(self, maker: Maker, environ: Environ, start_response: StartResponse) -> None:
        self._maker = maker
        self._environ = environ
        self._start_response = start_response
        self._response: Any = None
        self._left = False
        # Whether the server sends a file itself, and has to get what its own `wsgi.file_wrapper` has returned.
        self.sends_file = False

    def run(self, call: Callable[..., Any]) -> Any:
        """The body, for the server, in the context of the request."""
        _current_call.set(self)
        try:
            body = call(self._environ, self.start_response)
        except BaseException:
            if self._response is not None and not self._response.closed:
                self._response.close()  # it does not reach the server, which would close it
            raise
        if self._left:
            with closing(body) if hasattr(body, "close") else nullcontext():
                self.check()
        return body

    def check(self) -> None:
        """Raise `ClientDisconnected` if the client has left."""
        if self._left:
            raise ClientDisconnected(_LEFT)

    def start_response(self, status: str, headers: Any, exc_info: Any = None, /) -> Any:
        """The server's `start_response` (PEP 3333). It is not called for a client that has left."""
        if self._left:
            return _nothing
        return self._start_response(status, headers, *(() if exc_info is None else (exc_info,)))

    def get_response(self, request: Any, sender: type) -> Any:
        """What Django's `__call__` needs: an iterable with a head."""
        request._portal = self._maker.portal
        response: Any
        try:
            response = self._response = self._maker.get_response(request)
        except asyncio.CancelledError:
            self._left = True
            request.close()
            nobody: Any = HttpResponse(status=_CLIENT_LEFT, reason="Client Closed Request")
            response = self._response = nobody
        except BaseException:
            request.close()
            signals.request_finished.send(sender=sender)
            raise
        response._handler_class = sender
        if not response.streaming:
            return response
        body = self._maker.stream(response, self._environ)
        if body is not response:
            return _Streamed(self, response, body)
        if getattr(response, "file_to_stream", None) is not None and self._environ.get("wsgi.file_wrapper"):
            self.sends_file = True
            # The server closes the file, outside the context of the request.
            response.close = functools.partial(copy_context().run, response.close)
        return response

    def end(self) -> None:
        """The client left in the middle of the response."""
        self._left = True


def get_response(request: Any, sender: type) -> Any:
    """The response to `request`, for the call in this context."""
    return _current_call.get().get_response(request, sender)


class _Streamed:
    """A streaming response whose chunks come from `body`."""

    def __init__(self, call: WsgiCall, response: Any, body: Any) -> None:
        self.status_code = response.status_code
        self.reason_phrase = response.reason_phrase
        self.items = response.items
        self.cookies = response.cookies
        self._call = call
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except ClientDisconnected:
            self._call.end()  # the code around this sees a normal end; see `WsgiCall.check`

    def close(self) -> None:
        self._body.close()


def _nothing(_data: bytes) -> None:
    """`write()` to nobody."""
