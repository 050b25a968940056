"""Decides when a pool wakes further threads: by how long its jobs take, and by whether its queue stands still.

A job that computes may hold the interpreter lock, or may have released it, in C code. From outside, this cannot be
known. So the queue behind such a job gets further threads, as behind a job that blocks. But the next job of its kind
does not get a thread at once, as one that blocks does.
"""

import sys
from collections.abc import Hashable
from typing import Final

LONG_JOB_SECONDS: Final = 0.001
_DECAY_SHARE: Final = 0.1  # the last ten or so count
_MOSTLY_SHARE: Final = 0.5
# A job computes if this share of its time is processor time. It shares the processor with other threads. A job that
# blocks uses next to none.
_COMPUTING_SHARE: Final = 0.2
# The score of a kind: a job that blocks for long adds 1, one that computes for long subtracts 1, and a short one 2.
_HIGHEST_SCORE: Final = 6
_BLOCKING_SCORE: Final = 3
# A site may have any number of paths.
_MOST_KINDS: Final = 1000
# After this many looks in a row, a queue has lasted too long, even if it moves.
_LOOKS_UNTIL_LASTING: Final = 50


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
        # The score of each kind that was long lately, in the order in which they last came.
        self.known: dict[Hashable, int] = {}

    @property
    def long(self) -> bool:
        """Whether most of the last jobs took more than a millisecond."""
        return self._long_share > _MOSTLY_SHARE

    def asks(self, seconds: float) -> bool:
        """Whether `add` uses the kind of a job that has taken `seconds`."""
        return self._measures and (bool(self.known) or seconds > LONG_JOB_SECONDS)

    def add(self, seconds: float, kind: Hashable, computed: float) -> None:
        """Note that a job of this kind took `seconds`, of which it computed for `computed` (0 if not measured)."""
        if not self._measures:
            return
        long = seconds > LONG_JOB_SECONDS
        self._long_share += _DECAY_SHARE * (long - self._long_share)
        if kind is None or not (long or self.known):
            return
        score = self.known.pop(kind, 0)
        if not long:
            score -= 2
        elif computed > _COMPUTING_SHARE * seconds:
            score = max(score - 1, 1)
        else:
            score = min(score + 1, _HIGHEST_SCORE)
        if score > 0:
            self.known[kind] = score
        if len(self.known) > _MOST_KINDS:
            del self.known[next(iter(self.known))]

    def blocks(self, kind: Hashable) -> bool:
        """Whether a job of this kind will probably block for long: two of three did, and so did the last ones."""
        return self.known.get(kind, 0) >= _BLOCKING_SCORE


class WakePolicy:
    """Says how many more threads would help, by what the looks at one queue have seen. Its owner holds a lock, and
    looks every millisecond while there is a queue.

    A job does not wait forever if there could be a thread for it. Either jobs end, and each job that ends lets the
    first of the queue begin. Or no job ends, and then further threads are woken at the next look.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._growth = 1
        self._lasted = 0

    def begin(self, completed: int) -> None:
        """Note that a job came to an empty queue. The `completed` jobs before do not count as progress."""
        self._seen = completed
        self._lasted = 0

    def end(self) -> None:
        """Note that the queue was found empty."""
        self._growth = 1

    def helpful(self, completed: int, waiting: int) -> int:
        """Return how many further threads would help, if `completed` jobs have ended and `waiting` jobs are in the
        queue.
        """
        self._lasted += 1
        if completed != self._seen:
            self._growth, self._seen = 1, completed
            if self._lasted < _LOOKS_UNTIL_LASTING:
                return 0
            self._lasted = 0
            return 1
        growth = min(self._growth, waiting)
        self._growth *= 2
        return growth
