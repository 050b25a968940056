"""A limited number of worker threads, started when they are needed. They run jobs and know nothing about them.

As few threads as possible take jobs from the queue: one active worker drains it, and another is woken only if that
helps. Waking a thread costs more than a short job does, and threads that share one interpreter lock slow each other
down. It helps

* when no worker is active;
* when jobs are known to be long (most of the last ones took over a millisecond);
* when the queue has stood still for a millisecond (`grow`): the active workers block, so further ones are woken, one,
  then two, then four ... as long as it stands still;
* when the queue moves, but has not been empty for fifty milliseconds: the active workers block for a moment each.

If the active workers use up the interpreter lock (`LockUsage`), another thread would only wait for it. Then the second
and the last of these do not count, and the queue has to stand still for eight milliseconds.

A worker whose job lasts for ten milliseconds when the queue stands still does not count as active until that job ends.
A job of a kind that is known to block does not go through the queue if there is a thread for it.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from queue import Empty, SimpleQueue
from time import monotonic, thread_time
from typing import Any, Final

from bridge._concurrency.greenlets import in_empty_context
from bridge._concurrency.jobs import Job, PoolClosed, current, describe
from bridge._concurrency.wake_policy import BLOCKED_SECONDS, JobLengths, LockUsage, WakePolicy

IDLE_SECONDS: Final = 60.0

_log = logging.getLogger("bridge")

# Called in each of our threads at its end, to close what belongs to a thread, for example database connections.
at_end: set[Callable[[], object]] = set()


class Worker:
    """One thread of a pool."""

    def __init__(self, pool: "ThreadPool") -> None:
        # The job that it runs, or is woken for.
        self.job: Job | None = None
        self.since = 0.0
        # How many jobs ran when it began, itself included.
        self.at_once = 0
        # When `LockUsage` looked at it last, and its processor time then.
        self.looked = self.looked_computed = 0.0
        # The kind of the last job, and its processor time in seconds, if they are asked for.
        self.kind: Hashable = None
        self.computed = 0.0
        self.loop: object = None
        self.tasks: list[Any] = []
        # Workers whose threads this one is to start.
        self.siblings: list[Worker] = []
        self.inbox: SimpleQueue[None] = SimpleQueue()
        self._pool = pool
        self.thread: threading.Thread

    def start(self) -> None:
        """Start its thread, or let the thread look for work. Raises `RuntimeError` if no thread can be started."""
        if self.thread.ident is None:
            self.thread.start()
        else:
            self.inbox.put(None)

    def wake(self) -> None:
        """End the wait of the thread."""
        self.inbox.put(None)

    def wait(self, timeout: float) -> bool:
        """Wait for `wake`. Returns False after `timeout` seconds without one."""
        try:
            self.inbox.get(timeout=timeout)
        except Empty:
            return False
        return True

    def describe(self) -> str:
        """Return the name of the thread and its current stack."""
        return describe(self.thread.name, self.thread.ident)

    def main(self) -> None:
        """What its thread does."""
        current.thread = self
        pool = self._pool
        if self.siblings:
            pool.start(self.siblings)
            self.siblings = []
        job = pool.next_job(self, monotonic(), done=False)
        lengths = pool.lengths
        while job is not None:
            began = thread_time() if lengths.known and job.kind in lengths.known else None
            try:
                job.run(self)
            except BaseException:
                # A bug of ours. It must not cost the pool a thread.
                _log.exception("%s continues after a job that failed", self.thread.name)
            now = monotonic()
            self.kind = job.kind if lengths.asks(now - self.since) else None
            self.computed = 0.0 if began is None else thread_time() - began
            self.job = job = None  # the job's objects must not live until the next one comes
            job = pool.next_job(self, now, done=True)
        for function in list(at_end):  # list() of a set is atomic, even without the interpreter lock
            try:
                function()
            except BaseException:
                _log.exception("the cleanup at the end of %s raised", self.thread.name)


class ThreadPool:
    """At most `limit` worker threads in this process. A thread that has been idle for `idle` seconds ends."""

    def __init__(self, limit: int, *, name: str, idle: float | None = None) -> None:
        self.pid = os.getpid()
        self.limit = limit
        self.idle = IDLE_SECONDS if idle is None else idle
        self.name = name
        self.busy = 0
        self._queue: deque[Job] = deque()
        self._lock = threading.Lock()
        self._workers: dict[Worker, None] = {}
        self._idle: list[Worker] = []
        # Workers that look for work, or run a job of the queue and are not known to block.
        self._active: dict[Worker, None] = {}
        self._started = self._completed = 0
        # How many workers have a thread that has not begun yet, and whether the last one could not be started.
        self._starting, self._failing = 0, False
        self.lengths = JobLengths()
        self._usage = LockUsage()
        self._policy = WakePolicy()
        self.closing = False
        self._drained = threading.Event()
        self._on_drained: Callable[[], None] | None = None

    @property
    def usable(self) -> bool:
        """Whether jobs can be submitted: it is not being stopped, and was made in this process."""
        return not self.closing and self.pid == os.getpid()

    @property
    def alive(self) -> int:
        """How many threads exist."""
        return len(self._workers)

    @property
    def waiting(self) -> int:
        """How many jobs no thread has taken yet."""
        return len(self._queue)

    @property
    def over_limit(self) -> int:
        """How many jobs would have to wait even if all `limit` threads were awake."""
        return len(self._queue) + self.busy - self.limit

    def submit(self, job: Job, *, eager: bool) -> bool:
        """Queue `job`. Returns whether `grow` has to be called in a millisecond, because no thread was woken for it.

        `eager` wakes a thread in any case. Raises `RuntimeError` if there is no thread and none can be started.
        """
        with self._lock:
            if self.closing:
                raise PoolClosed("the threads are being stopped")
            lengths = self.lengths
            if lengths.known and not eager and lengths.blocks(job.kind) and (worker := self._pick_thread()):
                self._give(worker, job, monotonic())
            else:
                self._queue.append(job)
                if len(self._queue) == 1:
                    self._policy.begin(self._completed)
                # Whether it would wait for long ones that leave the interpreter lock to others.
                waits = lengths.long and not self._usage.used_up
                worker = self._pick_thread() if waits or eager or not self._active else None
                if worker is not None:
                    self._active[worker] = None
        return worker is None or not self.start([worker], job)

    def grow(self) -> bool:
        """Wake further threads if the queue stands still. Returns whether to call this again in a millisecond."""
        with self._lock:
            if not self._queue:
                self._policy.end()
                return False
            usage = self._usage
            usage.look(monotonic())
            tries = self.lengths.long and len(self._active) <= 1
            further = self._policy.helpful(self._completed, len(self._queue), used_up=usage.used_up, tries=tries)
            if further:
                self._find_blocked()
            woken = [worker for _ in range(further) if (worker := self._pick_thread())]
            self._active.update(dict.fromkeys(woken))
        self.start(woken)
        with self._lock:
            # Threads that are being started may fail.
            return bool(self._idle or self._starting) or len(self._workers) < self.limit

    def _find_blocked(self) -> None:
        """Count workers that have run one job for long as blocked: others will take the queue."""
        before = monotonic() - BLOCKED_SECONDS
        for worker in [each for each in self._active if each.job is not None and each.since < before]:
            del self._active[worker]

    def withdraw(self, job: Job) -> bool:
        """Take `job` out of the queue. Returns whether it was still there."""
        with self._lock:
            try:
                self._queue.remove(job)
            except ValueError:
                return False
            return True

    def close(self, on_drained: Callable[[], None] | None) -> None:
        """Take no more jobs. The threads end when the queue is empty, and the last one calls `on_drained`. Does not
        wait.
        """
        with self._lock:
            self.closing = True
            self._on_drained = on_drained
            idle, self._idle = self._idle, []
            self._active.update(dict.fromkeys(idle))
        for worker in idle:
            worker.wake()
        self._end_if_drained()

    def discard(self) -> None:
        """Like `close`, for a finalizer. That may run in any thread, even while the thread holds the lock, so this
        takes no lock.
        """
        self.closing = True
        for worker in list(self._workers):
            worker.wake()

    def join(self, timeout: float) -> list[str]:
        """After `close`, wait at most `timeout` seconds for the threads to end. Returns descriptions of the others.

        Jobs that are still in the queue then are dropped.
        """
        self._drained.wait(timeout)
        with self._lock:
            dropped = list(self._queue)
            self._queue.clear()
            left = list(self._workers)
        for job in dropped:
            job.dropped()
        return [worker.describe() for worker in left]

    def next_job(self, worker: Worker, now: float, *, done: bool) -> Job | None:
        """Wait for the next job for `worker`. Returns None when the worker has to end. Only workers call this."""
        with self._lock:
            if done:
                self._active[worker] = None
                self._usage.ended(worker, now, len(self._active))
                self.lengths.add(now - worker.since, worker.kind, worker.computed, max(worker.at_once, self.busy))
                self.busy -= 1
                self._completed += 1
            else:
                self._starting -= 1
                self._usage.began(worker, now)
            if (job := self._take(worker, now)) is not None:
                return job
            if self.closing:
                self._remove(worker)
            else:
                self._rest(worker)
        while worker in self._workers:
            timely = worker.wait(self.idle)
            self._usage.began(worker, monotonic())
            with self._lock:
                if worker in self._idle:
                    if timely and not self.closing:
                        continue  # the wake-up was for a job that is over
                    self._idle.remove(worker)
                    self._active[worker] = None
                job = self._take(worker, monotonic())
                if job is not None:
                    return job
                if timely and not self.closing:
                    self._rest(worker)
                else:
                    # In one step with the look at the queue, so that a later job does not count on this worker.
                    self._remove(worker)
        self._end_if_drained()
        return None

    def _take(self, worker: Worker, now: float) -> Job | None:
        """Return the job that `worker` was woken for, or the first of the queue. With the lock held."""
        if worker.job is None and self._queue:
            self._give(worker, self._queue.popleft(), now)
        return worker.job

    def _give(self, worker: Worker, job: Job, now: float) -> None:
        worker.job = job
        worker.since = now
        self.busy += 1
        worker.at_once = self.busy

    def _rest(self, worker: Worker) -> None:
        self._active.pop(worker, None)
        self._idle.append(worker)

    def _pick_thread(self) -> Worker | None:
        """Return a worker to wake: the one that went idle last, or a new one, or None. With the lock held."""
        if self._idle:
            return self._idle.pop()
        if len(self._workers) >= self.limit:
            return None
        self._started += 1
        self._starting += 1
        worker = Worker(self)
        name = f"bridge-{self.name}-{self._started}"
        worker.thread = threading.Thread(target=worker.main, name=name, daemon=True, **in_empty_context())
        self._workers[worker] = None
        return worker

    def start(self, workers: list[Worker], job: Job | None = None) -> bool:
        """Let `workers` look for work, for example `job`. Returns whether all can. Raises `RuntimeError` if no thread
        will take `job`.

        Workers whose threads cannot be started are forgotten.
        """
        # Starting a thread takes time: the first of several new ones starts the others.
        new = [worker for worker in workers if worker.thread.ident is None]
        for worker in new[:1]:
            worker.siblings = new[1:]
        for worker in [worker for worker in workers if worker not in new[1:]]:
            try:
                worker.start()
            except (RuntimeError, MemoryError) as error:
                if not self._failing:
                    _log.warning("a worker thread cannot be started: %s", error)
                with self._lock:
                    self._failing = True
                    for lost in (worker, *worker.siblings):
                        self._lose(lost)
                    # If there is another thread, it will take what waits. Otherwise nothing will.
                    stranded = [] if self._workers else [self._queue.popleft() for _ in range(len(self._queue))]
                for waiting in stranded:
                    if waiting is not job:
                        waiting.dropped()
                self._end_if_drained()
                if job in stranded:
                    raise RuntimeError(str(error)) from error
                return False
        if new:
            self._failing = False
        return True

    def _lose(self, worker: Worker) -> None:
        """Forget a worker whose thread cannot be started. Its job goes back to the queue. With the lock held."""
        self._starting -= 1
        self._remove(worker)
        if worker.job is not None:
            self._queue.appendleft(worker.job)
            self.busy -= 1
            worker.job = None

    def _remove(self, worker: Worker) -> None:
        """Take a worker that is not idle out of the pool. With the lock held."""
        del self._workers[worker]
        self._active.pop(worker, None)

    def _end_if_drained(self) -> None:
        if self.closing and not self._workers:
            self._drained.set()
            if self._on_drained is not None:
                self._on_drained()
