"""What the tests of `AsgiToWsgi` share: a WSGI server whose steps are the test's, bounded waits, processes of our own.

Nothing here waits without a bound: what does not come within `PATIENCE` seconds fails the test, and says where the
thread was that it waited for.
"""

import asyncio
import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import anyio
import pytest
import sniffio
import trio

from bridge import AsgiToWsgi
from support.paths import PYTHONPATH
from support.plain_servers import Environ, Event, environ_for

PATIENCE = 8.0
FOREVER = 3600.0
Result = TypeVar("Result")
Headers = list[tuple[str, str]]


# --- waiting --------------------------------------------------------------------------------------------------------


class Flag:
    """A signal between threads and loops; to wait for it is bounded."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []

    def set(self) -> None:
        with self._lock:
            self._event.set()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        """Wait in a thread."""
        assert self._event.wait(PATIENCE), "the signal did not come"

    async def waited(self) -> None:
        """Wait on a loop, asyncio's or trio's, without a thread."""
        woken: asyncio.Event | trio.Event
        if sniffio.current_async_library() == "trio":
            woken, token = trio.Event(), trio.lowlevel.current_trio_token()
            wake = lambda: token.run_sync_soon(woken.set)  # noqa: E731
        else:
            woken, loop = asyncio.Event(), asyncio.get_running_loop()
            wake = lambda: loop.call_soon_threadsafe(woken.set)  # type: ignore[assignment,return-value]  # noqa: E731
        with self._lock:
            if self._event.is_set():
                return
            self._wakers.append(wake)
        with anyio.fail_after(PATIENCE):
            await woken.wait()


class Work(Generic[Result]):
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._thread = OneThread()
        self._outcome = self._thread.begin(function)

    def result(self) -> Result:
        """What it returned or raised; waits for it."""
        try:
            return self._outcome()
        finally:
            self._thread.end()


class OneThread:
    """A thread that runs one function after another, as a server's does."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="server-thread", daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        return self._thread.ident or 0

    def begin(self, function: Callable[[], Result]) -> Callable[[], Result]:
        """Start `function` there; what is returned waits for its end, and returns or raises what it did."""
        outcome: SimpleQueue[tuple[Result, None] | tuple[None, BaseException]] = SimpleQueue()

        def run() -> None:
            try:
                outcome.put((function(), None))
            except BaseException as error:
                outcome.put((None, error))

        def end() -> Result:
            try:
                result, error = outcome.get(timeout=PATIENCE)
            except Empty:
                stack = "".join(traceback.format_stack(sys._current_frames()[self.ident]))
                pytest.fail(f"the server's thread still waits after {PATIENCE} seconds:\n{stack}", pytrace=False)
            if error is not None:
                raise error
            return result  # type: ignore[return-value]

        self._inbox.put(run)
        return end

    def run(self, function: Callable[[], Result]) -> Result:
        return self.begin(function)()

    def end(self) -> None:
        self._inbox.put(None)

    def _main(self) -> None:
        while (function := self._inbox.get()) is not None:
            function()
            del function  # what it refers to must not live until the next one comes


def bounded(function: Callable[[], Result]) -> Result:
    """Run `function` in a thread of its own, and fail instead of waiting for ever."""
    return Work(function).result()


class LogWatch(logging.Handler):
    """What the logger `bridge` says, with a bounded wait for what is still to come."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.lines: list[str] = []
        self._news = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._news:
            self.lines.append(self.format(record))
            self._news.notify_all()

    def having(self, *texts: str) -> list[str]:
        """The lines so far, each with its traceback, that contain all of `texts`."""
        return [line for line in self.lines if all(text in line for text in texts)]

    def wait_for(self, *texts: str) -> str:
        """The first line that contains all of `texts`, once it is there."""
        with self._news:
            assert self._news.wait_for(lambda: self.having(*texts), PATIENCE), f"no {texts} in {self.lines}"
        return self.having(*texts)[0]

    def complaints(self) -> list[str]:
        """Warnings and worse."""
        return [line for line in self.lines if not line.startswith(("DEBUG", "INFO"))]


@pytest.fixture(name="log")
def log_fixture() -> Iterator[LogWatch]:
    """What the package logs while the test runs."""
    watch, logger = LogWatch(), logging.getLogger("bridge")
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    yield watch
    logger.setLevel(level)
    logger.removeHandler(watch)


@pytest.fixture(name="nothing_waits_by_the_clock")
def nothing_waits_by_the_clock_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads look around now and then; here they must not need to: a wake-up that is lost is a test that hangs."""
    monkeypatch.setattr("bridge._asgi_to_wsgi.task_thread.POLL", FOREVER)
    monkeypatch.setattr("bridge._concurrency.call_thread._LOOP_CHECK", FOREVER)


@pytest.fixture(name="looks_often")
def looks_often_fixture(monkeypatch: pytest.MonkeyPatch, nothing_waits_by_the_clock: None) -> None:
    """Threads look around all the time: for what no signal can tell."""
    monkeypatch.setattr("bridge._asgi_to_wsgi.task_thread.POLL", 0.02)


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
