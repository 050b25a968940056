"""What docs/migrating.md says of adapters for WSGI apps: a probe is given one, does what a row speaks of, and says what
it has seen."""

import asyncio
import contextvars
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from bridge import WsgiToAsgi
from support.patience import PATIENCE
from support.plain_servers import body_events, scope_for

IN_VAIN = 5.0  # seconds that something is waited for which some adapters never do
Make = Callable[..., Any]
Probe = Callable[[Make], Any]


@dataclass
class Answer:
    """What the server has seen of one request: the events, and what was raised to it."""

    events: list[dict[str, Any]] = field(default_factory=list)
    raised: BaseException | None = None

    @property
    def status(self) -> int:
        return next((event["status"] for event in self.events if event["type"] == "http.response.start"), 0)

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.events if event["type"] == "http.response.body")


async def ask(adapter: Any, scope: Any, events: list[Any], on_send: Callable[[], Any] | None = None) -> Answer:
    """One request of a server whose client stays."""
    answer, waiting = Answer(), list(events)

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(event: Any) -> None:
        answer.events.append(event)
        if on_send is not None:
            await on_send()

    try:
        async with asyncio.timeout(PATIENCE):
            await adapter(scope, receive, send)
    except (Exception, asyncio.CancelledError) as error:
        answer.raised = error
    return answer


@contextmanager
def made(make: Make, app: Any) -> Iterator[Any]:
    """An adapter, and its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        adapter = make(app)
    try:
        yield adapter
    finally:
        with suppress(AttributeError):
            adapter.close()
        with suppress(AttributeError):
            adapter.executor.shutdown()


def once(make: Make, app: Any, scope: Any = None, events: list[Any] | None = None) -> Answer:
    """One request through an adapter of its own."""
    with made(make, app) as adapter:
        return asyncio.run(ask(adapter, scope or scope_for("GET", "/"), body_events(b"") if events is None else events))


def seen_by_app(make: Make, see: Callable[[Any], Any], scope: Any = None, events: list[Any] | None = None) -> Any:
    """What the app finds in its environ, or "not called"."""
    found: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        found.append(see(environ))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    once(make, app, scope, events)
    return found[0] if found else "not called"


def key(name: str, *headers: tuple[bytes, bytes], **scope: Any) -> Probe:
    """The value of a key of the environ."""

    def probe(make: Make) -> Any:
        return seen_by_app(make, lambda environ: environ.get(name), scope_for("GET", "/", headers, **scope))

    return probe


def mid_upload(make: Make) -> Any:
    def see(environ: Any) -> Any:
        try:
            return environ["wsgi.input"].read()
        except OSError:
            return OSError

    half = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
    return seen_by_app(make, see, scope_for("POST", "/", [(b"content-length", b"9")]), half)


def raised_mid_upload(make: Make) -> Any:
    half = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
    scope = scope_for("POST", "/", [(b"content-length", b"9")])
    return type(once(make, lambda environ, start_response: start_response("200 OK", []) or [], scope, half).raised)


def mid_response(make: Make) -> str:
    ends: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            yield b"first"
            has_left = environ.get("bridge.client_disconnected", lambda: True)
            waited = threading.Event()
            for _ in range(1000):
                if has_left():
                    break
                waited.wait(0.01)
            for _ in range(5):
                yield b"more"
            ends.append("ran to its end")
        finally:
            if not ends:
                ends.append("closed")

    events = [*body_events(b""), {"type": "http.disconnect"}]
    once(make, app, events=events)
    return ends[0]


def without_length(make: Make) -> Any:
    scope = scope_for("POST", "/", [(b"transfer-encoding", b"chunked")])
    return seen_by_app(make, lambda environ: environ.get("CONTENT_LENGTH"), scope, body_events(b"abc", b"def"))


def events_before_call(size: int) -> Probe:
    """How many of the three events of a body have come when the app is called."""

    def probe(make: Make) -> Any:
        taken: list[int] = []

        class Events(list[Any]):
            def pop(self, index: Any = -1) -> Any:
                taken.append(1)
                return super().pop(index)

        found: list[int] = []

        def app(environ: Any, start_response: Any) -> list[bytes]:
            found.append(len(taken))
            assert 3 * size == len(environ["wsgi.input"].read())
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"x"]

        async def one(adapter: Any) -> None:
            waiting = Events(body_events(*[bytes(size)] * 3))

            async def receive() -> Any:
                if not waiting:
                    await asyncio.Event().wait()
                return waiting.pop(0)

            async def send(event: Any) -> None: ...

            async with asyncio.timeout(PATIENCE):
                await adapter(scope_for("POST", "/", [(b"content-length", b"%d" % (3 * size))]), receive, send)

        with made(make, app) as adapter:
            asyncio.run(one(adapter))
        return found[0] == 3

    return probe


def start_of_an_app_that_fails(make: Make) -> bool:
    """Whether the status has left when the app raises before its first byte."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        raise LookupError

    return once(make, app).status == 200


def errors(make: Make) -> str:
    names = {id(sys.stdout): "stdout", id(sys.stderr): "stderr"}
    return str(seen_by_app(make, lambda environ: names.get(id(environ["wsgi.errors"]), "another")))


def other_prefix(make: Make) -> Any:
    return seen_by_app(make, lambda environ: environ["PATH_INFO"], scope_for("GET", "/application", root_path="/app"))


def of_length(length: int, method: str = "GET") -> Probe:
    """How many bytes of five leave, and what is raised."""

    def probe(make: Make) -> Any:
        def app(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(length))])
            return [b"12345"]

        answer = once(make, app, scope_for(method, "/"))
        return len(answer.body), answer.raised is not None

    return probe


def busy(make: Make) -> Any:
    """The status of a request that comes while the only thread is busy; None where it waits."""
    entered, release = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        entered.set()
        release.wait(PATIENCE)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    async def both(adapter: Any) -> Any:
        first = asyncio.create_task(ask(adapter, scope_for("GET", "/"), body_events(b"")))
        assert await asyncio.to_thread(entered.wait, PATIENCE)
        second = asyncio.create_task(ask(adapter, scope_for("GET", "/"), body_events(b"")))
        await asyncio.wait([second], timeout=0.3)
        status = second.result().status if second.done() else None
        release.set()
        await asyncio.gather(first, second)
        return status

    single: Make = partial(make, threads=1, backlog=0) if make is WsgiToAsgi else partial(make, workers=1)
    with made(single, app) as adapter:
        return asyncio.run(both(adapter))


def on_trio(make: Make) -> bool:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    async def one(adapter: Any) -> bytes:
        body: list[bytes] = []
        waiting = body_events(b"")

        async def receive() -> Any:
            if not waiting:
                await trio.sleep_forever()
            return waiting.pop(0)

        async def send(event: Any) -> None:
            body.append(event.get("body", b""))

        with trio.fail_after(PATIENCE):
            await adapter(scope_for("GET", "/"), receive, send)
        return b"".join(body)

    with made(make, app) as adapter:
        try:
            return trio.run(one, adapter) == b"x"
        except RuntimeError:
            return False


def at_once(make: Make) -> bool:
    """Whether two requests are in the app at the same time."""
    both = threading.Barrier(2)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        with suppress(threading.BrokenBarrierError):
            both.wait(IN_VAIN)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    async def two(adapter: Any) -> None:
        await asyncio.gather(*(ask(adapter, scope_for("GET", "/"), body_events(b"")) for _ in range(2)))

    with made(make, app) as adapter:
        asyncio.run(two(adapter))
    return not both.broken


def close_called(make: Make) -> bool:
    class Body:
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            self.closed = True

    body = Body()

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    once(make, app)
    return body.closed


def has_write(make: Make) -> bool:
    found: list[bool] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        found.append(callable(start_response("200 OK", [("Content-Type", "text/plain")])))
        return [b"x"]

    once(make, app)
    return found[0]


def repeats(make: Make) -> int:
    return once(
        make,
        lambda environ, start_response: start_response("200 OK", []) or [],
        scope_for("GET", "/", [(b"x-a", b"1")] * 101),
    ).status


def lifespan(make: Make) -> Any:
    """What a server's startup is answered with, or what it raises."""

    async def start(adapter: Any) -> Any:
        sent: list[str] = []
        done = asyncio.Event()
        waiting = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Any:
            if not waiting:
                await asyncio.Event().wait()
            return waiting.pop(0)

        async def send(event: Any) -> None:
            sent.append(event["type"])
            done.set()

        try:
            async with asyncio.timeout(PATIENCE):
                await adapter({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        except Exception as error:
            return type(error)
        return sent[0] if sent else "nothing"

    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("not called")

    with made(make, app) as adapter:
        return asyncio.run(start(adapter))


def websocket(make: Make) -> Any:
    scope = {**scope_for("GET", "/"), "type": "websocket", "scheme": "ws", "subprotocols": [], "extensions": {}}
    answer = once(make, lambda environ, start_response: [], scope, [{"type": "websocket.connect"}])
    return type(answer.raised) if answer.raised else answer.events[0]["type"]


def ahead(make: Make) -> bool:
    """Whether an app makes all of 200 chunks of 64 KiB while the client has not taken the first event."""
    done = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        for _ in range(200):
            yield bytes(2**16)
        done.set()

    async def one(adapter: Any) -> bool:
        finished: list[bool] = []

        async def slow() -> None:
            if not finished:
                finished.append(await asyncio.to_thread(done.wait, 1.0))

        await ask(adapter, scope_for("GET", "/"), body_events(b""), slow)
        return finished[0]

    with made(make, app) as adapter:
        return asyncio.run(one(adapter))


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="not seen")


def context(make: Make) -> Any:
    def through(app: Any) -> Any:
        adapter = make(app)

        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            VARIABLE.set("seen")
            await adapter(scope, receive, send)

        return middleware

    return seen_by_app(through, lambda environ: VARIABLE.get())


def latin_1(make: Make) -> Any:
    """Whether a header value with an umlaut leaves."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Name", "M\u00fcller")])
        return [b"x"]

    return once(make, app).status == 200


def above_limit(make: Make) -> int:
    limited: Make = partial(make, max_body=4) if make is WsgiToAsgi else partial(make, max_body_size=4)
    scope = scope_for("POST", "/", [(b"content-length", b"6")])
    app = lambda environ, start_response: start_response("200 OK", []) or []  # noqa: E731
    return once(limited, app, scope, body_events(b"abcdef")).status


def whole_body_within_limit(make: Make) -> Any:
    return events_before_call(2**20)(make if make is WsgiToAsgi else partial(make, max_body_size=2**23))


def no_chunk(make: Make) -> int:
    return once(make, lambda environ, start_response: (start_response("204 No Content", []) and []) or []).status


def in_anyio_threads(make: Make) -> bool:
    """Whether the app is in a thread of anyio's, of those that `def` endpoints share."""
    return bool(seen_by_app(make, lambda environ: threading.current_thread().name.startswith("AnyIO")))
