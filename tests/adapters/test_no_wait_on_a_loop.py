"""Nothing of ours that waits is entered on the thread of an event loop: each place refuses at once, and says why.

Each is called on a loop that would otherwise stand still, in most cases for good. That loop runs in a thread of its
own, so that a wait fails the test and does not hold it.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi
from bridge._asgi_to_wsgi.lifespan import LifespanRun
from bridge._asgi_to_wsgi.portal import Portal
from bridge._concurrency import private_loop
from bridge.django._bridge import ServerBridge
from support.asgi_apps import chunk, end, hello, start
from support.plain_servers import environ_for
from support.scripted_asgi_server import Environ, get, opened, piece_event, post
from support.scripted_wsgi_server import Served, adapted, ask
from support.sizes import MIB
from support.waiting import Flag, OneThread, bounded
from support.wsgi_apps import Gate

Kind = tuple[str, dict[str, Any]]
on_each_loop = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(("asyncio", {}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ],
)
pytestmark = on_each_loop


def run(kind: Kind, main: Callable[[], Any]) -> Any:
    """Run a coroutine function on a loop of that kind."""
    return bounded(lambda: anyio.run(main, backend=kind[0], backend_options=kind[1]))


def refusal_here(function: Callable[[], object]) -> str:
    """What a function says that is called on the loop of this thread."""
    with pytest.raises(RuntimeError, match=r"on an event loop, which this would block; .") as raised:
        function()
    return str(raised.value).partition("; ")[2]


def refusal(kind: Kind, function: Callable[[], object]) -> str:
    """What a function says that is called on a loop of its own."""

    async def main() -> str:
        return refusal_here(function)

    said: str = run(kind, main)
    return said


# --- a WSGI app on an ASGI server


class Held:
    """A WSGI app that waits in its thread, and leaves what it was given to the test."""

    def __init__(self) -> None:
        self.entered, self.go = Flag(), Flag()
        self.input: Any = None
        self.write: Any = None
        self.read = b""

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        self.input = environ["wsgi.input"]
        self.write = start_response("200 OK", [])
        self.entered.set()
        self.go.wait()
        self.read = self.input.read()
        return []


def write_much(app: Held) -> None:
    """The client takes nothing: what may be in flight is soon reached."""
    for _ in range(100):
        app.write(b"x" * MIB)


REQUEST: dict[str, Callable[[Held], object]] = {
    "read": lambda app: app.input.read(),
    "read some": lambda app: app.input.read(2 * MIB),
    "readline": lambda app: app.input.readline(),
    "readlines": lambda app: app.input.readlines(),
    "iterate": lambda app: list(app.input),
    "write": write_much,
}


@pytest.mark.parametrize("wait", REQUEST.values(), ids=REQUEST)
def test_a_request_body_and_write(kind: Kind, wait: Callable[[Held], object]) -> None:
    """On the loop of the server, which would have to receive the rest, or to send what is in flight."""
    app = Held()
    adapter = WsgiToAsgi(app, shutdown_timeout=2.0)

    async def main() -> str:
        async with opened(adapter, *post(b"half", length=3 * MIB, ends=False)) as request:
            request.feed(piece_event(b"x" * MIB, more=True))
            await app.entered.waited()
            try:
                return refusal_here(lambda: wait(app))
            finally:
                request.leave()
                app.go.set()

    said = run(kind, main)
    bounded(adapter.close)

    assert said.startswith("do it before the async code begins, or in the thread of the request")


def test_the_thread_reads_on_after_a_refusal(kind: Kind) -> None:
    """What was refused on the loop has taken nothing of the body."""
    app = Held()
    adapter = WsgiToAsgi(app, shutdown_timeout=2.0)

    async def main() -> None:
        async with opened(adapter, *post(b"", length=3 * MIB, ends=False)) as request:
            request.feed(piece_event(b"x" * 2 * MIB, more=True))
            await app.entered.waited()
            app.input.peek()
            refusal_here(lambda: [app.input.read1() for _ in range(100)])
            request.feed(piece_event(b"y" * MIB, more=False))
            app.go.set()

    run(kind, main)
    bounded(adapter.close)

    assert app.read.endswith(b"y" * MIB)


def test_close_of_wsgi_to_asgi(kind: Kind) -> None:
    """While a request runs, close() would wait for its thread."""
    app = Gate()
    adapter = WsgiToAsgi(app, shutdown_timeout=2.0)

    async def main() -> str:
        async with opened(adapter, *get("/held")) as request:
            await app.entered.waited()
            said = refusal_here(adapter.close)
            app.go.set()
            await request.ended()
            assert request.body == b"served"
            return said

    said = run(kind, main)
    bounded(adapter.close)

    assert said.startswith("leave it to the lifespan's shutdown, or call it in a thread")


# --- an ASGI app on a WSGI server


def test_a_call_of_asgi_to_wsgi(kind: Kind) -> None:
    """Before it has started anything."""
    with adapted(hello) as adapter:
        said = refusal(kind, lambda: adapter(environ_for("GET", "/"), lambda *_: None))
        assert ask(adapter).body == b"hello"

    assert said == "call it in a thread (asyncio.to_thread)"


def test_close_of_asgi_to_wsgi(kind: Kind) -> None:
    """Where there is something to end; it goes on as before."""
    with adapted(hello) as adapter:
        ask(adapter)
        said = refusal(kind, adapter.close)
        assert ask(adapter).body == b"hello"

    assert said == "call it in a thread (asyncio.to_thread)"


def test_close_of_mounts(kind: Kind) -> None:
    """It closes the adapters that it has made."""
    site = Mounts({"/": hello})
    ask(site.wsgi)
    said = refusal(kind, site.close)
    bounded(site.close)

    assert said == "call it in a thread (asyncio.to_thread)"


class Steps:
    """An ASGI app that sends a chunk, waits for `go`, sends the last one (`sent`), and waits for `end`."""

    def __init__(self) -> None:
        self.go, self.sent, self.end = Flag(), Flag(), Flag()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await chunk(send, b"1")
        await self.go.waited()
        await end(send)
        self.sent.set()
        await self.end.waited()


@contextlib.contextmanager
def begun(app: Steps, **options: Any) -> Iterator[tuple[AsgiToWsgi, Served]]:
    """A response whose first chunk has been taken, in the server's thread."""
    with adapted(app, **options) as adapter, Served(adapter) as served:
        try:
            served.call()
            assert served.next() == b"1"
            yield adapter, served
        finally:
            app.go.set()
            app.end.set()
            served.close()


RESPONSE = "iterate over it, and close it, in a thread (asyncio.to_thread)"


def test_the_next_chunk_of_a_response(kind: Kind) -> None:
    """The iterable of `AsgiToWsgi`, whose app takes its time."""
    with begun(Steps()) as (_, served):
        said = refusal(kind, lambda: next(served.result))

    assert said == RESPONSE


def test_close_of_a_response(kind: Kind) -> None:
    """That of an app which is still at work, where the server's thread is to stay for that."""
    app = Steps()
    with begun(app, background="before") as (_, served):
        app.go.set()
        app.sent.wait()
        said = refusal(kind, served.result.close)

    assert said == RESPONSE


def test_the_startup_of_an_application(kind: Kind) -> None:
    """Somebody has to wait for it, and that is no loop."""
    user = object()
    private = bounded(lambda: private_loop.acquire(None, user))
    startup = LifespanRun(hello, private.loop, lambda: None, demanded=False)
    said = refusal(kind, lambda: startup.start(5.0))
    bounded(lambda: private_loop.release(private, user))

    assert said == "do it in a thread (asyncio.to_thread)"


# --- the private loop


def test_the_start_of_the_private_loop(kind: Kind) -> None:
    """Nothing is left of it."""
    assert refusal(kind, lambda: private_loop.acquire(None, object())) == "do it in a thread (asyncio.to_thread)"


def test_the_end_of_the_private_loop(kind: Kind) -> None:
    """On a loop it can be told to stop, but not waited for."""
    user, thread = object(), OneThread()
    private = thread.run(lambda: private_loop.acquire(None, user))
    said = refusal(kind, lambda: private.stop(wait=True))
    assert private.usable
    thread.run(lambda: private_loop.release(private, user))
    thread.end()

    assert said == "do it in a thread (asyncio.to_thread)"


# --- async code for sync code


async def nothing() -> None:
    """Is never run."""


class Slow:
    """An async iterable that takes its time, and takes it for its end as well."""

    def __init__(self) -> None:
        self.end = Flag()

    async def __call__(self) -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep_forever()
        finally:
            await self.end.waited()


@contextlib.contextmanager
def portal() -> Iterator[Portal]:
    made = Portal.of(None)
    try:
        yield made
    finally:
        bounded(made.close)


PORTAL: dict[str, Callable[[Portal], object]] = {
    "call": lambda portal: portal.call({}, nothing),
    "iterate": lambda portal: portal.iterate({}, Slow()),
    "state": lambda portal: portal.state(),
}


@pytest.mark.parametrize("wait", PORTAL.values(), ids=PORTAL)
def test_the_way_to_a_loop(kind: Kind, wait: Callable[[Portal], object]) -> None:
    """It begins in a thread."""
    with portal() as made:
        assert refusal(kind, lambda: wait(made)) == "call it in a thread (asyncio.to_thread)"


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_call_async(kind: Kind, interface: str) -> None:
    """Async code can await what it would have had called."""
    request: Any = SimpleNamespace(environ={"asgi.scope": {}} if interface == "asgi" else {})
    with portal() as made:
        said = refusal(kind, lambda: ServerBridge(request, made).call_async(nothing))

    assert said == "await the function instead"


@pytest.mark.parametrize("wait", [next, lambda chunks: chunks.close()], ids=["next", "close"])
def test_a_stream_made_on_the_private_loop(kind: Kind, wait: Callable[[Any], object]) -> None:
    """Its chunks are for a thread."""
    server, slow = OneThread(), Slow()
    with portal() as made:
        chunks = server.run(lambda: made.iterate({}, slow))
        assert server.run(lambda: next(chunks)) == b"x"
        said = refusal(kind, lambda: wait(chunks))
        slow.end.set()
        server.run(chunks.close)
    server.end()

    assert said == RESPONSE
