"""The pool where the operating system starts no more threads."""

import threading
from collections.abc import Iterator

import pytest

from bridge._concurrency import pool
from support.patience import PATIENCE
from support.pool_jobs import Clock, Job, Pools
from support.waiting import until


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The operating system refuses to start threads, until the patch is undone."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("bridge-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield patch


def test_a_job_without_any_thread_is_refused(pools: Pools, no_threads: pytest.MonkeyPatch) -> None:
    """Where nobody would ever come to it, the job is given back with an error; the pool recovers."""
    threads = pools()
    job = Job(go=True)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threads.submit(job, eager=False)
    assert (threads.alive, threads.waiting, threads.busy) == (0, 0, 0)
    no_threads.undo()
    following = Job(go=True)
    assert threads.submit(following, eager=False) is False
    following.done.wait()

    assert not job.begun.is_set()


def test_a_job_without_a_thread_of_its_own_waits_for_another_one(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Where there are threads, not getting one more is no error."""
    threads = pools()
    [held] = pools.held(threads, 1)
    request.getfixturevalue("no_threads")
    jobs = [Job(go=True), Job(go=True)]
    threads.submit(jobs[0], eager=True)
    threads.submit(jobs[1], eager=False)
    threads.grow()
    held.go.set()
    for job in jobs:
        job.done.wait()

    assert [job.thread for job in jobs] == [held.thread] * 2
    assert threads.alive == 1


@pytest.mark.parametrize("eager", [True, False])
def test_a_job_that_got_no_thread_is_pushed_until_it_has_one(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, eager: bool
) -> None:
    """Where the only thread is blocked and no other can be started now, one is as soon as that can be done."""
    threads = pools(2)
    pools.held(threads, 1)
    refusing = request.getfixturevalue("no_threads")
    job = Job(go=True)
    assert threads.submit(job, eager=eager) is True
    for _ in range(5):
        assert threads.grow() is True
    refusing.undo()
    threads.grow()
    job.done.wait()

    assert threads.alive == 2


def test_a_thread_that_is_to_start_others_and_cannot_is_no_end_of_the_pushing(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool seems to be at its limit while threads are being started; it is not, once that has failed."""
    starts = threading.Thread.start
    refused: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "bridge-test-4" and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        starts(thread)

    threads = pools(4)
    pools.held(threads, 1)
    jobs = pools.held(threads, 3, eager=False)
    assert threads.grow() is True
    jobs[0].begun.wait()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert threads.grow() is True  # wakes two, of which the one is to start the other
    jobs[1].begun.wait()
    until(lambda: refused)
    until(lambda: threads.alive == 3)
    threads.grow()
    jobs[2].begun.wait()


def test_a_failure_to_start_threads_is_logged_once(
    pools: Pools, no_threads: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And not each millisecond; once more after it has gone well."""
    threads = pools()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            threads.submit(Job(go=True), eager=False)
    assert caplog.text.count("cannot be started") == 1


def test_a_system_without_threads_is_not_asked_each_millisecond(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """As often as the queue is pushed, it would fill the log; after a pause it is asked again."""
    clock = Clock()
    monkeypatch.setattr(pool, "monotonic", clock)
    threads = pools(limit=2)
    [held] = pools.held(threads, 1)
    request.getfixturevalue("no_threads")
    job = Job(go=True)
    threads.submit(job, eager=True)
    for _ in range(20):
        assert threads.grow(), "the last thread that there may be has not been started, so that it has to go on"
    assert 1 == caplog.text.count("a worker thread cannot be started")
    request.getfixturevalue("no_threads").undo()
    clock.now += 2.0
    threads.grow()
    job.done.wait()

    assert job.thread != held.thread
    held.go.set()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError("no memory for a thread")])
def test_jobs_that_no_thread_is_left_for_are_dropped(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Those of other loops too, that have come while the only thread was about to start, and never did."""
    threads = pools()
    other, following = Job(), Job(go=True)

    def refuse(thread: threading.Thread) -> None:
        assert threads.submit(other, eager=False), "a thread is on its way for this one, too"
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match=str(error)):
            threads.submit(Job(), eager=False)
    assert (True, 0, 0) == (other.was_dropped.is_set(), threads.alive, threads.waiting)
    threads.submit(following, eager=False)
    following.done.wait()


def test_a_close_is_not_held_up_by_a_thread_that_could_not_be_started(
    pools: Pools, no_threads: pytest.MonkeyPatch
) -> None:
    """A thread that never was is not waited for."""
    threads = pools()
    with pytest.raises(RuntimeError):
        threads.submit(Job(), eager=False)
    threads.close(None)

    assert threads.join(PATIENCE) == []
