"""A scripted WSGI server for `AsgiToWsgi`: each step of a request is the test's.

Nothing here waits without a bound: what does not come within `PATIENCE` seconds fails the test, and says where the
thread was that it waited for.
"""

import contextlib
import io
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self
from wsgiref.util import is_hop_by_hop

from bridge import AsgiToWsgi
from support.plain_servers import Environ, environ_for
from support.waiting import Flag, OneThread, bounded

Headers = list[tuple[str, str]]


# --- a WSGI server ----------------------------------------------------------------------------------------------------


class Call:
    """One request as a WSGI server plays it, strict about what the app does; each step is the test's.

    The steps are those of PEP 3333, "The Server Side", in the thread that makes them; `run` is all of them.
    """

    def __init__(self, app: Any, environ: Environ) -> None:
        self.app = app
        self.environ = environ
        self.starts = 0
        self.status = ""
        self.headers: Headers = []
        self.started = Flag()
        self.result: Any = None
        self.iterator: Iterator[bytes] = iter(())
        self.chunks: list[bytes] = []
        self.complete = False
        self.error: BaseException | None = None
        # Called in start_response, as a server may do there whatever it likes.
        self.on_start: Callable[[], object] = lambda: None

    def call(self) -> Self:
        """Call the app; the headers must be there when it returns."""
        self.result = self.app(self.environ, self._start_response)
        assert self.started.is_set(), "start_response was not called before the app returned"
        self.iterator = iter(self.result)
        return self

    def next(self) -> bytes | None:
        """The next chunk, or None at the end."""
        chunk = next(self.iterator, None)
        if chunk is None:
            self.complete = True
        else:
            assert type(chunk) is bytes, chunk
            self.chunks.append(chunk)
        return chunk

    def rest(self) -> bytes:
        """All chunks that are still to come."""
        rest = []
        while (chunk := self.next()) is not None:
            rest.append(chunk)
        return b"".join(rest)

    def close(self) -> None:
        """However the request ended."""
        if hasattr(self.result, "close"):
            self.result.close()

    def run(self) -> Self:
        """The whole request, in the order of PEP 3333's own gateway."""
        self.call()
        try:
            self.rest()
        finally:
            self.close()
        return self

    @property
    def code(self) -> int:
        return int(self.status[:3])

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> list[str]:
        """The values of one response header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def _start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Callable[[bytes], None]:
        self.starts += 1
        assert self.starts == 1, "start_response was called twice"
        check_start(status, headers)
        self.status, self.headers = status, headers
        self.started.set()
        self.on_start()
        return self._write

    def _write(self, _data: bytes, /) -> None:
        raise AssertionError("write() is for applications that cannot be iterated over")


def check_start(status: Any, headers: Any) -> None:
    """What PEP 3333 says of the arguments of `start_response`."""
    assert type(status) is str
    assert re.fullmatch(r"[1-9]\d\d [^\x00-\x1f\x7f]*[^\x00-\x20\x7f]", status), status
    assert type(headers) is list
    for pair in headers:
        assert type(pair) is tuple
        name, value = pair
        assert type(name) is str
        assert type(value) is str
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), name
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value), value
        value.encode("latin-1")
        assert not is_hop_by_hop(name), name


class Served(Call):
    """A `Call` in a thread of its own, as that of a server: each of its steps can be waited for, with a bound."""

    def __init__(self, app: Any, environ: Environ | None = None) -> None:
        super().__init__(app, environ_for("GET", "/") if environ is None else environ)
        self.thread = OneThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.thread.end()

    def begin(self) -> Callable[[], Self]:
        """Call the app; what is returned waits until that returns."""
        return self.thread.begin(super().call)

    def call(self) -> Self:
        return self.begin()()

    def begin_next(self) -> Callable[[], bytes | None]:
        """Ask for the next chunk; what is returned waits for it. None is the end."""
        return self.thread.begin(super().next)

    def next(self) -> bytes | None:
        return self.begin_next()()

    def close(self) -> None:
        self.thread.run(super().close)


def ask(app: Any, environ: Environ | None = None, *, fails: bool = False) -> Served:
    """One request from its beginning to its end; its failure is noted where it `fails`, and must come."""
    with Served(app, environ) as served:
        try:
            served.run()
        except Exception as error:
            if not fails:
                raise
            served.error = error
        assert fails is (served.error is not None)
        return served


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
