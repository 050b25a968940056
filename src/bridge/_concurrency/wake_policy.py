"""When further threads of a pool are woken: by how long its jobs are, and by whether its queue stands still.

Whether the jobs compute, and so would only wait for the interpreter lock in a further thread, is not asked. It was, and
made no difference to requests beside such jobs (the row `computing` of the benchmarks).
"""

import sys
from typing import Final

GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
_LONG_JOB_SECONDS: Final = 0.001
_DECAY_SHARE: Final = 0.1  # the last ten or so count
_MOSTLY_SHARE: Final = 0.5
# After how many looks in a row a queue has lasted too long though it moves.
_LOOKS_UNTIL_LASTING: Final = 50


class JobLengths:
    """Whether the jobs of a pool are long; its owner has a lock. In a build without a lock all count as long."""

    def __init__(self) -> None:
        self._long_share = 0.0 if GIL else 1.0

    @property
    def long(self) -> bool:
        """Whether most of the last jobs took more than a millisecond."""
        return self._long_share > _MOSTLY_SHARE

    def add(self, seconds: float) -> None:
        """A job has taken `seconds`."""
        if GIL:
            self._long_share += _DECAY_SHARE * ((seconds > _LONG_JOB_SECONDS) - self._long_share)


class WakePolicy:
    """What the looks at one queue have seen; its owner has a lock, and looks each millisecond while there is a queue.

    No job waits for ever while a thread could be had: either jobs end, and each that does lets the first of the queue
    begin; or none does, and then further threads are woken at the next look.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._growth = 1
        self._lasted = 0

    def begin(self, completed: int) -> None:
        """A job has come to an empty queue; `completed` jobs had ended before, which is no progress of this queue."""
        self._seen = completed
        self._lasted = 0

    def end(self) -> None:
        """The queue was found empty."""
        self._growth = 1

    def helpful(self, completed: int, waiting: int) -> int:
        """Return how many further threads would help, where `completed` jobs have ended and `waiting` ones are in the
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
