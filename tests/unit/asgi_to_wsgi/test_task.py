"""`Task`: a task on a loop and the thread that waits for it, each step of their conversation."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from bridge._asgi_to_wsgi.task import ENDED, HIGH_WATER_BYTES, Task
from bridge._concurrency import private_loop
from bridge._concurrency.calls import PeerGone
from bridge._concurrency.jobs import current
from bridge._concurrency.loops import LoopClosed
from bridge._servers.connection import Connection
from bridge._stats import Counters
from support.plain_servers import Event, environ_for
from support.waiting import FOREVER, Flag, OneThread, bounded

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")
user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
Work = Callable[["Probe"], Awaitable[None]]


class Side:
    """What tasks have in common; notes what it is told."""

    disconnect_grace = FOREVER

    def __init__(self, loop: private_loop.PrivateLoop) -> None:
        self.crossing = loop.crossing
        self.counters = Counters()
        self.lock = threading.Lock()
        self.live: set[Task] = set()
        self.ended: list[Task] = []
        self.looked_after = Flag()

    def task_ended(self, task: Task) -> None:
        self.live.discard(task)
        self.ended.append(task)

    def look_after(self) -> None:
        self.looked_after.set()

    def spawn(self, function: Any, context: contextvars.Context) -> Callable[[], object]:
        return self.crossing.spawn(function(), context).cancel


class Probe(Task):
    """A task whose work and request body are the test's."""

    def __init__(self, side: Side, work: Work, read: Callable[[], Event | None] | None = None) -> None:
        super().__init__(side, side.spawn, Connection(environ_for("GET", "/")))
        self._work_of_test = work
        self._read_of_test = read or pytest.fail

    async def work(self) -> None:
        await self._work_of_test(self)

    def flush(self) -> None:
        pass

    def read(self) -> Event | None:
        return self._read_of_test()


@pytest.fixture(name="side")
def side_fixture() -> Iterator[Side]:
    """A side on a private loop."""
    tenant = object()
    loop = private_loop.acquire(None, tenant)
    yield Side(loop)
    bounded(lambda: private_loop.release(loop, tenant))


@pytest.fixture(name="thread")
def thread_fixture() -> Iterator[OneThread]:
    """The server's thread."""
    thread = OneThread()
    yield thread
    thread.end()


def started(side: Side, thread: OneThread, work: Work, read: Callable[[], Event | None] | None = None) -> Probe:
    """A task that the thread has made and started."""
    probe = thread.run(lambda: Probe(side, work, read))
    thread.run(probe.start)
    return probe


def told(probe: Probe, thread: OneThread) -> list[Any]:
    """All items until the end of the task; then the thread leaves."""
    items = []
    while (item := thread.run(probe.next)) is not ENDED:
        items.append(item)
    thread.run(probe.release)
    return items


class TestTelling:
    """The task hands items over; the thread takes them in order."""

    def test_items_arrive_in_order(self, side: Side, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            task.tell(["head", b"one"])
            await asyncio.sleep(0)
            task.tell([b"two", None])

        probe = started(side, thread, work)

        assert ["head", b"one", b"two", None] == told(probe, thread)
        assert (True, None) == (probe.finished, probe.error)
        assert ([probe], set()) == (side.ended, side.live)

    @pytest.mark.parametrize("error", [LookupError("x"), asyncio.CancelledError(), SystemExit(1), KeyboardInterrupt()])
    def test_what_the_work_raises_is_kept(self, error: BaseException, side: Side, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            task.tell([b"before"])
            raise error

        probe = started(side, thread, work)

        assert [b"before"] == told(probe, thread)
        assert error is probe.error

    def test_more_than_the_bound_waits_for_the_thread(self, side: Side, thread: OneThread) -> None:
        eased, taken_before = Flag(), []

        async def work(task: Probe) -> None:
            task.tell([b"x" * HIGH_WATER_BYTES])
            assert task.stalled
            waiting = asyncio.ensure_future(task.ease())
            await asyncio.sleep(0)
            assert not waiting.done()
            stalled.set()
            await waiting
            taken_before.append(list(taken))
            assert not task.stalled
            eased.set()

        stalled, taken = Flag(), list[int]()
        probe = started(side, thread, work)
        stalled.wait()
        assert not eased.is_set()
        taken.append(1)
        assert b"x" * HIGH_WATER_BYTES == thread.run(probe.next)
        eased.wait()
        assert [[1]] == taken_before
        assert [] == told(probe, thread)

    def test_up_to_the_bound_it_does_not_wait(self, side: Side, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            task.tell([b"x" * (HIGH_WATER_BYTES - 1000)])
            await task.ease()

        probe = started(side, thread, work)
        assert [b"x" * (HIGH_WATER_BYTES - 1000)] == told(probe, thread)

    def test_to_nobody_it_is_an_error(self, side: Side, thread: OneThread) -> None:
        go_on, over = Flag(), Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()
            for hand_over in (lambda: task.tell([b"x"]), lambda: task.tell([])):
                with pytest.raises(PeerGone):
                    hand_over()
            with pytest.raises(PeerGone):
                await task.ease()
            over.set()

        probe = started(side, thread, work)
        thread.run(probe.release)
        go_on.set()
        over.wait()


class TestListening:
    """The task asks for the body; the thread reads it when it is asked, and not before."""

    def test_what_was_given_before_needs_no_reading(self, side: Side, thread: OneThread) -> None:
        events: list[Any] = []

        async def work(task: Probe) -> None:
            events.append(await task.listen())

        probe = thread.run(lambda: Probe(side, work))
        event = {"type": "http.request", "body": b"all", "more_body": False}
        thread.run(lambda: probe.give(event))
        thread.run(probe.start)

        assert [] == told(probe, thread)
        assert [event] == events

    def test_each_question_is_one_read_in_the_thread(self, side: Side, thread: OneThread) -> None:
        reads: list[int] = []

        def read() -> Event:
            reads.append(threading.get_ident())
            return {"type": "http.request", "body": b"%d" % len(reads), "more_body": len(reads) < 3}

        async def work(task: Probe) -> None:
            for number in range(3):
                assert number == len(reads)
                event = await task.listen()
                assert event is not None
                task.tell([event["body"]])

        probe = started(side, thread, work, read)

        assert [b"1", b"2", b"3"] == told(probe, thread)
        assert [thread.ident] * 3 == reads

    @pytest.mark.parametrize("end", ["over", "gone", "released"])
    def test_without_an_answer_it_ends_with_the_request(self, end: str, side: Side, thread: OneThread) -> None:
        answers: list[Any] = []
        asked, over = Flag(), Flag()

        async def work(task: Probe) -> None:
            listening = asyncio.ensure_future(task.listen())
            ending = asyncio.ensure_future(task.end())
            await asyncio.sleep(0)
            asked.set()
            if end == "over":
                task.finish_response()
            answers.append(await listening)
            answers.append(await ending)
            answers.append(await task.listen())
            over.set()

        probe = started(side, thread, work, lambda: None)
        asked.wait()
        if end == "gone":
            thread.run(probe.disconnect)
        if end == "released":
            thread.run(probe.release)
        over.wait()
        if end != "released":
            thread.run(probe.release)

        assert [None] * 3 == answers


class TestDisconnecting:
    """A client that left: the thread is free at once, the task has its grace."""

    def test_the_thread_is_free(self, side: Side, thread: OneThread) -> None:
        go_on = Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()

        probe = started(side, thread, work)
        thread.run(probe.disconnect)
        with pytest.raises(PeerGone):
            thread.run(probe.next)
        thread.run(probe.release)
        go_on.set()

    def test_what_was_told_before_is_taken_first(self, side: Side, thread: OneThread) -> None:
        told_it, go_on = Flag(), Flag()

        async def work(task: Probe) -> None:
            task.tell([b"told"])
            told_it.set()
            await go_on.waited()

        probe = started(side, thread, work)
        told_it.wait()
        thread.run(probe.disconnect)
        assert b"told" == thread.run(probe.next)
        with pytest.raises(PeerGone):
            thread.run(probe.next)
        thread.run(probe.release)
        go_on.set()

    def test_after_the_grace_the_task_is_cancelled(self, side: Side, thread: OneThread) -> None:
        side.disconnect_grace = 0.01
        cancelled = Flag()

        async def work(task: Probe) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        probe = started(side, thread, work)
        thread.run(probe.disconnect)
        thread.run(probe.release)
        cancelled.wait()

    def test_a_task_that_was_told_before_it_began_begins(self, side: Side, thread: OneThread) -> None:
        """Its client left at once: the app is called all the same, and hears of it."""
        seen: list[bool] = []
        over = Flag()

        async def work(task: Probe) -> None:
            seen.append(task.gone)
            over.set()

        probe = thread.run(lambda: Probe(side, work))
        thread.run(probe.disconnect)
        thread.run(probe.start)
        over.wait()
        thread.run(probe.release)

        assert [True] == seen
        assert 1 == len(side.ended)


class TestThread:
    """What the thread does for the request while it waits."""

    def test_it_runs_jobs(self, side: Side, thread: OneThread) -> None:
        idents: list[int] = []

        async def work(task: Probe) -> None:
            for _ in range(3):
                done = Flag()
                assert task.run_here(lambda done=done: (idents.append(threading.get_ident()), done.set()))  # type: ignore[misc]
                await done.waited()
            task.tell([b"done"])

        probe = started(side, thread, work)

        assert [b"done"] == told(probe, thread)
        assert [thread.ident] * 3 == idents

    def test_after_it_has_left_it_runs_none(self, side: Side, thread: OneThread) -> None:
        go_on, answers = Flag(), []
        over = Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()
            answers.append(task.run_here(lambda: answers.append("ran")))
            over.set()

        probe = started(side, thread, work)
        thread.run(probe.release)
        go_on.set()
        over.wait()

        assert [False] == answers

    def test_jobs_that_wait_when_it_leaves_are_run_elsewhere(self, side: Side, thread: OneThread) -> None:
        asked, ran = Flag(), Flag()
        idents: list[int] = []

        async def work(task: Probe) -> None:
            assert task.run_here(lambda: (idents.append(threading.get_ident()), ran.set()))
            asked.set()
            await ran.waited()

        probe = started(side, thread, work)
        asked.wait()
        thread.run(probe.release)
        ran.wait()

        assert [thread.ident] != idents

    def test_it_stays_for_jobs_until_the_task_ends(self, side: Side, thread: OneThread) -> None:
        events: list[str] = []

        async def work(task: Probe) -> None:
            done = Flag()
            task.run_here(lambda: (events.append("job"), done.set()))
            await done.waited()
            events.append("end of the task")

        probe = started(side, thread, work)
        thread.run(lambda: probe.linger(FOREVER))
        events.append("end of the stay")
        thread.run(probe.release)

        assert ["job", "end of the task", "end of the stay"] == events

    def test_it_does_not_stay_for_ever(self, side: Side, thread: OneThread) -> None:
        go_on = Flag()

        async def work(task: Probe) -> None:
            await go_on.waited()

        probe = started(side, thread, work)
        thread.run(lambda: probe.linger(0.01))
        assert not probe.finished
        thread.run(probe.release)
        go_on.set()

    def test_a_job_that_waits_for_more_work_gets_it(self, side: Side, thread: OneThread) -> None:
        """As a call does that is lent the thread: `wait` ends for each nudge, and does what the request needs."""
        events: list[str] = []

        async def work(task: Probe) -> None:
            over = Flag()

            def outer() -> None:
                events.append("outer begins")
                began.set()
                while "inner" not in events:
                    task.wait(FOREVER)
                events.append("outer ends")
                over.set()

            began = Flag()
            task.run_here(outer)
            await began.waited()
            task.run_here(lambda: events.append("inner"))
            await over.waited()

        probe = started(side, thread, work)

        assert [] == told(probe, thread)
        assert ["outer begins", "inner", "outer ends"] == events

    @pytest.mark.usefixtures("looks_often")
    def test_it_looks_after_the_side_while_it_waits(self, side: Side, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            await side.looked_after.waited()

        assert [] == told(started(side, thread, work), thread)

    @pytest.mark.usefixtures("looks_often")
    def test_a_loop_that_is_closed_ends_its_wait(self, thread: OneThread) -> None:
        """Somebody has closed it all the same; the server's thread must not wait for ever."""
        tenant = object()
        loop = private_loop.acquire(None, tenant)
        side = Side(loop)

        class Stubborn(Probe):
            async def work(self) -> None:
                began.set()
                await asyncio.Event().wait()

            def _nudge(self) -> None:
                """The thread is not told."""

        began = Flag()
        probe = thread.run(lambda: Stubborn(side, lambda task: task.end()))
        thread.run(probe.start)
        began.wait()
        bounded(lambda: private_loop.release(loop, tenant))
        probe.finished = False
        with pytest.raises(LoopClosed):
            thread.run(probe.next)
        thread.run(probe.release)


class TestContext:
    """The task runs in a copy of the thread's context."""

    def test_it_sees_what_the_thread_had_set_and_keeps_its_own(self, side: Side, thread: OneThread) -> None:
        seen: list[str] = []

        async def work(task: Probe) -> None:
            seen.append(user.get())
            user.set("of the task")

        thread.run(lambda: user.set("of the thread"))
        told(started(side, thread, work), thread)

        assert ["of the thread"] == seen
        assert "of the thread" == thread.run(user.get)

    def test_the_thread_is_nobodys_afterwards(self, side: Side, thread: OneThread) -> None:
        async def work(task: Probe) -> None:
            done = Flag()
            task.run_here(done.set)
            await done.waited()

        told(started(side, thread, work), thread)

        assert thread.run(lambda: current.thread) is None
