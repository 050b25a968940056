"""What the tests of `AsgiToWsgi` share: a WSGI server whose steps are the test's, bounded waits, processes of our own.

Nothing here waits without a bound: what does not come within `PATIENCE` seconds fails the test, and says where the
thread was that it waited for.
"""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

from bridge import AsgiToWsgi
from support.plain_servers import Environ, environ_for
from support.waiting import Flag, OneThread, bounded

Headers = list[tuple[str, str]]


# --- a WSGI server ----------------------------------------------------------------------------------------------------


class Served:
    """One request as a WSGI server plays it, in one thread; each step is the test's (PEP 3333, "The Server Side")."""

    def __init__(self, app: Any, environ: Environ | None = None) -> None:
        self.app = app
        self.environ = environ_for("GET", "/") if environ is None else environ
        self.thread = OneThread()
        self.status = ""
        self.headers: Headers = []
        self.started = Flag()
        self.result: Any = None
        self.chunks: list[bytes] = []
        # Called in start_response, as a server may do there whatever it likes.
        self.on_start: Callable[[], object] = lambda: None

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.thread.end()

    def begin(self) -> Callable[[], "Served"]:
        """Call the app; what is returned waits until that returns."""
        return self.thread.begin(self._call)

    def call(self) -> "Served":
        return self.begin()()

    def begin_next(self) -> Callable[[], bytes | None]:
        """Ask for the next chunk; what is returned waits for it. None is the end."""
        return self.thread.begin(self._next)

    def next(self) -> bytes | None:
        return self.begin_next()()

    def rest(self) -> bytes:
        """All chunks that are still to come."""
        rest = []
        while (chunk := self.next()) is not None:
            rest.append(chunk)
        return b"".join(rest)

    def close(self) -> None:
        """PEP 3333: however the request ended."""
        self.thread.run(self._close)

    def run(self) -> "Served":
        """The whole request."""
        self.call()
        try:
            self.rest()
        finally:
            self.close()
        return self

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def _call(self) -> "Served":
        self.result = self.app(self.environ, self._start_response)
        assert self.started.is_set(), "start_response was not called before the app returned"
        self._iterator = iter(self.result)
        return self

    def _start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        assert not self.started.is_set(), "start_response was called twice"
        self.status, self.headers = status, headers
        self.started.set()
        self.on_start()
        return self._write

    def _write(self, _data: bytes) -> None:
        raise AssertionError("write() is for applications that cannot be iterated over")

    def _next(self) -> bytes | None:
        chunk = next(self._iterator, None)
        if chunk is not None:
            assert type(chunk) is bytes, chunk
            self.chunks.append(chunk)
        return chunk

    def _close(self) -> None:
        if hasattr(self.result, "close"):
            self.result.close()


def ask(app: Any, environ: Environ | None = None) -> Served:
    """One request from its beginning to its end."""
    with Served(app, environ) as served:
        return served.run()


@contextlib.contextmanager
def adapted(app: Any, **options: Any) -> Iterator[AsgiToWsgi]:
    """`AsgiToWsgi(app)`, closed at the end; without lifespan unless the options say otherwise."""
    options.setdefault("lifespan", "off")
    options.setdefault("shutdown_timeout", 3.0)
    adapter = AsgiToWsgi(app, **options)
    try:
        yield adapter
    finally:
        bounded(adapter.close)


class Input(io.RawIOBase):
    """A `wsgi.input` that counts, and that may be told to wait for the client (`hold`) or to fail (`error`)."""

    def __init__(self, data: bytes = b"", *, hold: Flag | None = None, error: Exception | None = None) -> None:
        self._data = io.BytesIO(data)
        self._hold = hold
        self._error = error
        self.asked: list[int] = []
        self.threads: set[int] = set()
        self.reading = Flag()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        self.asked.append(size)
        self.threads.add(threading.get_ident())
        self.reading.set()
        if self._hold is not None:
            self._hold.wait()
        if self._error is not None:
            raise self._error
        return self._data.read(size)

    @property
    def taken(self) -> int:
        return self._data.tell()


def upload(body: Any, length: int | None, **changed: Any) -> Environ:
    """The environ of a POST; `length` None is a body that ends by itself (`wsgi.input_terminated`)."""
    length_or_end = {"wsgi__input_terminated": True} if length is None else {"CONTENT_LENGTH": str(length)}
    return environ_for("POST", "/", wsgi__input=body, **length_or_end, **changed)
