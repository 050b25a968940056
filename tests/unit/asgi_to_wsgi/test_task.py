"""`Task`: a task on a loop and the thread that waits for it, each step of their hand-over."""

import asyncio
import contextvars
import io
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bridge._asgi_to_wsgi.request_events import WANTED, RequestEvents
from bridge._asgi_to_wsgi.task import ENDED, Task
from bridge._concurrency import private_loop
from bridge._concurrency.byte_queue import HIGH_WATER_BYTES
from bridge._concurrency.calls import PeerGone
from bridge._concurrency.jobs import current
from bridge._concurrency.loops import LoopClosed, Posted
from bridge._servers.connection import Connection
from bridge._stats import Counters
from bridge._translate.input_to_events import BodyEvents
from support.plain_servers import environ_for
from support.waiting import FOREVER, Flag, LogWatch, OneThread, bounded, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")
user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
Work = Callable[["Probe"], Awaitable[None]]


class Runner:
    """What the tasks of one application have in common; notes what it is told."""

    disconnect_grace = FOREVER

    def __init__(self, private: private_loop.PrivateLoop) -> None:
        self.loop = private.loop
        self.private = private
        self.closing = False
        self.counters = Counters()
        self.live: set[Task] = set()
        self.ended: list[Task] = []
        self.looked_after = Flag()

    def task_ended(self, task: Task) -> None:
        self.live.discard(task)
        self.ended.append(task)

    def log_if_blocked(self) -> None:
        self.looked_after.set()

    def spawn(self, function: Any, context: contextvars.Context) -> Callable[[], object]:
        return self.loop.spawn(function(), context).cancel


class Source:
    """A `wsgi.input` whose reads are the test's; None where the client has to be waited for."""

    def __init__(self, read: Callable[[], bytes | None]) -> None:
        self._read_of_test = read

    def read(self, _size: int) -> bytes | None:
        return self._read_of_test()


class Probe(Task):
    """A task whose work and request body, of `length` bytes, are the test's."""

    def __init__(
        self,
        runner: Runner,
        work: Work,
        source: object = None,
        length: int | None = None,
        environ: dict[str, Any] | None = None,
    ) -> None:
        source = source or Source(lambda: pytest.fail("nobody has asked for the body"))
        super().__init__(runner, runner.spawn, Connection(environ or environ_for("POST", "/", wsgi__input=source)))
        self.body: RequestEvents = RequestEvents(BodyEvents(length), self.connection)
        self._work_of_test = work

    async def work(self) -> None:
        await self._work_of_test(self)


@pytest.fixture(name="runner")
def runner_fixture() -> Iterator[Runner]:
    """A runner on a private loop."""
    holder = object()
    loop = private_loop.acquire(None, holder)
    yield Runner(loop)
    bounded(lambda: private_loop.release(loop, holder))


@pytest.fixture(name="thread")
def thread_fixture() -> Iterator[OneThread]:
    """The server's thread."""
    thread = OneThread()
    yield thread
    thread.end()


def started(runner: Runner, thread: OneThread, work: Work, source: object = None, length: int | None = None) -> Probe:
    """A task that the thread has made and started."""
    probe = thread.run(lambda: Probe(runner, work, source, length))
    thread.run(probe.start)
    return probe


def written(probe: Probe, thread: OneThread) -> list[Any]:
    """All items until the end of the task; then the thread leaves."""
    items = []
    while (item := thread.run(probe.next)) is not ENDED:
        items.append(item)
    thread.run(probe.release)
    return items


def test_a_loop_that_is_late_takes_no_time_from_the_application(runner: Runner, thread: OneThread) -> None:
    """The head waits for a body from the moment when the task begins; before, nobody could have sent one."""
    overdue: list[bool] = []
    go = Flag()

    async def work(task: Probe) -> None:
        overdue.append(task.overdue)
        while not task.overdue:
            await task.changed()
        task.write([b"item"])

    runner.loop.post(Posted(go.wait))
    probe = started(runner, thread, work)
    item = thread.begin(probe.next)
    until(lambda: probe.overdue)
    go.set()

    assert item() == b"item"
    assert overdue == [False]
    assert written(probe, thread) == []


class TestWriting:
    """The task hands items over; the thread takes them in order."""

    def test_items_arrive_in_order(self, runner: Runner, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            task.write(["head", b"one"])
            await asyncio.sleep(0)
            task.write([b"two", None])

        probe = started(runner, thread, work)

        assert ["head", b"one", b"two", None] == written(probe, thread)
        assert (True, None) == (probe.finished, probe.error)
        assert ([probe], set()) == (runner.ended, runner.live)

    @pytest.mark.parametrize("further", ["body", "job", "call"])
    def test_an_item_that_comes_late_is_taken_before_anything_else_is_done(
        self, further: str, runner: Runner, thread: OneThread
    ) -> None:
        """The thread has found none. Then the task writes one, and asks for what may take long."""
        looked = Flag()
        done: list[str] = []

        def step() -> None:
            probe.thread._call = None
            done.append("call")

        def read() -> bytes:
            done.append("body")
            return b"x"

        async def work(task: Probe) -> None:
            await looked.waited()
            task.write([b"item"])
            if further == "body":
                await task.next_event()
            elif further == "job":
                task.thread.submit(lambda: done.append("job"))
            else:
                call: Any = SimpleNamespace(output=None, abandoned=False, error=None, step=step)
                task.thread._call = call
            asked.set()

        asked = Flag()
        probe = thread.run(lambda: Probe(runner, work, Source(read), 1))
        wanted = {"body": lambda: probe.body.reading is WANTED}.get(further, asked.is_set)

        class LateItems(deque[Any]):
            def __bool__(self) -> bool:
                if not looked.is_set():
                    looked.set()
                    until(wanted)
                    return False
                return len(self) > 0

        probe.output.items = LateItems()
        thread.run(probe.start)

        assert (b"item", []) == (thread.run(probe.next), done)
        assert [] == written(probe, thread)
        assert [further] == done

    @pytest.mark.parametrize("error", [LookupError("x"), asyncio.CancelledError(), SystemExit(1), KeyboardInterrupt()])
    def test_what_the_work_raises_is_kept(self, error: BaseException, runner: Runner, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            task.write([b"before"])
            raise error

        probe = started(runner, thread, work)

        assert [b"before"] == written(probe, thread)
        assert error is probe.error

    def test_more_than_the_bound_waits_for_the_thread(self, runner: Runner, thread: OneThread) -> None:
        drained, taken_before = Flag(), []

        async def work(task: Probe) -> None:
            task.write([b"x" * HIGH_WATER_BYTES])
            assert task.output.full
            waiting = asyncio.ensure_future(task.drain())
            await asyncio.sleep(0)
            assert not waiting.done()
            stalled.set()
            await waiting
            taken_before.append(list(taken))
            assert not task.output.full
            drained.set()

        stalled, taken = Flag(), list[int]()
        probe = started(runner, thread, work)
        stalled.wait()
        assert not drained.is_set()
        taken.append(1)
        assert b"x" * HIGH_WATER_BYTES == thread.run(probe.next)
        drained.wait()
        assert [[1]] == taken_before
        assert [] == written(probe, thread)

    def test_up_to_the_bound_it_does_not_wait(self, runner: Runner, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            task.write([b"x" * (HIGH_WATER_BYTES - 1000)])
            await task.drain()

        probe = started(runner, thread, work)
        assert [b"x" * (HIGH_WATER_BYTES - 1000)] == written(probe, thread)

    def test_to_nobody_it_is_an_error(self, runner: Runner, thread: OneThread) -> None:
        go_on, over = Flag(), Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()
            for hand_over in (lambda: task.write([b"x"]), lambda: task.write([])):
                with pytest.raises(PeerGone):
                    hand_over()
            with pytest.raises(PeerGone):
                await task.drain()
            over.set()

        probe = started(runner, thread, work)
        thread.run(probe.release)
        go_on.set()
        over.wait()


class TestReading:
    """The task asks for the body; the thread reads it when it is asked, and not before."""

    def test_what_was_read_ahead_needs_no_reading(self, runner: Runner, thread: OneThread) -> None:
        events: list[Any] = []
        reads: list[int] = []

        class AtHand(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                reads.append(threading.get_ident())
                return super().read(size)

        async def work(task: Probe) -> None:
            events.append(await task.next_event())

        probe = thread.run(lambda: Probe(runner, work, AtHand(b"all"), 3))
        assert thread.run(probe.body.read_ahead)
        assert [thread.ident] == reads
        thread.run(probe.start)

        assert [] == written(probe, thread)
        assert [{"type": "http.request", "body": b"all", "more_body": False}] == events
        assert [thread.ident] == reads

    def test_each_question_is_one_read_in_the_thread(self, runner: Runner, thread: OneThread) -> None:
        reads: list[int] = []

        def read() -> bytes:
            reads.append(threading.get_ident())
            return b"%d" % len(reads)

        async def work(task: Probe) -> None:
            for number in range(3):
                assert number == len(reads)
                event = await task.next_event()
                assert event is not None
                task.write([event["body"]])

        probe = started(runner, thread, work, Source(read), 3)

        assert [b"1", b"2", b"3"] == written(probe, thread)
        assert [thread.ident] * 3 == reads

    def test_it_reads_again_when_the_client_has_sent_more(self, runner: Runner, thread: OneThread) -> None:
        """Nothing else wakes it: once the head was not there in time, it waits without end."""
        client, server = socket.socketpair()
        found_nothing: list[int] = []

        class Slow:
            def read(self, size: int) -> bytes | None:
                try:
                    return server.recv(size)
                except BlockingIOError:
                    found_nothing.append(size)
                    return None

        async def work(task: Probe) -> None:
            event = await task.next_event()
            assert event is not None
            task.write([event["body"]])

        with client, server:
            server.setblocking(False)
            environ = environ_for("POST", "/", wsgi__input=Slow(), werkzeug__socket=server)
            probe = thread.run(lambda: Probe(runner, work, length=3, environ=environ))
            thread.run(probe.start)
            item = thread.begin(probe.next)
            until(lambda: len(found_nothing) >= 2 and probe.thread._polling)  # a wake-up too many is harmless
            client.sendall(b"abc")
            assert b"abc" == item()
            assert [] == written(probe, thread)

    @pytest.mark.parametrize("end", ["complete", "disconnected", "released"])
    def test_without_an_answer_it_ends_with_the_request(self, end: str, runner: Runner, thread: OneThread) -> None:
        answers: list[Any] = []
        asked, over = Flag(), Flag()

        async def work(task: Probe) -> None:
            reading = asyncio.ensure_future(task.next_event())
            ending = asyncio.ensure_future(task.wait_until_over())
            await asyncio.sleep(0)
            asked.set()
            if end == "complete":
                task.finish_response()
            answers.append(await reading)
            answers.append(await ending)
            answers.append(await task.next_event())
            over.set()

        probe = started(runner, thread, work, Source(lambda: None))
        asked.wait()
        if end == "disconnected":
            thread.run(probe.disconnect)
        if end == "released":
            thread.run(probe.release)
        over.wait()
        if end != "released":
            thread.run(probe.release)

        assert [None] * 3 == answers


class TestDisconnecting:
    """A client that left: the thread is free at once, the task has its grace."""

    def test_the_thread_is_free(self, runner: Runner, thread: OneThread) -> None:
        go_on = Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()

        probe = started(runner, thread, work)
        thread.run(probe.disconnect)
        with pytest.raises(PeerGone):
            thread.run(probe.next)
        thread.run(probe.release)
        go_on.set()

    def test_what_was_written_before_is_taken_first(self, runner: Runner, thread: OneThread) -> None:
        wrote_it, go_on = Flag(), Flag()

        async def work(task: Probe) -> None:
            task.write([b"written"])
            wrote_it.set()
            await go_on.waited()

        probe = started(runner, thread, work)
        wrote_it.wait()
        thread.run(probe.disconnect)
        assert b"written" == thread.run(probe.next)
        with pytest.raises(PeerGone):
            thread.run(probe.next)
        thread.run(probe.release)
        go_on.set()

    def test_after_the_grace_the_task_is_cancelled(self, runner: Runner, thread: OneThread) -> None:
        runner.disconnect_grace = 0.01
        cancelled = Flag()

        async def work(task: Probe) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        probe = started(runner, thread, work)
        thread.run(probe.disconnect)
        thread.run(probe.release)
        cancelled.wait()

    @pytest.mark.usefixtures("looks_often")
    def test_a_task_that_goes_on_does_not_keep_the_thread_that_it_has_given_work(
        self, runner: Runner, thread: OneThread, log: LogWatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The thread stays for its cleanup, but not for ever if the task ignores that it is cancelled."""
        monkeypatch.setattr("bridge._asgi_to_wsgi.task.CLEANUP_SECONDS", 0.05)
        runner.disconnect_grace = 0.01
        go_on, cancelled = Flag(), Flag()

        async def work(task: Probe) -> None:
            while not go_on.is_set():
                try:
                    await go_on.waited()
                except asyncio.CancelledError:
                    cancelled.set()

        probe = started(runner, thread, work)
        assert probe.thread.submit(cancelled.wait)
        probe.disconnect()
        with pytest.raises(PeerGone):
            thread.run(probe.next)
        assert log.having("WARNING", "still runs long after its client left")
        thread.run(probe.release)
        go_on.set()

    @pytest.mark.usefixtures("looks_often")
    def test_a_task_that_is_cancelled_before_its_first_step_ends(self, runner: Runner, thread: OneThread) -> None:
        """By code of the application that cancels all tasks. Then nothing of it runs, which could say so."""

        def spawn(function: Any, context: contextvars.Context) -> Callable[[], object]:
            task = runner.loop.loop.create_task(function(), context=context)
            task.cancel()
            return task.cancel

        async def work(task: Probe) -> None:
            pytest.fail("it has begun")

        runner.spawn = spawn  # type: ignore[method-assign]
        probe = started(runner, thread, work)
        assert [] == written(probe, thread)
        assert isinstance(probe.error, asyncio.CancelledError)
        assert [probe] == runner.ended

    def test_a_task_whose_client_left_before_it_began_begins(self, runner: Runner, thread: OneThread) -> None:
        """Its client left at once: the app is called all the same, and hears of it."""
        seen: list[bool] = []
        over = Flag()

        async def work(task: Probe) -> None:
            seen.append(task.disconnected)
            over.set()

        probe = thread.run(lambda: Probe(runner, work))
        thread.run(probe.disconnect)
        thread.run(probe.start)
        over.wait()
        thread.run(probe.release)
        until(lambda: runner.ended)

        assert [True] == seen
        assert [probe] == runner.ended


class TestThread:
    """What the thread does for the request while it waits."""

    def test_it_runs_jobs(self, runner: Runner, thread: OneThread) -> None:
        idents: list[int] = []

        async def work(task: Probe) -> None:
            for _ in range(3):
                done = Flag()
                assert task.thread.submit(lambda done=done: (idents.append(threading.get_ident()), done.set()))  # type: ignore[misc]
                await done.waited()
            task.write([b"done"])

        probe = started(runner, thread, work)

        assert [b"done"] == written(probe, thread)
        assert [thread.ident] * 3 == idents

    def test_after_it_has_left_it_runs_none(self, runner: Runner, thread: OneThread) -> None:
        go_on, answers = Flag(), []
        over = Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()
            answers.append(task.thread.submit(lambda: answers.append("ran")))
            over.set()

        probe = started(runner, thread, work)
        thread.run(probe.release)
        go_on.set()
        over.wait()

        assert [False] == answers

    def test_jobs_that_wait_when_it_leaves_are_run_elsewhere(self, runner: Runner, thread: OneThread) -> None:
        asked, ran = Flag(), Flag()
        idents: list[int] = []

        async def work(task: Probe) -> None:
            assert task.thread.submit(lambda: (idents.append(threading.get_ident()), ran.set()))
            asked.set()
            await ran.waited()

        probe = started(runner, thread, work)
        asked.wait()
        thread.run(probe.release)
        ran.wait()

        assert [thread.ident] != idents

    def test_it_stays_for_jobs_until_the_task_ends(self, runner: Runner, thread: OneThread) -> None:
        events: list[str] = []

        async def work(task: Probe) -> None:
            done = Flag()
            task.thread.submit(lambda: (events.append("job"), done.set()))
            await done.waited()
            events.append("end of the task")

        probe = started(runner, thread, work)
        thread.run(lambda: probe.linger(FOREVER))
        events.append("end of the stay")
        thread.run(probe.release)

        assert ["job", "end of the task", "end of the stay"] == events

    def test_it_does_not_stay_for_ever(self, runner: Runner, thread: OneThread) -> None:
        go_on = Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()

        probe = started(runner, thread, work)
        thread.run(lambda: probe.linger(0.01))
        assert not probe.finished
        thread.run(probe.release)
        go_on.set()

    def test_a_job_that_waits_for_more_work_gets_it(self, runner: Runner, thread: OneThread) -> None:
        """As a call does that runs in the thread: `wait` ends for each wake-up, and does what the request needs."""
        events: list[str] = []

        async def work(task: Probe) -> None:
            over = Flag()

            def outer() -> None:
                events.append("outer begins")
                began.set()
                while "inner" not in events:
                    task.thread.wait(FOREVER)
                events.append("outer ends")
                over.set()

            began = Flag()
            task.thread.submit(outer)
            await began.waited()
            task.thread.submit(lambda: events.append("inner"))
            await over.waited()

        probe = started(runner, thread, work)

        assert [] == written(probe, thread)
        assert ["outer begins", "inner", "outer ends"] == events

    @pytest.mark.usefixtures("looks_often")
    def test_it_looks_after_the_loop_while_it_waits(self, runner: Runner, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            await runner.looked_after.waited()

        assert [] == written(started(runner, thread, work), thread)

    @pytest.mark.usefixtures("looks_often")
    def test_a_loop_that_is_closed_ends_its_wait(self, thread: OneThread) -> None:
        """Somebody has closed it all the same; the server's thread must not wait for ever."""
        holder = object()
        loop = private_loop.acquire(None, holder)
        runner = Runner(loop)
        began = Flag()

        async def work(_task: Probe) -> None:
            began.set()
            await asyncio.Event().wait()

        probe = thread.run(lambda: Probe(runner, work))
        probe.thread.notify = lambda: None  # type: ignore[method-assign]  # the thread is not told
        thread.run(probe.start)
        began.wait()
        bounded(lambda: private_loop.release(loop, holder))
        probe.finished = False
        with pytest.raises(LoopClosed):
            thread.run(probe.next)
        thread.run(probe.release)


class TestContext:
    """The task runs in a copy of the thread's context."""

    def test_it_sees_what_the_thread_had_set_and_keeps_its_own(self, runner: Runner, thread: OneThread) -> None:
        seen: list[str] = []

        async def work(task: Probe) -> None:
            seen.append(user.get())
            user.set("of the task")

        thread.run(lambda: user.set("of the thread"))
        written(started(runner, thread, work), thread)

        assert ["of the thread"] == seen
        assert "of the thread" == thread.run(user.get)

    def test_the_thread_is_nobodys_afterwards(self, runner: Runner, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            done = Flag()
            task.thread.submit(done.set)
            await done.waited()

        written(started(runner, thread, work), thread)

        assert thread.run(lambda: current.thread) is None
