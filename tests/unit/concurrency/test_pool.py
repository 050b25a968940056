"""The pool of worker threads: what it promises to those who give it jobs."""

import gc
import os
import threading
import weakref
from typing import Any

import pytest

from bridge._concurrency import pool
from bridge._concurrency.jobs import JobThread, current
from bridge._concurrency.pool import ThreadPool
from support.patience import PATIENCE
from support.pool_jobs import Clock, Job, Pools, finish
from support.waiting import Flag, until


def test_no_thread_exists_before_the_first_job(pools: Pools) -> None:
    """A pool is plain data until it gets a job, so that it may be made before a fork."""
    threads = pools()

    assert (threads.alive, threads.busy, threads.waiting, threads.usable) == (0, 0, 0, True)


def test_a_job_runs_in_a_daemon_thread_of_that_name(pools: Pools) -> None:
    """The threads are told apart by the name of the pool and a number, and do not hold up the exit."""
    daemons: list[bool] = []
    job = Job(lambda _thread: daemons.append(threading.current_thread().daemon), go=True)

    pools(name="some").submit(job, eager=False)
    job.done.wait()

    assert job.thread == "bridge-some-1"
    assert daemons == [True]


def test_threads_are_bounded(pools: Pools) -> None:
    """No more jobs run at once than the limit says; the others wait."""
    threads = pools(3)
    pools.held(threads, 3)
    waiting = pools.held(threads, 4, eager=False)
    for _ in range(10):
        threads.grow()

    assert (threads.alive, threads.busy, threads.waiting, threads.over_limit) == (3, 3, 4, 4)
    assert not any(job.begun.is_set() for job in waiting)


def test_waiting_jobs_run_in_their_order(pools: Pools) -> None:
    """The queue is first in, first out."""
    threads = pools(1)
    [first] = pools.held(threads, 1)
    order: list[int] = []
    jobs = [Job(lambda _thread, at=at: order.append(at), go=True) for at in range(20)]
    for job in jobs:
        threads.submit(job, eager=False)
    first.go.set()
    jobs[-1].done.wait()

    assert order == list(range(20))


def test_surplus_is_negative_while_threads_are_free(pools: Pools) -> None:
    """It is what would have to wait, were all the threads awake that may exist."""
    threads = pools(5)
    pools.held(threads, 2)

    assert threads.over_limit == -3


def test_one_awake_thread_gets_the_jobs(pools: Pools) -> None:
    """While a thread is awake no other one is woken, and the caller is told to push."""
    threads = pools()
    pools.held(threads, 1)
    job = Job(go=True)

    assert threads.submit(job, eager=False) is True
    assert (threads.alive, threads.waiting) == (1, 1)


def test_the_first_job_wakes_a_thread(pools: Pools) -> None:
    """Where no thread is awake one is woken at once, and there is no need to push."""
    threads = pools()
    pools.idle(threads, 1)
    job = Job(go=True)

    assert threads.submit(job, eager=False) is False
    job.done.wait()
    assert threads.alive == 1


def test_an_eager_job_wakes_a_thread_in_any_case(pools: Pools) -> None:
    """An eager job does not wait for the thread that is awake."""
    threads = pools()
    pools.held(threads, 1)
    job = Job(go=True)

    assert threads.submit(job, eager=True) is False
    job.done.wait()
    assert threads.alive == 2


def test_the_thread_that_has_slept_least_is_woken(pools: Pools) -> None:
    """Idle threads are used last in, first out, so that those not needed can end."""
    threads = pools()
    names = pools.idle(threads, 3)
    jobs = pools.held(threads, 3)

    assert [job.thread for job in jobs] == names[::-1]


def test_a_blocked_pool_is_pushed_in_growing_numbers(pools: Pools) -> None:
    """While the queue stands still, each push wakes twice as many threads as the one before."""
    threads = pools(limit=40)
    pools.held(threads, 1)
    pools.held(threads, 30, eager=False)
    alive = []
    for _ in range(5):
        assert threads.grow() is True
        alive.append(threads.alive)
        until(lambda: threads.busy == threads.alive)

    assert alive == [2, 4, 8, 16, 31]
    assert threads.grow() is False


def test_progress_ends_the_growth(pools: Pools) -> None:
    """A queue that moves wakes no further thread, and the next standstill begins with one again."""
    threads = pools()
    [first] = pools.held(threads, 1)
    pools.held(threads, 30, eager=False)
    for _ in range(3):
        threads.grow()
        until(lambda: threads.busy == threads.alive)
    first.go.set()
    first.done.wait()
    until(lambda: threads.waiting == 22)  # its thread has taken the next one
    threads.grow()
    alive = [threads.alive]
    threads.grow()
    alive.append(threads.alive)

    assert alive == [8, 9]


def test_a_pool_at_its_limit_is_not_pushed(pools: Pools) -> None:
    """Where every thread is awake that may exist, there is nothing to call again for."""
    threads = pools(2)
    pools.held(threads, 2)
    pools.held(threads, 5, eager=False)

    assert threads.grow() is False
    assert threads.alive == 2


def test_an_empty_queue_is_not_pushed(pools: Pools) -> None:
    """Pushing ends with the queue."""
    threads = pools()
    pools.held(threads, 1)

    assert threads.grow() is False
    assert threads.alive == 1


def test_idle_threads_are_woken_before_new_ones_are_made(pools: Pools) -> None:
    """Pushing takes the threads that are there."""
    threads = pools()
    pools.idle(threads, 3)
    pools.held(threads, 1)
    pools.held(threads, 2, eager=False)
    for busy in (2, 3):
        threads.grow()
        until(lambda busy=busy: threads.busy == busy)

    assert threads.alive == 3


def test_long_jobs_are_not_kept_waiting(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once most jobs take over a millisecond, each further one wakes a thread; short ones end that."""
    clock = Clock()
    monkeypatch.setattr(pool, "monotonic", clock)
    monkeypatch.setattr("bridge._concurrency.pool.monotonic", clock)
    threads = pools()

    def run_some(seconds: float) -> None:
        for _ in range(12):
            job = Job(lambda _thread: setattr(clock, "now", clock.now + seconds), go=True)
            threads.submit(job, eager=False)
            job.done.wait()
            until(lambda: not threads.busy)

    def waits() -> bool:
        [held] = pools.held(threads, 1)
        job = Job(go=True)
        waited = threads.submit(job, eager=False)
        finish(threads, held)
        job.done.wait()
        until(lambda: not threads.busy)
        return waited

    run_some(0.0)
    before = waits()
    run_some(0.002)
    during = waits()
    run_some(0.0)
    after = waits()

    assert (before, during, after) == (True, False, True)


def test_idle_threads_end_after_a_while(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has had nothing to do ends, and its place is free for a new one."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.001)
    threads = pools(1)
    for number in (1, 2, 3):
        job = Job(go=True)
        threads.submit(job, eager=False)
        job.done.wait()
        until(lambda: threads.alive == 0)
        assert job.thread == f"bridge-test-{number}"


def test_what_belongs_to_a_thread_is_closed_there_at_its_end(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has asked for that is called; one that raises does not keep the others from it."""
    closed: list[str] = []
    ended = Flag()

    def fails() -> None:
        closed.append(threading.current_thread().name)
        if len(closed) == 2:
            ended.set()
        raise OSError("planned")

    monkeypatch.setattr(pool, "at_end", {fails, lambda: fails()})
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.001)
    threads = pools(1)
    threads.submit(Job(go=True), eager=False)
    ended.wait()

    assert ["bridge-test-1"] * 2 == closed
    assert "the cleanup at the end of bridge-test-1 raised" in caplog.text


@pytest.mark.parametrize("eager", [True, False])
def test_no_job_is_lost_to_a_thread_that_is_about_to_end(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, eager: bool
) -> None:
    """A job that comes just when the idle time is over is run, by that thread or by another one."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 1e-5)
    threads = pools(2)
    for _ in range(300):
        job = Job(go=True)
        threads.submit(job, eager=eager)
        job.done.wait()


def test_a_wake_up_too_many_is_harmless(pools: Pools) -> None:
    """A wake-up that comes after its job was over neither ends the thread nor keeps it from the next job."""
    threads = pools(1)
    threads_of_jobs: list[JobThread] = []
    job = Job(threads_of_jobs.append, go=True)
    threads.submit(job, eager=False)
    job.done.wait()
    for _ in range(3):
        threads_of_jobs[0].wake()
    until(lambda: not threads.busy)
    for _ in range(3):
        threads_of_jobs[0].wake()
        job = Job(go=True)
        threads.submit(job, eager=False)
        job.done.wait()

    assert (job.thread, threads.alive) == ("bridge-test-1", 1)


def test_a_job_waits_for_a_wake_up(pools: Pools) -> None:
    """In its thread, a job can wait until it is woken, or for some seconds."""
    outcomes: list[bool] = []

    def work(thread: JobThread) -> None:
        outcomes.append(thread.wait(0.001))
        thread.wake()
        outcomes.append(thread.wait(PATIENCE))

    job = Job(work, go=True)
    pools().submit(job, eager=False)
    job.done.wait()

    assert outcomes == [False, True]


def test_a_thread_of_a_pool_is_known_in_it(pools: Pools) -> None:
    """`current.thread` is the thread that one is in, and None in other threads."""
    seen: list[Any] = []
    job = Job(lambda thread: seen.append(current.thread is thread and thread.job is job), go=True)
    pools().submit(job, eager=False)
    job.done.wait()

    assert seen == [True]
    assert current.thread is None


def test_a_job_that_breaks_off_does_not_end_its_thread(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    """It must not raise; where it does, the pool is not one thread short ever after."""

    def break_off(_thread: JobThread) -> None:
        raise MemoryError("no memory to end")

    threads = pools(1)
    broken, following = Job(break_off, go=True), Job(go=True)
    threads.submit(broken, eager=True)
    threads.submit(following, eager=False)
    following.done.wait()

    assert following.thread == broken.thread
    assert "bridge-test-1 continues after a job that failed" in caplog.text


def test_an_idle_thread_keeps_nothing_of_its_last_job(pools: Pools) -> None:
    """A job and what it refers to are freed when it is over, and not when the next one comes."""
    threads = pools()
    job = Job(go=True)
    threads.submit(job, eager=False)
    job.done.wait()
    until(lambda: not threads.busy)
    reference = weakref.ref(job)
    del job

    gc.collect()
    assert reference() is None


def test_a_job_that_raises_costs_no_thread(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    """It must not; where it does, that is logged, and its thread takes the next one."""

    def fails(_thread: JobThread) -> None:
        raise LookupError("planned")

    threads = pools(1)
    threads.submit(Job(fails, go=True), eager=False)
    until(lambda: not threads.busy)
    following = Job(go=True)
    threads.submit(following, eager=False)
    following.done.wait()

    assert following.thread == "bridge-test-1"
    assert "LookupError: planned" in caplog.text


def test_a_withdrawn_job_is_never_run(pools: Pools) -> None:
    """A job can be taken back as long as it waits."""
    threads = pools(1)
    [first] = pools.held(threads, 1)
    job, last = Job(go=True), Job(go=True)
    threads.submit(job, eager=False)
    threads.submit(last, eager=False)

    assert threads.withdraw(job) is True
    assert threads.withdraw(job) is False
    assert threads.withdraw(first) is False
    first.go.set()
    last.done.wait()
    assert not job.begun.is_set()


def stuck_here(_thread: JobThread, released: Flag) -> None:
    """Where the thread of a test is stuck."""
    released.wait()


def test_where_a_thread_is_can_be_told(pools: Pools) -> None:
    """A description has the name of the thread and its stack."""
    released = Flag()
    threads_of_jobs: list[JobThread] = []

    def work(thread: JobThread) -> None:
        threads_of_jobs.append(thread)
        stuck_here(thread, released)

    job = Job(work, go=True)
    threads = pools()
    threads.submit(job, eager=False)
    until(lambda: threads_of_jobs)
    until(lambda: "in stuck_here" in threads_of_jobs[0].describe())
    description = threads_of_jobs[0].describe()
    released.set()
    job.done.wait()

    assert "bridge-test-1" in description
    assert __file__ in description


def test_close_ends_idle_threads(pools: Pools) -> None:
    """ThreadPool that wait for jobs end at once, and the last one says so."""
    threads = pools()
    pools.idle(threads, 3)
    drained = Flag()
    threads.close(drained.set)
    drained.wait()

    assert threads.join(0) == []
    assert (threads.alive, threads.usable) == (0, False)


def test_close_without_threads_is_over_at_once(pools: Pools) -> None:
    """A pool that was never used has nothing to wait for."""
    threads = pools()
    drained = Flag()
    threads.close(drained.set)

    assert drained.is_set()
    assert threads.join(0) == []


def test_close_lets_running_and_waiting_jobs_finish(pools: Pools) -> None:
    """All that was submitted before is run, and only then is the pool drained."""
    threads = pools(2)
    running = pools.held(threads, 2)
    waiting = pools.held(threads, 5, eager=False)
    drained = Flag()
    threads.close(drained.set)
    assert not drained.is_set()
    for job in [*running, *waiting]:
        job.go.set()
    drained.wait()

    assert all(job.done.is_set() for job in waiting)
    assert threads.join(0) == []


def test_a_thread_that_finishes_after_close_ends_at_once(pools: Pools) -> None:
    """It does not wait for a job that cannot come any more."""
    threads = pools(1)
    [job] = pools.held(threads, 1)
    threads.close(None)
    job.go.set()

    assert threads.join(PATIENCE) == []


def test_a_closed_pool_takes_no_jobs(pools: Pools) -> None:
    """A job that comes too late is refused, and not forgotten."""
    threads = pools()
    threads.close(None)

    with pytest.raises(RuntimeError, match="stopped"):
        threads.submit(Job(), eager=False)


def test_join_names_the_threads_that_do_not_stop(pools: Pools) -> None:
    """Who waits for the end gets to know what holds it up."""
    threads = pools()
    pools.idle(threads, 2)
    [job] = pools.held(threads, 1)
    threads.close(None)
    until(lambda: threads.alive == 1)
    [description] = threads.join(0)

    assert job.thread in description
    assert "in run" in description


def test_join_drops_the_jobs_that_nobody_has_come_to(pools: Pools) -> None:
    """Whoever waits for such a job is told that it will not be run."""
    threads = pools(1)
    pools.held(threads, 1)
    jobs = pools.held(threads, 3, eager=False)
    threads.close(None)
    threads.join(0)

    assert [job.was_dropped.is_set() for job in jobs] == [True] * 3
    assert [job.begun.is_set() for job in jobs] == [False] * 3


def test_a_pool_is_of_one_process(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of the process that this one was forked from are not here."""
    threads = pools()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)

    assert threads.usable is False


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("eager", [True, False])
def test_every_job_is_run_once(pools: Pools, monkeypatch: pytest.MonkeyPatch, limit: int, eager: bool) -> None:
    """Jobs from several threads at once are run, each once, by no more threads than the limit."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 1e-4)
    threads = pools(limit)
    ran: list[int] = []
    names: set[str] = set()
    last = [Job(go=True) for _ in range(4)]

    def submit(at: int) -> None:
        for number in range(100):
            job = Job(lambda _thread, number=number: ran.append(at * 100 + number), go=True)
            threads.submit(job, eager=eager)
            names.add(f"{threads.alive <= limit}")
        threads.submit(last[at], eager=eager)

    submitters = [threading.Thread(target=submit, args=(at,)) for at in range(4)]
    for submitter in submitters:
        submitter.start()
    for submitter in submitters:
        submitter.join()
    while threads.grow():
        pass
    for job in last:
        job.done.wait()
    until(lambda: len(ran) == 400)

    assert sorted(ran) == list(range(400))
    assert names == {"True"}


def long_job(**options: Any) -> Job:
    job = Job(**options)
    job.kind = "/slow"
    return job


def make_known(threads: ThreadPool) -> None:
    """Let the pool know that jobs of the kind of `long_job` are long."""
    for _ in range(3):
        threads.lengths.add(1.0, "/slow", 0.0, 1)
    for _ in range(9):
        threads.lengths.add(0.0, "/quick", 0.0, 1)
    assert not threads.lengths.long


def test_a_job_that_is_foreseen_to_be_long_gets_a_thread_of_its_own(pools: Pools) -> None:
    """Short jobs do not wait behind it, and it does not wait behind them."""
    threads = pools()
    make_known(threads)
    [short] = pools.held(threads, 1, eager=False)
    short.begun.wait()
    long = long_job()

    assert threads.submit(long, eager=False) is False
    long.begun.wait()
    assert (threads.alive, threads.busy, threads.waiting) == (2, 2, 0)
    # It does not count as one that sees to the queue: the next short one waits for the first.
    second = Job(go=True)
    assert threads.submit(second, eager=False) is True
    finish(threads, short)
    second.done.wait()
    assert second.thread == short.thread
    finish(threads, long)


def test_only_sleeping_long_jobs_leave_the_queue_to_nobody(pools: Pools) -> None:
    """A short job that comes then wakes a thread at once."""
    threads = pools()
    make_known(threads)
    long = long_job()
    threads.submit(long, eager=False)
    long.begun.wait()
    short = Job(go=True)

    assert threads.submit(short, eager=False) is False
    short.done.wait()
    finish(threads, long)


def test_a_foreseen_job_waits_in_the_queue_where_all_threads_are_busy(pools: Pools) -> None:
    """As any other: in its order."""
    threads = pools(1)
    make_known(threads)
    [first] = pools.held(threads, 1)
    order: list[str] = []
    short = Job(lambda _thread: order.append("short"), go=True)
    long = long_job(work=lambda _thread: order.append("long"), go=True)
    for job in (short, long):
        assert threads.submit(job, eager=False) is True
    finish(threads, first)
    long.done.wait()

    assert order == ["short", "long"]


def test_a_thread_that_blocks_no_longer_counts(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the queue has stood still behind it, the next job wakes a thread and waits for no look."""
    clock = Clock()
    monkeypatch.setattr(pool, "monotonic", clock)
    threads = pools()
    pools.held(threads, 1)
    second = Job(go=True)
    assert threads.submit(second, eager=False) is True
    clock.now += 0.011
    threads.grow()
    second.done.wait()
    until(lambda: threads.busy == 1)
    threads.grow()
    third = Job()

    assert threads.submit(third, eager=False) is False
    third.begun.wait()
    finish(threads, third)
