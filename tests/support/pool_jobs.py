"""Jobs for a pool of worker threads, each step of which is the test's; and a clock."""

import threading
from collections.abc import Callable, Hashable

from bridge._concurrency.jobs import JobThread
from bridge._concurrency.pool import ThreadPool
from support.waiting import Flag, until


class Job:
    """A job that tells when it has begun, and then waits for `go` unless it has been set before."""

    kind: Hashable = None

    def __init__(self, work: Callable[[JobThread], object] = lambda _thread: None, *, go: bool = False) -> None:
        self.begun = Flag()
        self.go = Flag()
        self.done = Flag()
        self.was_dropped = Flag()
        self.thread = ""
        self._work = work
        if go:
            self.go.set()

    def run(self, thread: JobThread) -> None:
        self.thread = threading.current_thread().name
        self.begun.set()
        self.go.wait()
        self._work(thread)
        self.done.set()

    def dropped(self) -> None:
        self.was_dropped.set()


class Pools:
    """Makes pools whose threads end with the test."""

    def __init__(self) -> None:
        self.made: list[tuple[ThreadPool, list[Job]]] = []

    def __call__(self, limit: int = 40, name: str = "test") -> ThreadPool:
        threads = ThreadPool(limit, name=name)
        self.made.append((threads, []))
        return threads

    def held(self, threads: ThreadPool, number: int, *, eager: bool = True) -> list[Job]:
        """Submit jobs that wait; `eager` ones are waited for until they run."""
        jobs = [Job() for _ in range(number)]
        next(mine for pool, mine in self.made if pool is threads).extend(jobs)
        for job in jobs:
            threads.submit(job, eager=eager)
            if eager:
                job.begun.wait()
        return jobs

    def idle(self, threads: ThreadPool, number: int) -> list[str]:
        """Have this many idle threads; returns their names in the order in which they became idle."""
        jobs = self.held(threads, number)
        for job in jobs:
            finish(threads, job)
        return [job.thread for job in jobs]


def finish(threads: ThreadPool, job: Job) -> None:
    """Let a job end, and wait until its thread is idle."""
    busy = threads.busy
    job.go.set()
    job.done.wait()
    until(lambda: threads.busy < busy)


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
