"""What the tests of `AsgiToWsgi` share: a WSGI server whose steps are the test's, bounded waits, processes of our own.

Nothing here waits without a bound: what does not come within `PATIENCE` seconds fails the test, and says where the
thread was that it waited for.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from bridge import AsgiToWsgi
from support.paths import PYTHONPATH
from support.plain_servers import Environ, Event, environ_for
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


# --- ASGI apps --------------------------------------------------------------------------------------------------------


async def start(send: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def chunk(send: Any, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def end(send: Any) -> None:
    await send({"type": "http.response.body"})


async def reply(send: Any, body: bytes = b"", status: int = 200) -> None:
    await start(send, status)
    await chunk(send, body, more=False)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, b"hello")


async def read_body(receive: Callable[[], Awaitable[Event]]) -> bytes:
    """The whole request body; a client that left is a `ConnectionError`."""
    pieces = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ConnectionError(event["type"])
        pieces.append(event["body"])
        if not event["more_body"]:
            return b"".join(pieces)


class Lifespan:
    """An ASGI app that supports lifespan around `http`; tells in `events` what happened, in order."""

    def __init__(self, http: Any = hello, state: dict[str, Any] | None = None) -> None:
        self._http = http
        self._state = state or {}
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._http(scope, receive, send)
            return
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"].update(self._state)
        self.events.append("startup")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


# --- processes of our own ---------------------------------------------------------------------------------------------


def run_script(script: str, *, code: int = 0, quiet: bool = True) -> list[str]:
    """Run Python code in a process of its own, with warnings as errors; returns the lines that it printed.

    Fails unless it exits with `code`, in time, and (with `quiet`) says nothing on stderr.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, complaints = process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # it says where its threads are, and so do its children
        printed, complaints = process.communicate()
    assert process.returncode == code, f"{printed}\n{complaints}"
    assert not (quiet and complaints), f"{printed}\n{complaints}"
    return printed.splitlines()
