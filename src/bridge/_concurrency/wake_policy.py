"""What the threads of a pool do: whether their jobs are long, and whether they use up the interpreter lock.

Where they do, a further thread would only wait for that lock, and keep the event loop from it too. Three things have to
hold for that, since a thread is withheld from a job that waits:

* The process uses most of a processor now. Else the threads wait for something, and others can run meanwhile. This is
  looked at in the last few milliseconds, so that it is known at once when a thread that computed begins to wait.
* The threads of the pool are those that do so: `share`, how many processors they use together. Where it is another
  thread that computes, or the event loop, they get their turn all the same, and only wait for something.
* They use no more than one. Where they use more, they compute without the lock (hashing, compression), and further
  ones have further processors.

One thread alone that computes without the lock looks as one that holds it; `ThreadPool.grow` has a second one try.
Where clocks tick slowly (process time on Windows: 15.6 ms) the first is known later, and wrong for one tick. In a
build without the lock nothing is withheld. Looking costs two system calls in some milliseconds, and none for a job.
"""

import sys
from time import monotonic, process_time, thread_time
from typing import Final, Protocol

GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
# Processors; from the first to the second of them the lock is used up.
_SATURATED_PROCESSORS: Final = 0.6
_PARALLEL_PROCESSORS: Final = 1.2
# Over how long that is looked at, in seconds.
_SAMPLE_SECONDS: Final = 0.005
_LONG_JOB_SECONDS: Final = 0.001
_DECAY_SHARE: Final = 0.1  # the last ten or so count
_MOSTLY_SHARE: Final = 0.5


class Measured(Protocol):
    """A thread of the pool: since when its job runs, and when and at which thread time it was last looked at."""

    since: float
    looked: float
    computed: float


class GilUsage:
    """What the threads of one pool do; its owner has a lock. Times are those of `monotonic()`."""

    def __init__(self) -> None:
        self.share = 0.0
        self._long = 0.0 if GIL else 1.0
        self._computes = False
        self._since = monotonic()
        self._used = process_time()

    @property
    def reached(self) -> bool:
        """Whether a further thread would only wait for the interpreter lock."""
        return self._computes and _SATURATED_PROCESSORS < self.share < _PARALLEL_PROCESSORS

    @property
    def long(self) -> bool:
        """Whether most of the last jobs took more than a millisecond."""
        return self._long > _MOSTLY_SHARE

    def look(self, now: float) -> None:
        """Look at the process again, if that has not just been done."""
        if now - self._since > _SAMPLE_SECONDS:
            used = process_time()
            self._computes = GIL and used - self._used > _SATURATED_PROCESSORS * (now - self._since)
            self._since, self._used = now, used

    def began(self, thread: Measured, now: float) -> None:
        """`thread` has slept; called in it."""
        thread.looked, thread.computed = now, thread_time()

    def ended(self, thread: Measured, now: float, awake: int) -> None:
        """A job of `thread` has ended, one of `awake`; called in it."""
        if not GIL:
            return
        self.look(now)
        self._long += _DECAY_SHARE * ((now - thread.since > _LONG_JOB_SECONDS) - self._long)
        if now - thread.looked > _SAMPLE_SECONDS:
            before, seconds = thread.computed, now - thread.looked
            self.began(thread, now)
            self.share += _DECAY_SHARE * ((thread.computed - before) / seconds * awake - self.share)


# How many looks in a row have to find it still where the threads compute.
_LOOKS_BEFORE_WAKING: Final = 8
# After how many looks in a row a queue has lasted too long though it moves.
_LOOKS_UNTIL_LASTING: Final = 50


class WakePolicy:
    """What the looks at one queue have seen; its owner has a lock, and looks each millisecond while there is a queue.

    No job waits for ever while a thread could be had: either jobs end, and each that does lets the first of the queue
    begin; or none does, and then further threads are woken after `_LOOKS_BEFORE_WAKING` looks at the latest.
    """

    def __init__(self, usage: GilUsage) -> None:
        self._usage = usage
        self._seen = 0
        self._growth = 1
        self._still = self._lasted = 0

    def begin(self, completed: int) -> None:
        """A job has come to an empty queue; `completed` jobs had ended before, which is no progress of this queue."""
        self._seen = completed
        self._still = self._lasted = 0

    def end(self) -> None:
        """The queue was found empty."""
        self._growth = 1

    def helpful(self, completed: int, waiting: int, awake: int) -> int:
        """How many further threads would help, where `completed` jobs have ended, `waiting` ones are in the queue, and
        `awake` threads are not asleep.
        """
        saturated = self._usage.reached
        self._lasted += 1
        if completed != self._seen:
            self._growth, self._still, self._seen = 1, 1, completed
            if self._lasted < _LOOKS_UNTIL_LASTING or (saturated and not (awake == 1 and self._usage.long)):
                return 0
            self._lasted = 0
            return 1
        self._still += 1
        if self._still <= _LOOKS_BEFORE_WAKING and saturated and completed:
            return 0
        growth = min(self._growth, waiting)
        self._growth *= 2
        return growth
