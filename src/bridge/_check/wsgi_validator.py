"""Stands between a WSGI server and an application, and notes each clause of PEP 3333 and HTTP that the application
breaks.

It is stricter than the adapter, which accepts mistakes that it can correct. Other servers may not.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from bridge._check.findings import Finding, Note, of_error
from bridge._translate.headers import header_faults
from bridge._translate.response_to_events import ENDED, HELD, IDLE, WsgiResponse
from bridge._types import Environ, StartResponse, Write, WSGIApp
from bridge.errors import ApplicationProtocolError

_DETAILS_CLAUSE: Final = "PEP 3333, Specification Details"
_CALLABLE_CLAUSE: Final = "PEP 3333, The start_response() Callable"
_LENGTH_CLAUSE: Final = "PEP 3333, Handling the Content-Length Header"


def wsgi_validator(app: WSGIApp, note: Callable[[], Note]) -> WSGIApp:
    """`app`, watched. `note()` returns where to put the findings of the current request."""

    def watched(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        watch = WsgiWatch(note(), environ["REQUEST_METHOD"], start_response)
        iterable = app(environ, watch.start_response)
        taken: Iterable[bytes] = watch.take(iterable)
        return taken

    return watched


class WsgiWatch:
    """Watches one request of a WSGI application, and notes what breaks a clause."""

    def __init__(self, note: Note, method: str, start_response: StartResponse) -> None:
        self._note = note
        self._start_response = start_response
        self._head_only = method == "HEAD"
        self._response = WsgiResponse(head_only=self._head_only, write=_unused)
        self._code = ""
        self._write: Write = _unused
        self._close: Callable[[], object] | None = None

    def start_response(self, *given: Any, **named: Any) -> Write:
        if named:
            did = f"called start_response with {' and '.join(named)} by keyword"
            self._note(Finding(did, "positional arguments", _CALLABLE_CLAUSE))
        return self._start(*given, **named)

    def _start(self, status: Any, headers: Any, exc_info: Any = None) -> Write:
        for fault in header_faults(headers):
            self._note(of_error(fault))
        try:
            self._response.start_response(status, headers, exc_info)
        except ApplicationProtocolError as error:
            self._note(of_error(error))
        except BaseException as error:
            # PEP 3333, The start_response() Callable: after the headers have been sent, it raises what exc_info holds,
            # which the server got from here. Anything else does not come from exc_info.
            if not (isinstance(exc_info, tuple) and error in exc_info):
                raise
        if isinstance(status, str):
            self._look_at(status)
        self._write = self._start_response(status, headers, *(() if exc_info is None else (exc_info,)))
        return self._wrote

    def _look_at(self, status: str) -> None:
        self._code = status[:3]
        did = f"gave the status {status!r:.80}"
        if len(status) < 5:
            self._note(Finding(did, "a code, a space and a reason phrase", _CALLABLE_CLAUSE))
        if self._code[:1] == "1":
            self._note(Finding(did, "a final response, 2xx to 5xx", "RFC 9110 15.2"))

    def _wrote(self, data: bytes) -> object:
        self._see(data)
        return self._write(data)

    def take(self, iterable: Any) -> Any:
        """What the application returned, in the form in which it is passed to the server."""
        if isinstance(iterable, bytes | str) or not (hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")):
            did = f"returned {type(iterable).__name__} ({iterable!r:.60})"
            self._note(Finding(did, "an iterable of bytestrings", _DETAILS_CLAUSE))
            return iterable
        self._close = getattr(iterable, "close", None)
        return _Iterable(self._chunks(iterable), self._closed)

    def _chunks(self, iterable: Iterable[Any]) -> Iterator[bytes]:
        for chunk in iterable:
            self._see(chunk)
            yield chunk
        if self._response.state is not ENDED:
            self._tell(self._response.end)

    def _see(self, data: Any) -> None:
        if data and self._code in ("204", "304"):
            self._note(
                Finding(
                    f"sent a body of {len(data)} bytes or more with the status {self._code}", "none", "RFC 9110 6.4.1"
                )
            )
        if not (self._head_only and self._response.state not in (IDLE, HELD)):
            self._tell(lambda: self._response.chunk(data))
        if self._response.overrun:
            self._note(
                Finding("sent more than its Content-Length", "as many bytes as Content-Length says", _LENGTH_CLAUSE)
            )

    def _tell(self, step: Callable[[], object]) -> None:
        try:
            step()
        except ApplicationProtocolError as error:
            self._note(of_error(error))

    def _closed(self) -> None:
        if self._close is None:
            return
        try:
            self._close()
        except Exception as error:
            self._note(
                Finding(f"raised {error!r:.100} in close()", "that close() only releases resources", _DETAILS_CLAUSE)
            )
            raise


class _Iterable:
    """PEP 3333: the server may call `close()` at any time."""

    def __init__(self, chunks: Iterator[bytes], close: Callable[[], None]) -> None:
        self._chunks = chunks
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


def _unused(_data: bytes) -> object:
    raise AssertionError("the server has a write() of its own")
