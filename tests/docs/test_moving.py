"""docs/migrating.md: each row of its tables, with the old code and the new code side by side.

A probe is given one of the two adapters, does what the row speaks of, and says what it has seen. What each row claims
is a list of probes with what they see of either.
"""

import asyncio
import contextvars
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import a2wsgi
import asgiref.wsgi
import pytest
import trio
import uvicorn.middleware.wsgi
from asgiref.sync import sync_to_async
from hypercorn.middleware import AsyncioWSGIMiddleware

from bridge import AsgiToWsgi, WsgiToAsgi
from support.markdown import rows, section
from support.paths import ROOT
from support.plain_servers import body_events, environ_for, scope_for

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
PATIENCE = 10.0  # seconds

Make = Callable[..., Any]
Probe = Callable[[Make], Any]


# --- a request to a WSGI app -----------------------------------------------------------------------------------------


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
            both.wait(1.0)
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


# --- a request to an ASGI app ----------------------------------------------------------------------------------------


@contextmanager
def a_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A running loop for a2wsgi, which never ends the one that it makes itself."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        # What a2wsgi has cancelled, or left waiting, ends here.
        async def end() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def made_wsgi(make: Make, app: Any) -> Iterator[Any]:
    if make is AsgiToWsgi:
        with AsgiToWsgi(app, disconnect_grace=1) as adapter:
            yield adapter
        return
    with a_loop() as loop:
        yield make(app, loop=loop)


async def reply(send: Any, body: bytes = b"x") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def call(make: Make, app: Any, environ: Any = None, see: Callable[[Any], Any] = lambda body: b"".join(body)) -> Any:
    """The body of a response, or what `see` sees in what the adapter returns."""
    with made_wsgi(make, app) as adapter:
        return see(adapter(environ or environ_for("GET", "/"), lambda *_: lambda chunk: None))


def runs_lifespan(make: Make) -> bool:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        assert scope["type"] == "http"
        await reply(send)

    call(make, app)
    return "lifespan" in seen


def waits_for_work(make: Make) -> bool:
    """Whether the response has not ended while the app is still at work."""
    release: list[Callable[[], object]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        release.append(lambda: loop.call_soon_threadsafe(event.set))
        await reply(send)
        await event.wait()

    def see(body: Any) -> bool:
        ended = threading.Event()

        def read() -> None:
            b"".join(body)
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
        in_time = ended.wait(1.0)
        release[0]()
        reader.join(PATIENCE)
        return not in_time

    return bool(call(make, app, see=see))


def starts_a_thread(make: Make) -> bool:
    before = set(threading.enumerate())
    adapter = make(lambda scope, receive, send: None)
    new = set(threading.enumerate()) - before
    if new:
        adapter.loop.call_soon_threadsafe(adapter.loop.stop)
        for thread in new:
            thread.join(PATIENCE)
        adapter.loop.close()
    return bool(new)


def app_raises(make: Make) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    try:
        return call(make, app)
    except LookupError:
        return LookupError


def closed_early(make: Make) -> Any:
    """What the app is told when the server closes its response after the first chunk."""
    told: list[str] = []
    over = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        told.append((await receive())["type"])
        over.set()

    def see(body: Any) -> Any:
        assert next(iter(body)) == b"x"
        body.close()
        over.wait(1.0)
        return told[0] if told else None

    return call(make, app, see=see)


def of_body(environ: dict[str, Any]) -> Probe:
    """The events that the app receives of a request body, the first two."""

    def probe(make: Make) -> Any:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            for _ in range(2):
                event = await receive()
                seen.append(event.get("body", event["type"]))
                if not event.get("more_body"):
                    break
            await reply(send)

        call(make, app, dict(environ))
        return seen

    return probe


def list_of_one(make: Make) -> bool:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await reply(send)

    def see(body: Any) -> bool:
        is_list = type(body) is list
        b"".join(body)
        return is_list

    return bool(call(make, app, see=see))


def own_thread(make: Make) -> bool:
    """Whether thread-sensitive code runs in the server's thread."""
    seen: list[threading.Thread] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await sync_to_async(lambda: seen.append(threading.current_thread()))()
        await reply(send)

    call(make, app)
    return seen == [threading.current_thread()]


# --- Django ----------------------------------------------------------------------------------------------------------

# Prints, for the application of one module of the two, what the page says of it.
DJANGO = """
import asyncio, sys, threading, warnings
import django
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

module, what = sys.argv[1:]
made, sent, loops, threads, environs = [], [], [], [], []

def parts():
    for number in range(3):
        made.append(number)
        yield bytes(2**20)  # more than may be on its way

async def async_parts():
    for part in parts():
        yield part

def sync_view(request):
    threads.append(threading.current_thread())
    environs.append(hasattr(request, "environ") and hasattr(request, "scope"))
    return HttpResponse("x")

async def async_view(request):
    loops.append(asyncio.get_running_loop())
    return HttpResponse("x")

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
urlpatterns = [
    path("sync-stream", lambda request: StreamingHttpResponse(parts())),
    path("async-stream", lambda request: StreamingHttpResponse(async_parts())),
    path("sync", sync_view),
    path("async", async_view),
]
warnings.simplefilter("ignore")
from importlib import import_module
if module == "django.core":
    module += ".wsgi" if what in ("async-stream", "loops") else ".asgi"
library = import_module(module)

def scope(where):
    return {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": where, "raw_path": where.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"x")], "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 80), "state": {}}

async def ask(application, where):
    waiting = [{"type": "http.request", "body": b"", "more_body": False}]
    over = asyncio.Event()
    async def receive():
        if waiting:
            return waiting.pop()
        await over.wait()
        return {"type": "http.disconnect"}
    async def send(event):
        if event.get("body"):
            sent.append(len(made))
        if event["type"] == "http.response.body" and not event.get("more_body"):
            over.set()
    await application(scope(where), receive, send)

async def startup(application):
    answers = []
    waiting = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    async def receive():
        return waiting.pop()
    async def send(event):
        answers.append(event["type"])
    try:
        await application({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    except ValueError as error:
        return "ValueError"
    return answers[0]

def wsgi(application, where):
    import io
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": where, "QUERY_STRING": "", "SERVER_NAME": "x",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "x", "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.multithread": True,
        "wsgi.multiprocess": False, "wsgi.run_once": False}
    body = application(environ, lambda *args: None)
    for part in body:
        if part:
            sent.append(len(made))
    if hasattr(body, "close"):
        body.close()

if what in ("async-stream", "loops"):
    application = library.get_wsgi_application()
    if what == "async-stream":
        wsgi(application, "/async-stream")
        print("whole" if sent[0] == 3 else "in parts")
    else:
        wsgi(application, "/async")
        wsgi(application, "/async")
        print(len(set(map(id, loops))))
else:
    async def main():
        application = library.get_asgi_application()
        if what == "sync-stream":
            await ask(application, "/sync-stream")
            print("whole" if sent[0] == 3 else "in parts")
        elif what == "lifespan":
            print(await startup(application))
        else:
            await ask(application, "/sync")
            await ask(application, "/sync")
            print(len(set(threads)) if what == "threads" else environs[0])
    asyncio.run(main())
"""


def in_django(what: str) -> Probe:
    """What the script prints, with the functions of that module."""

    def probe(module: Any) -> str:
        name = module if isinstance(module, str) else module.__name__
        done = subprocess.run(
            [sys.executable, "-c", DJANGO, name, what],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return probe


# --- the rows --------------------------------------------------------------------------------------------------------


class Claim(NamedTuple):
    """What a probe sees of the old code and of the new."""

    probe: Probe
    old: Any
    new: Any


def starlettes() -> Make:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.middleware.wsgi import WSGIMiddleware
    return WSGIMiddleware


WSGI, ASGI, ASGIREF = "From a2wsgi, WSGIMiddleware", "From a2wsgi, ASGIMiddleware", "From asgiref"
UVICORN, STARLETTE, HYPERCORN = "From uvicorn.middleware.wsgi", "From starlette.middleware.wsgi", "From Hypercorn"
HANDLERS = "From Django's handlers"

PAIRS: dict[str, tuple[Any, Any]] = {
    WSGI: (a2wsgi.WSGIMiddleware, WsgiToAsgi),
    ASGI: (a2wsgi.ASGIMiddleware, AsgiToWsgi),
    ASGIREF: (asgiref.wsgi.WsgiToAsgi, WsgiToAsgi),
    UVICORN: (uvicorn.middleware.wsgi._WSGIMiddleware, WsgiToAsgi),
    STARLETTE: (starlettes(), WsgiToAsgi),
    HYPERCORN: (AsyncioWSGIMiddleware, WsgiToAsgi),
    HANDLERS: ("django.core", "bridge.django"),
}

X_USER = key("HTTP_X_USER", (b"x-user", b"real"), (b"x_user", b"forged"))
PROXY = key("HTTP_PROXY", (b"proxy", b"forged"))
COOKIES = Claim(key("HTTP_COOKIE", (b"cookie", b"a=1"), (b"cookie", b"b=2")), "a=1,b=2", "a=1; b=2")
NAMES = Claim(X_USER, "real,forged", "real")
ERRORS = Claim(errors, "stdout", "stderr")
PREFIX = Claim(other_prefix, "lication", "/application")
LEAVES_RESPONSE = Claim(mid_response, "ran to its end", "closed")
SCOPE = Claim(lambda make: seen_by_app(make, lambda environ: type(environ["asgi.scope"]) is dict), True, False)
BROKEN_OFF = {**environ_for("POST", "/", b"ab"), "CONTENT_LENGTH": "9"}
CHUNKED = {**environ_for("POST", "/", b"abc"), "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
del CHUNKED["CONTENT_LENGTH"]
WHOLE_BODY = Claim(events_before_call(2**20), True, False)
CLOSE, WRITE = Claim(close_called, False, True), Claim(has_write, False, True)
PORT = Claim(lambda make: seen_by_app(make, lambda environ: type(environ["SERVER_PORT"])), int, str)
ASCII = Claim(latin_1, False, True)
HEADERS_LEAVE = Claim(start_of_an_app_that_fails, True, False)
AHEAD = Claim(ahead, True, False)
COMPLETE = "lifespan.startup.complete"

ROWS: dict[tuple[str, str], list[Claim]] = {
    (WSGI, "Client leaves mid-upload"): [Claim(mid_upload, b"ab", OSError)],
    (WSGI, "Client leaves mid-response"): [LEAVES_RESPONSE],
    (WSGI, "Body without Content-Length"): [Claim(without_length, None, "6")],
    (WSGI, "Up to 1 MiB of body"): [Claim(events_before_call(1000), False, True)],
    (WSGI, "Headers leave"): [HEADERS_LEAVE],
    (WSGI, "Cookies of several headers"): [COOKIES],
    (WSGI, "`X_User` beside `X-User`"): [NAMES, Claim(PROXY, "forged", None)],
    (WSGI, "`wsgi.errors`"): [ERRORS],
    (WSGI, "SCRIPT_NAME"): [PREFIX, Claim(key("SCRIPT_NAME"), "/of the process", "")],
    (WSGI, "A response longer or shorter than its Content-Length"): [
        Claim(of_length(3), (5, False), (3, False)),
        Claim(of_length(9), (5, False), (0, True)),
    ],
    (WSGI, "Body of a response to HEAD, 204 or 304"): [Claim(of_length(5, "HEAD"), (5, False), (0, False))],
    (WSGI, '`environ["asgi.scope"]`'): [SCOPE],
    (WSGI, "All threads busy"): [Claim(busy, None, 503)],
    (WSGI, "Loops"): [Claim(on_trio, False, True)],
    (ASGI, "Lifespan"): [Claim(runs_lifespan, False, True)],
    (ASGI, "Work after the response"): [Claim(waits_for_work, True, False)],
    (ASGI, "The loop"): [Claim(starts_a_thread, True, False)],
    (ASGI, "App raises before its response"): [Claim(app_raises, b"Server got itself in trouble", LookupError)],
    (ASGI, "Server closes the response early"): [Claim(closed_early, None, "http.disconnect")],
    (ASGI, "Upload breaks off"): [Claim(of_body(BROKEN_OFF), [b"ab", b""], ["http.disconnect"])],
    (ASGI, "Chunked request body"): [Claim(of_body(CHUNKED), [b""], [b"abc", b""])],
    (ASGI, "Small response"): [Claim(list_of_one, False, True)],
    (ASGI, "`sync_to_async` code (Django's ORM)"): [Claim(own_thread, False, True)],
    (ASGIREF, "Requests at once"): [Claim(at_once, False, True)],
    (ASGIREF, "Request body"): [WHOLE_BODY],
    (ASGIREF, "Client leaves mid-upload"): [
        Claim(mid_upload, "not called", OSError),
        Claim(raised_mid_upload, ValueError, type(None)),
    ],
    (ASGIREF, "`close()` of the iterable"): [CLOSE],
    (ASGIREF, "`write()` of `start_response`"): [WRITE],
    (ASGIREF, "Body without Content-Length"): [Claim(without_length, None, "6")],
    (ASGIREF, "Lifespan, WebSocket"): [
        Claim(lifespan, ValueError, COMPLETE),
        Claim(websocket, ValueError, "websocket.close"),
    ],
    (ASGIREF, "`environ`"): [
        Claim(
            lambda make: seen_by_app(
                make, lambda environ: {"asgi.scope", "REMOTE_PORT", "wsgi.file_wrapper"} & environ.keys()
            ),
            set(),
            {"asgi.scope", "REMOTE_PORT", "wsgi.file_wrapper"},
        )
    ],
    (ASGIREF, "Cookies, names with `_`, path prefixes"): [COOKIES, NAMES, PREFIX],
    (UVICORN, "Request body"): [WHOLE_BODY],
    (UVICORN, "An app that is faster than its client"): [AHEAD],
    (UVICORN, "`close()` of the iterable"): [CLOSE],
    (UVICORN, "`write()` of `start_response`"): [WRITE],
    (UVICORN, "Context variables of middleware"): [Claim(context, "not seen", "seen")],
    (UVICORN, "SERVER_PORT"): [PORT],
    (UVICORN, "Header values"): [ASCII],
    (UVICORN, "Lifespan"): [Claim(lifespan, AssertionError, COMPLETE)],
    (UVICORN, "Client leaves, cookies, names with `_`, `wsgi.errors`, path prefixes"): [
        LEAVES_RESPONSE,
        COOKIES,
        NAMES,
        ERRORS,
        PREFIX,
    ],
    (STARLETTE, "Threads"): [Claim(in_anyio_threads, True, False)],
    (STARLETTE, "Request body"): [WHOLE_BODY],
    (STARLETTE, "An app that is faster than its client"): [AHEAD],
    (STARLETTE, "`close()` of the iterable"): [CLOSE],
    (STARLETTE, "`write()` of `start_response`"): [WRITE],
    (STARLETTE, "Headers leave"): [HEADERS_LEAVE],
    (STARLETTE, "SERVER_PORT"): [PORT],
    (STARLETTE, "Header values"): [ASCII],
    (STARLETTE, "Lifespan"): [Claim(lifespan, AssertionError, COMPLETE)],
    (STARLETTE, "Client leaves, cookies, names with `_`, `wsgi.errors`"): [LEAVES_RESPONSE, COOKIES, NAMES, ERRORS],
    (HYPERCORN, "A body above the limit"): [Claim(above_limit, 400, 413)],
    (HYPERCORN, "Request body"): [Claim(whole_body_within_limit, True, False)],
    (HYPERCORN, "A response without a chunk"): [Claim(no_chunk, 0, 204)],
    (HYPERCORN, "`write()` of `start_response`"): [WRITE],
    (HYPERCORN, "Context variables of middleware"): [Claim(context, "not seen", "seen")],
    (HYPERCORN, "SERVER_PORT"): [PORT],
    (HYPERCORN, "Lifespan"): [Claim(lifespan, "nothing", COMPLETE)],
    (HYPERCORN, "Client leaves, cookies, names with `_`, `wsgi.errors`"): [LEAVES_RESPONSE, COOKIES, NAMES, ERRORS],
    (HANDLERS, "Sync stream on an ASGI server"): [Claim(in_django("sync-stream"), "whole", "in parts")],
    (HANDLERS, "Async stream on a WSGI server"): [Claim(in_django("async-stream"), "whole", "in parts")],
    (HANDLERS, "Async views on a WSGI server"): [Claim(in_django("loops"), "2", "1")],
    (HANDLERS, "Sync views on an ASGI server"): [Claim(in_django("threads"), "2", "1")],
    (HANDLERS, "`request.environ` on an ASGI server"): [Claim(in_django("environ"), "False", "True")],
    (HANDLERS, "Lifespan of the server"): [Claim(in_django("lifespan"), "ValueError", COMPLETE)],
}
# Rows that need a real server, and the test that drives one.
ELSEWHERE = {
    (
        ASGI,
        "Client leaves while the app is quiet",
    ): "real_servers/cases.py::test_an_app_that_sends_nothing_is_told_of_the_leave"
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_row(row: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The old code does what its column says, and the new code what is beside it."""
    if row == (WSGI, "SCRIPT_NAME"):
        monkeypatch.setenv("SCRIPT_NAME", "/of the process")
    old, new = PAIRS[row[0]]
    for claim in ROWS[row]:
        assert (claim.old, claim.new) == (claim.probe(old), claim.probe(new))


def test_each_row_is_run() -> None:
    """The tables have no row that is not run here, and no run is of a row that is not there."""
    there = {(title, row[0]) for title in PAIRS for row in rows(section(PAGE, f"## {title}"))}
    assert there == ROWS.keys() | ELSEWHERE.keys()
    for name in ELSEWHERE.values():
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
