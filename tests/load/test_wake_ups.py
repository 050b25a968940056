"""Threads and loops that wait for each other, as often as there is time: no wake-up is lost. `make stress` has longer.

Nothing looks by the clock here. So a wake-up that is lost is a hang, and `run` says where the threads are.
"""

import asyncio
import faulthandler
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from asgiref.sync import sync_to_async

from bridge import WsgiToAsgi
from bridge._concurrency.byte_queue import HIGH_WATER_BYTES
from bridge._concurrency.loops import AsyncioLoop, Posted
from support.patience import PATIENCE
from support.plain_servers import environ_for, scope_for
from support.scripted_wsgi_server import Served, adapted

# All fourteen together take about three times as long as is asked for.
SECONDS = float(os.environ.get("BRIDGE_STRESS_SECONDS", "1")) / 5
LONGEST_PAUSE = 2000  # turns of an empty loop: about as long as it takes to wake a thread
# More than what may be in flight, so that the writer has to wait each time.
FULL = bytes(HIGH_WATER_BYTES + 1)

pytestmark = [pytest.mark.usefixtures("nothing_waits_by_the_clock"), pytest.mark.timeout(SECONDS + 4 * PATIENCE)]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def factory(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def stacks_of_a_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(SECONDS + PATIENCE)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def pause() -> None:
    for _ in range(random.randrange(LONGEST_PAUSE)):
        pass


class Clock:
    """Says whether there is time for another one, and counts. It takes its time, now more and now less, so that each
    side comes at each moment of the other.
    """

    def __init__(self) -> None:
        self.count = 0
        self._end = time.monotonic() + SECONDS
        self._over = threading.Event()

    def more(self) -> bool:
        self.count += 1
        pause()
        more = self.count == 1 or time.monotonic() < self._end
        if not more:
            self._over.set()
        return more

    def end(self) -> None:
        """Wait until there is no more time, for at most `PATIENCE` longer."""
        assert self._over.wait(SECONDS + PATIENCE), f"it hangs after {self.count} hand-overs"


class Dropping(Served):
    """A server that keeps nothing of the response."""

    def drop(self) -> None:
        """One request. In the thread."""
        body = self.app(self.environ, lambda *_: None)
        for _ in body:
            pass
        body.close()


def run(factory: Any, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on a new loop, and fail instead of waiting for ever."""

    async def limited() -> None:
        async with asyncio.timeout(SECONDS + PATIENCE):
            await function()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(limited())


@pytest.mark.parametrize("chunk", [b"x", FULL], ids=["small", "full"])
def test_a_wsgi_app_and_its_loop(factory: Any, chunk: bytes) -> None:
    """The next byte of the upload comes once the answer to the last one has come."""
    clock = Clock()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        while environ["wsgi.input"].read(1):
            yield chunk
            pause()

    async def ask() -> None:
        answered = asyncio.Event()
        answered.set()

        async def receive() -> Any:
            await answered.wait()
            answered.clear()
            more = clock.more()
            return {"type": "http.request", "body": b"x" if more else b"", "more_body": more}

        async def send(event: Any) -> None:
            if event.get("body"):
                await asyncio.sleep(0)
                answered.set()

        with WsgiToAsgi(app, collect=0, stream_chunked=True) as adapter:
            scope = scope_for("POST", "/", [(b"transfer-encoding", b"chunked")])
            await adapter(scope, receive, send)

    run(factory, ask)
    print(clock.count, "hand-overs")


@pytest.mark.parametrize("chunk", [b"x", FULL], ids=["small", "full"])
def test_an_asgi_app_and_its_thread(factory: Any, chunk: bytes) -> None:
    """The same behind a WSGI server. A task listens meanwhile, so that the thread tells it when it works."""
    clock = Clock()

    class Input:
        def read(self, size: int) -> bytes:
            return b"x" if clock.more() else b""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            more = (await receive())["more_body"]
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

    environ = environ_for("POST", "/", wsgi__input=Input(), wsgi__input_terminated=True)
    with adapted(app, loop_factory=factory) as adapter, Dropping(adapter, environ) as served:
        ended = served.thread.begin(served.drop)
        clock.end()
        ended()
    print(clock.count, "hand-overs")


def test_work_in_the_servers_thread(factory: Any) -> None:
    """Each piece of it is put, done and told. A task listens meanwhile, and is told each time that the thread works."""
    clock = Clock()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        listening = asyncio.create_task(receive())
        while clock.more():
            await sync_to_async(int)()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
        await listening

    with adapted(app, loop_factory=factory) as adapter, Dropping(adapter) as served:
        ended = served.thread.begin(served.drop)
        clock.end()
        ended()
    print(clock.count, "hand-overs")


def test_requests_and_idle_threads(factory: Any) -> None:
    """Some at once, then none: threads go to sleep and are woken all the time."""
    clock = Clock()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(event: Any) -> None:
            pass

        with WsgiToAsgi(app, threads=3) as adapter:
            while clock.more():
                requests = [adapter(scope_for("GET", "/"), receive, send) for _ in range(clock.count % 4 + 1)]
                await asyncio.gather(*requests)

    run(factory, ask)
    print(clock.count, "hand-overs")


def test_posts(factory: Any) -> None:
    """Some, and then none until all are delivered: so the last one cannot rely on the next."""
    clock = Clock()

    async def deliver() -> None:
        loop = AsyncioLoop(asyncio.get_running_loop())

        def post() -> None:
            delivered = threading.Semaphore(0)
            while clock.more():
                posts = random.randint(1, 3)
                for _ in range(posts):
                    loop.post(Posted(delivered.release))
                    pause()
                for _ in range(posts):
                    assert delivered.acquire(timeout=PATIENCE), "a post was lost"

        await asyncio.to_thread(post)

    run(factory, deliver)
    print(clock.count, "hand-overs")


def test_a_hang_is_a_failure() -> None:
    """What these tests rely on."""

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(run.__globals__, "PATIENCE", 0.01)
        patch.setitem(run.__globals__, "SECONDS", 0.01)
        with pytest.raises(TimeoutError):
            run(asyncio.new_event_loop, hang)
