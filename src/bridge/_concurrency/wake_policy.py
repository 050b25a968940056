"""Decides when a pool wakes further threads: by how long its jobs take, by whether its queue stands still, and by
whether its threads use up the interpreter lock.

If they do, a further thread would only wait for the lock, and keep the event loop from it too. A job that computes may
also have released the lock, in C code. One such thread alone looks like one that holds it, so the pool tries a second.
"""

import sys
from collections.abc import Hashable
from time import monotonic, process_time, thread_time
from typing import Final, Protocol

LONG_JOB_SECONDS: Final = 0.001
# Shorter ones may have waited for the interpreter lock, which the loop holds for some milliseconds when many requests
# come at once.
BLOCKED_SECONDS: Final = 0.01
_DECAY_SHARE: Final = 0.1  # the last ten or so count
_MOSTLY_SHARE: Final = 0.5
# A job may have waited for others if all that ran then, computing as much as it did, take this share of its time.
_COMPUTING_SHARE: Final = 0.25
# The score of a kind: a job that blocks adds 1, one that computes or takes some milliseconds subtracts 1, and a short
# one 2.
_HIGHEST_SCORE: Final = 6
_BLOCKING_SCORE: Final = 3
# A site may have any number of paths.
_MOST_KINDS: Final = 1000
# After this many looks in a row, a queue has lasted too long, even if it moves.
_LOOKS_UNTIL_LASTING: Final = 50
# If the lock is used up, this many looks in a row have to find the queue standing still.
_LOOKS_WITHOUT_LOCK: Final = 8
# Processors. If the threads use more than the first and less than the second, they use up the lock.
_USED_UP, _PARALLEL = 0.6, 1.2
# What they use is looked at over so many seconds.
_SAMPLE_SECONDS: Final = 0.005


def threads_take_turns() -> bool:
    """Whether the interpreter lock is on now. An extension module can turn it on in a free-threaded build."""
    enabled: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return enabled


class JobLengths:
    """How long the jobs of a pool took: whether most of them are long, and which kinds block. Its owner holds a lock.

    Without an interpreter lock, all count as long. This is checked once, when the pool is made at the first request: by
    then the application has loaded its extension modules. A module that turns the lock on later only costs needless
    wake-ups, until the next pool.
    """

    def __init__(self) -> None:
        self._measures = threads_take_turns()
        self._long_share = 0.0 if self._measures else 1.0
        # Whether most of the last jobs took more than a millisecond.
        self.long = not self._measures
        # The score of each kind that was long lately, in the order in which they last came.
        self.known: dict[Hashable, int] = {}

    def asks(self, seconds: float) -> bool:
        """Whether `add` uses the kind of a job that has taken `seconds`."""
        return self._measures and (bool(self.known) or seconds > BLOCKED_SECONDS)

    def add(self, seconds: float, kind: Hashable, computed: float, at_once: int) -> None:
        """Note that a job of this kind took `seconds`, of which it computed for `computed` (0 if not measured), while
        up to `at_once` jobs ran.
        """
        if not self._measures:
            return
        long = seconds > LONG_JOB_SECONDS
        self._long_share += _DECAY_SHARE * (long - self._long_share)
        self.long = self._long_share > _MOSTLY_SHARE
        blocked = seconds > BLOCKED_SECONDS
        if kind is None or not (blocked or self.known):
            return
        score = self.known.pop(kind, 0)
        if not blocked:
            score -= 1 if long else 2
        elif computed * at_once > _COMPUTING_SHARE * seconds:
            score = max(score - 1, 1)
        else:
            score = min(score + 1, _HIGHEST_SCORE)
        if score > 0:
            self.known[kind] = score
        if len(self.known) > _MOST_KINDS:
            del self.known[next(iter(self.known))]

    def blocks(self, kind: Hashable) -> bool:
        """Whether a job of this kind probably blocks for long: more than two of three did, and so did the last ones."""
        return self.known.get(kind, 0) >= _BLOCKING_SCORE


class Measured(Protocol):
    """A thread of a pool: when it was looked at, and its processor time then."""

    looked: float
    looked_computed: float


class LockUsage:
    """Whether the threads of a pool use up the interpreter lock. Its owner holds a lock. Times are from `monotonic()`.

    The process must use most of a processor now, and these threads between them about one. Otherwise they wait for
    something, or something else computes, and they get their turn. Looking takes two system calls in some
    milliseconds, and none for a job.
    """

    def __init__(self) -> None:
        self._measures = threads_take_turns()
        self._processors = 0.0
        self._computes = False
        self._since = monotonic()
        self._used = process_time()

    @property
    def used_up(self) -> bool:
        """Whether a further thread would only wait for the lock."""
        return self._computes and _USED_UP < self._processors < _PARALLEL

    def look(self, now: float) -> None:
        """Look at the process, unless that has just been done."""
        if now - self._since > _SAMPLE_SECONDS:
            used = process_time()
            self._computes = self._measures and used - self._used > _USED_UP * (now - self._since)
            self._since, self._used = now, used

    def began(self, thread: Measured, now: float) -> None:
        """Note that `thread` has slept. Called in that thread."""
        thread.looked, thread.looked_computed = now, thread_time()

    def ended(self, thread: Measured, now: float, awake: int) -> None:
        """Note that a job has ended in `thread`, one of `awake`. Called in that thread."""
        seconds = now - thread.looked
        if self._measures and seconds > _SAMPLE_SECONDS:
            self.look(now)
            before = thread.looked_computed
            self.began(thread, now)
            share = (thread.looked_computed - before) / seconds
            self._processors += _DECAY_SHARE * (share * awake - self._processors)


class WakePolicy:
    """Says how many more threads would help, by what the looks at one queue have seen. Its owner holds a lock, and
    looks every millisecond while there is a queue.

    A job does not wait forever if there could be a thread for it. Either jobs end, and each job that ends lets the
    first of the queue begin. Or no job ends, and then further threads are woken at the next look, or after eight
    looks if the lock is used up.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._growth = 1
        self._still = self._lasted = 0

    def begin(self, completed: int) -> None:
        """Note that a job came to an empty queue. The `completed` jobs before do not count as progress."""
        self._seen = completed
        self._still = self._lasted = 0

    def end(self) -> None:
        """Note that the queue was found empty."""
        self._growth = 1

    def helpful(self, completed: int, waiting: int, *, used_up: bool, tries: bool) -> int:
        """Return how many further threads would help, if `completed` jobs have ended and `waiting` jobs are in the
        queue.

        `used_up`: the lock is. `tries`: even so, one more is tried, to see whether it can compute at the same time.
        """
        self._lasted += 1
        if completed != self._seen:
            self._growth, self._still, self._seen = 1, 1, completed
            if self._lasted < _LOOKS_UNTIL_LASTING or (used_up and not tries):
                return 0
            self._lasted = 0
            return 1
        self._still += 1
        if used_up and completed and self._still <= _LOOKS_WITHOUT_LOCK:
            return 0
        growth = min(self._growth, waiting)
        self._growth *= 2
        return growth
