"""Requests that meet `close()`: each is served, by the life that ends or by the next, and counted once."""

import io
import threading
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from bridge import AsgiToWsgi
from bridge._asgi_to_wsgi import Portal
from bridge._asgi_to_wsgi.lifespan import LifespanRun
from bridge._asgi_to_wsgi.task import Task
from bridge._concurrency import private_loop
from bridge._concurrency.loops import LoopClosed
from bridge._concurrency.private_loop import MeasuredLoop
from support.asgi_apps import hello, reply
from support.plain_servers import environ_for
from support.python_process import run_script
from support.scripted_wsgi_server import adapted, ask
from support.waiting import Flag, Work, bounded

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


class TestBetweenFindingAndAsking:
    """A thread may have found its runner, and come to it when the adapter has been closed: the next one serves it."""

    @pytest.mark.parametrize("lifespan", ["off", "on"])
    def test_the_runner_is_closed_and_its_loop_goes_on(self, lifespan: str) -> None:
        """Another adapter needs the loop."""
        with adapted(hello, lifespan="off") as other, StoppedBeforeItsPost(lifespan) as stopped:
            ask(other)
            stopped.close()
            assert b"served" == stopped.go_on()

            assert (1, 0) == (stopped.adapter.stats().served, stopped.adapter.stats().aborted)

    @pytest.mark.parametrize("lifespan", ["off", "on"])
    def test_the_loop_is_closed(self, lifespan: str) -> None:
        with StoppedBeforeItsPost(lifespan) as stopped:
            stopped.close()
            assert b"served" == stopped.go_on()

            assert (1, 0) == (stopped.adapter.stats().served, stopped.adapter.stats().aborted)

    def test_what_was_read_of_the_body_is_not_lost(self) -> None:
        environ = environ_for("POST", "/", wsgi__input=io.BytesIO(b"body"), CONTENT_LENGTH="4")
        with StoppedBeforeItsPost("off", environ) as stopped:
            stopped.close()
            assert b"body" == stopped.go_on()

    def test_the_startup_is_that_of_the_next_life(self) -> None:
        with StoppedBeforeItsPost("on") as stopped:
            stopped.close()
            stopped.go_on()
            assert [1, 2] == stopped.app.lives
            assert [2] == stopped.app.seen

    def test_a_startup_that_had_not_begun(self) -> None:
        """The first request: its thread is stopped before it asks for the startup."""
        with StoppedBeforeItsPost("on", first=True) as stopped:
            stopped.close()
            assert b"served" == stopped.go_on()
            assert [1] == stopped.app.seen

    def test_what_the_loop_had_not_come_to_when_it_was_closed(self) -> None:
        """Nobody would ever answer it."""
        holder = object()
        loop = private_loop.acquire(None, holder)
        told: list[str] = []

        class Late:
            def run_on_loop(self) -> None:
                told.append("run")

            def turn_away(self) -> None:
                told.append("closed")

        bounded(lambda: private_loop.release(loop, holder))
        loop.loop._posted.append(Late())
        with pytest.raises(LoopClosed):
            loop.loop.post(Late())

        assert ["closed", "closed"] == told

    def test_async_code_for_a_thread(self) -> None:
        portal = Portal.of(None)
        at_post, go_on = Flag(), Flag()

        async def answer() -> str:
            return "answered"

        bounded(lambda: portal.call(environ_for("GET", "/"), answer))
        with pytest.MonkeyPatch.context() as patch:
            stop_once_at_post(patch, at_post, go_on)
            asked = Work(lambda: portal.call(environ_for("GET", "/"), answer))
            at_post.wait()
            patch.undo()
            bounded(portal.close)
            go_on.set()
            assert "answered" == asked.result()
        bounded(portal.close)

    def test_an_async_iterable_for_a_thread(self) -> None:
        portal = Portal.of(None)
        at_post, go_on = Flag(), Flag()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"

        def iterate() -> list[bytes]:
            iterator = portal.iterate(environ_for("GET", "/"), chunks)
            try:
                return list(iterator)
            finally:
                iterator.close()

        with pytest.MonkeyPatch.context() as patch:
            assert [b"one"] == bounded(iterate)
            stop_once_at_post(patch, at_post, go_on)
            asked = Work(iterate)
            at_post.wait()
            patch.undo()
            bounded(portal.close)
            go_on.set()
            assert [b"one"] == asked.result()
        bounded(portal.close)


def stop_once_at_post(patch: pytest.MonkeyPatch, at_post: Flag, go_on: Flag) -> None:
    """Hold the next thread that posts a task or a startup before it does so."""
    genuine = MeasuredLoop.post

    def post(handle: MeasuredLoop, target: Any) -> None:
        if isinstance(target, Task | LifespanRun) and not at_post.is_set():
            at_post.set()
            go_on.wait()
        genuine(handle, target)

    patch.setattr(MeasuredLoop, "post", post)


class LivesApp:
    """Counts its lives, and tells each request which it is in; answers with the body, or else with "served"."""

    def __init__(self) -> None:
        self.lives: list[int] = []
        self.seen: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.lives.append(len(self.lives) + 1)
            scope["state"]["life"] = self.lives[-1]
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.seen.append(scope["state"].get("life", 0))
        await reply(send, (await receive())["body"] or b"served")


class StoppedBeforeItsPost:
    """A request whose thread has found the runner, and has not said a word to it; an earlier one was served, unless
    this is the `first`.
    """

    def __init__(self, lifespan: str, environ: Any = None, *, first: bool = False) -> None:
        self.app = LivesApp()
        self.adapter = AsgiToWsgi(self.app, lifespan=lifespan, shutdown_timeout=3.0)  # type: ignore[arg-type]
        self._environ = environ or environ_for("GET", "/")
        self._first = first
        self._at_post, self._go_on = Flag(), Flag()

    def __enter__(self) -> Self:
        if not self._first:
            bounded(self.adapter._runners.here)
        with pytest.MonkeyPatch.context() as patch:
            stop_once_at_post(patch, self._at_post, self._go_on)
            self._work = Work(lambda: ask(self.adapter, self._environ).body)
            self._at_post.wait()
        return self

    def close(self) -> None:
        bounded(self.adapter.close)

    def go_on(self) -> bytes:
        self._go_on.set()
        return self._work.result()

    def __exit__(self, *exc_info: object) -> None:
        bounded(self.adapter.close)


def test_refusals_in_several_threads_are_all_counted() -> None:
    """They never come to the loop, which counts all else."""
    with adapted(hello) as adapter:
        ready = threading.Barrier(8)

        def refused() -> None:
            ready.wait(60)
            for _ in range(200):
                b"".join(adapter(environ_for("GET", "/", CONTENT_LENGTH="x"), lambda *_: None))

        for work in [Work(refused) for _ in range(8)]:
            work.result()

        assert 1600 == adapter.stats().rejected


def test_first_registrations_for_the_exit_at_once_lose_none() -> None:
    """Each of them is closed at the exit."""
    script = """
import threading
from bridge._servers.process import register
class Closing:
    def exit(self, timeout=None):
        closed.append(self)
closed, made = [], [Closing() for _ in range(16)]
ready = threading.Barrier(16)
def main(closing):
    ready.wait(60)
    register(closing)
threads = [threading.Thread(target=main, args=(closing,)) for closing in made]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
import atexit
from bridge._servers import process
process.close_all()
print(len(set(closed)))
"""
    assert ["16"] == run_script(script)
