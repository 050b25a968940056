"""The private event loop: rented and given up, native under monkey patching, and not the application's to end."""

import asyncio
import concurrent.futures
import contextvars
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from bridge._concurrency import private_loop
from bridge._concurrency.loops import LoopClosed, Posted
from bridge._concurrency.private_loop import MeasuredLoop, PrivateLoop
from support.asgi_apps import hello, reply
from support.plain_servers import environ_for
from support.python_process import run_script
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import PATIENCE, Flag, LogWatch, bounded, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


FACTORIES = pytest.mark.parametrize("factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


def thread_of_the_loop() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "bridge-loop"]


def run_on(loop: PrivateLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the loop, from this thread."""
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()

    async def run() -> None:
        try:
            done.set_result(await coroutine)
        except BaseException as error:
            done.set_exception(error)

    class Arriving:
        def run_on_loop(self) -> None:
            loop.loop.spawn(run(), contextvars.Context())

    loop.loop.post(Arriving())
    return done.result(PATIENCE)


class TasklessLoop(asyncio.SelectorEventLoop):
    def create_task(self, coroutine: Any, **options: Any) -> Any:
        coroutine.close()
        return 1 // 0


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture(name="loop")
def loop_fixture() -> Iterator[PrivateLoop]:
    """A loop that the test has rented."""
    user = object()
    loop = bounded(lambda: private_loop.acquire(None, user))
    yield loop
    bounded(lambda: private_loop.release(loop, user))


class TestRent:
    """Kept running until every user has given it up."""

    def test_nothing_is_there_before(self) -> None:
        until(lambda: not thread_of_the_loop())

    def test_one_loop_for_all_tenants_of_a_factory(self) -> None:
        first, second = object(), object()
        loop = private_loop.acquire(None, first)

        assert loop is private_loop.acquire(None, second)
        assert loop is private_loop.acquire(None, second)
        assert ["bridge-loop"] == thread_of_the_loop()
        bounded(lambda: private_loop.release(loop, second))
        assert loop.usable
        bounded(lambda: private_loop.release(loop, first))
        assert not loop.usable
        until(lambda: not thread_of_the_loop())

    def test_after_the_last_there_is_another_one(self, loop: PrivateLoop) -> None:
        user = object()
        bounded(lambda: private_loop.release(loop, user))  # it never was one: nothing happens to the others
        assert loop.usable

        other = private_loop.acquire(uvloop.new_event_loop, user)
        assert other is not loop
        bounded(lambda: private_loop.release(other, user))
        again = private_loop.acquire(uvloop.new_event_loop, user)
        assert again is not other
        bounded(lambda: private_loop.release(again, user))

    def test_its_thread_is_a_daemon(self, loop: PrivateLoop) -> None:
        """A server that exits without our knowledge is not kept from it."""
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "bridge-loop"]

        assert thread.daemon
        assert thread is not threading.current_thread()

    @pytest.mark.parametrize(
        "factory", [lambda: 1 // 0, lambda: object(), lambda: TasklessLoop()], ids=["raises", "is none", "is broken"]
    )
    def test_a_factory_that_fails_is_an_error_and_may_succeed_later(self, factory: Any) -> None:
        user = object()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="could not be started") as raised:
                bounded(lambda: private_loop.acquire(factory, user))
            assert isinstance(raised.value.__cause__, (ZeroDivisionError, AttributeError))
        until(lambda: not thread_of_the_loop())

    def test_a_factory_whose_loop_cannot_run_is_an_error(self) -> None:
        """Whoever waits for the start of the loop hears of it; a loop of somebody else's is left alone."""
        closed = asyncio.new_event_loop()
        closed.close()
        with pytest.raises(RuntimeError, match="could not be started"):
            bounded(lambda: private_loop.acquire(lambda: closed, object()))

        async def main() -> asyncio.AbstractEventLoop:
            running = asyncio.get_running_loop()
            with pytest.raises(RuntimeError, match="could not be started") as raised:
                await asyncio.to_thread(lambda: bounded(lambda: private_loop.acquire(lambda: running, object())))
            assert "runs in another thread" in str(raised.value.__cause__)
            return running

        assert asyncio.run(main()).is_closed()

    def test_a_factory_that_fails_fails_the_requests(self) -> None:
        good = False

        def factory() -> asyncio.AbstractEventLoop:
            if not good:
                raise OSError("no more file descriptors")
            return asyncio.new_event_loop()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"ok")

        with adapted(app, loop_factory=factory) as adapter:
            with Served(adapter) as served, pytest.raises(RuntimeError, match="could not be started"):
                served.call()
            good = True
            assert b"ok" == ask(adapter).body


class TestRunning:
    """What runs on it cannot end it."""

    @FACTORIES
    def test_it_runs_what_is_posted(self, factory: Any) -> None:
        user = object()
        loop = private_loop.acquire(factory, user)
        running = run_on(loop, running_loop())

        assert isinstance(running, uvloop.Loop) == (factory is not None)
        assert running is run_on(loop, running_loop())
        bounded(lambda: private_loop.release(loop, user))
        assert running.is_closed()
        with pytest.raises(LoopClosed):
            loop.loop.post(Nothing())

    def test_it_counts_its_tasks(self, loop: PrivateLoop) -> None:
        async def start_two() -> list[asyncio.Task[None]]:
            return [asyncio.create_task(asyncio.sleep(3600)) for _ in range(2)]

        async def cancel(tasks: list[asyncio.Task[None]]) -> None:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        tasks = run_on(loop, start_two())
        run_on(loop, asyncio.sleep(0))
        assert loop.tasks() in (2, 3), "the one that ran last may not have ended yet"
        run_on(loop, cancel(tasks))

    def test_it_says_where_it_is(self, loop: PrivateLoop) -> None:
        async def ask_from_within() -> str:
            return loop.describe()

        description = run_on(loop, ask_from_within())

        assert "bridge-loop" in description
        assert "ask_from_within" in description

    def test_it_measures_how_long_it_was_blocked(self, loop: PrivateLoop) -> None:
        blocked, posted = Flag(), Flag()

        async def block() -> None:
            blocked.set()
            posted.wait()

        class Arriving:
            def run_on_loop(self) -> None:
                loop.loop.spawn(block(), contextvars.Context())

        loop.loop.post(Arriving())
        blocked.wait()
        loop.loop.post(Nothing())
        waited = loop.loop.blocked_for
        while loop.loop.blocked_for == waited:
            pass
        assert loop.loop.blocked_for > waited
        posted.set()
        run_on(loop, asyncio.sleep(0))
        assert loop.loop.longest_block > waited
        assert 0.0 == loop.loop.blocked_for

    @FACTORIES
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_an_exit_out_of_a_callback_is_contained(
        self, kind: type[BaseException], factory: Any, log: LogWatch
    ) -> None:
        def exits() -> None:
            raise kind("of a callback")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            asyncio.get_running_loop().call_soon(exits)
            await asyncio.sleep(0.001)
            await reply(send, b"went on")

        with adapted(app, loop_factory=factory) as adapter:
            assert [b"went on"] * 2 == [ask(adapter).body for _ in range(2)]

        assert 2 == len(log.having("ERROR", "of a callback"))

    def test_an_app_that_cancels_all_tasks_does_not_end_it(self) -> None:
        """As some do when they shut themselves down; the requests among them fail, and the next ones are served."""
        loops: list[asyncio.AbstractEventLoop] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            if scope["path"] == "/sin":
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await asyncio.sleep(0.001)
            await reply(send, b"ok")

        with adapted(app) as adapter:
            ask(adapter)
            assert b"ok" == ask(adapter, environ_for("GET", "/sin")).body
            assert b"ok" == ask(adapter).body

        assert 1 == len(set(loops))


def test_a_factory_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request gets an error that says where it waits, and the next one another loop. The late one ends at once."""
    monkeypatch.setattr(private_loop, "_START_SECONDS", 0.05)
    go, entered = Flag(), Flag()
    late: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        if not entered.is_set():
            entered.set()
            go.wait()
            late.append(asyncio.new_event_loop())
            return late[0]
        return asyncio.new_event_loop()

    with adapted(hello, loop_factory=factory) as adapter:
        with pytest.raises(RuntimeError, match=r"has not started in 0\.05 seconds: (.|\n)*go\.wait"):
            ask(adapter)
        monkeypatch.setattr(private_loop, "_START_SECONDS", PATIENCE)
        assert b"hello" == ask(adapter).body
        go.set()
        until(lambda: late and late[0].is_closed())
        assert b"hello" == ask(adapter).body


def test_a_signal_ends_the_wait_for_it() -> None:
    """Ctrl-C during the first request of a server whose main thread serves. The loop that nobody has ends at once."""
    go = Flag()
    made: list[asyncio.AbstractEventLoop] = []

    class Stopped(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    def factory() -> asyncio.AbstractEventLoop:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        go.wait()
        made.append(asyncio.new_event_loop())
        return made[0]

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(Stopped):
            private_loop.acquire(factory, object())
    finally:
        signal.signal(signal.SIGUSR1, before)
        go.set()
    until(lambda: made and made[0].is_closed())
    until(lambda: not thread_of_the_loop())


class Nothing:
    def run_on_loop(self) -> None:
        pass


class AtTheFlag(MeasuredLoop):
    """Another thread posts in the very moment in which the loop takes the flag down."""

    posts = False
    _flag = False

    @property
    def signalled(self) -> bool:  # type: ignore[override]
        return self._flag

    @signalled.setter
    def signalled(self, value: bool) -> None:
        if self.posts and not value:
            self.posts = False
            self.post(Nothing())
        self._flag = value


def test_a_post_while_the_loop_begins_to_deliver_is_not_taken_for_one_that_waits() -> None:
    """Its clock would run until the next post, and the loop be blamed for a block of that length."""

    async def main() -> None:
        handle = AtTheFlag(asyncio.get_running_loop())
        handle.post(Nothing())
        handle.posts = True
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not handle.posts
        assert handle.blocked_for == 0.0

    asyncio.run(main())


class TestSignals:
    """How a post wakes the loop."""

    def test_through_sockets_of_its_own(self, loop: PrivateLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        handle = loop.loop
        monkeypatch.setattr(handle.loop, "call_soon_threadsafe", None)
        assert thread_of_the_loop() == [run_on(loop, name_of_the_thread())]

    def test_if_code_of_the_application_has_closed_one(self, loop: PrivateLoop) -> None:
        sender = loop.loop._sender
        assert sender is not None
        sender.close()
        for _ in range(2):
            assert thread_of_the_loop() == [run_on(loop, name_of_the_thread())]

    def test_if_nothing_more_fits_into_them(self, loop: PrivateLoop) -> None:
        handle, posted, goes_on, ran = loop.loop, Flag(), Flag(), Flag()

        def block() -> None:
            posted.set()
            goes_on.wait()

        handle.post(Posted(block))
        posted.wait()
        assert handle._sender is not None
        with suppress(BlockingIOError):
            while True:
                handle._sender.send(bytes(4096))
        handle.post(Posted(ran.set))
        goes_on.set()
        ran.wait()

    def test_they_are_closed_with_the_loop(self, loop: PrivateLoop) -> None:
        handle = loop.loop
        ends = (handle._sender, handle._receiver)
        loop.stop(wait=True)
        assert [-1, -1] == [end.fileno() for end in ends if end is not None]
        assert handle._sender is handle._receiver is None
        with pytest.raises(LoopClosed):
            handle.post(Nothing())


async def name_of_the_thread() -> str:
    return threading.current_thread().name


def test_its_thread_does_not_begin_in_the_context_of_the_first_request() -> None:
    """Python 3.14 may have threads inherit it, and without a lock does; it would stay there for good."""
    script = """
import asyncio, contextvars
from bridge._concurrency import private_loop
user = contextvars.ContextVar("user", default="nobody")
seen = []
def factory():
    seen.append(user.get())
    return asyncio.new_event_loop()
def first_request():
    user.set("somebody")
    return private_loop.acquire(factory, "test")
loop = contextvars.copy_context().run(first_request)
private_loop.release(loop, "test")
print(*seen)
"""
    assert ["nobody"] == run_script(script, options=["-X", "thread_inherit_context=1"])


class TestStop:
    """Cancels, waits, closes; and not for ever."""

    @FACTORIES
    def test_tasks_are_cancelled_and_their_cleanup_is_awaited(self, factory: Any) -> None:
        events: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.005)
                events.append("cleaned")

        async def start_two() -> list[asyncio.Task[None]]:
            tasks = [asyncio.create_task(work()) for _ in range(2)]
            await asyncio.sleep(0)
            return tasks

        user = object()
        loop = private_loop.acquire(factory, user)
        tasks = run_on(loop, start_two())
        bounded(lambda: private_loop.release(loop, user))

        assert ["cleaned"] * 2 == events
        assert all(task.cancelled() for task in tasks)

    def test_threads_of_the_default_executor_end(self) -> None:
        user = object()
        loop = private_loop.acquire(None, user)
        ident = run_on(loop, asyncio.to_thread(threading.get_ident))
        assert ident in {thread.ident for thread in threading.enumerate()}
        bounded(lambda: private_loop.release(loop, user))

        assert ident not in {thread.ident for thread in threading.enumerate()}

    def test_a_task_that_does_not_end_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is the application that hangs then; the server's exit must not."""
        monkeypatch.setattr(private_loop, "_CANCEL_GRACE_SECONDS", 0.05)
        ended = Flag()

        async def stubborn() -> None:
            while not ended.is_set():
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if asyncio.current_task().cancelling() > 1:  # type: ignore[union-attr]
                        ended.set()

        async def begin() -> asyncio.Task[None]:
            task = asyncio.create_task(stubborn())
            await asyncio.sleep(0)
            return task

        user = object()
        loop = private_loop.acquire(None, user)
        task = run_on(loop, begin())
        bounded(lambda: private_loop.release(loop, user))

        assert not task.done()
        # Let it go, on no loop any more.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()
