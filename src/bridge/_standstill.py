"""How many further threads a queue needs, as it moves or stands still from one look to the next."""

from typing import Final

from bridge._saturation import Saturation

# How many looks in a row have to find it still where the threads compute.
_PATIENCE: Final = 8
# After how many looks in a row a queue has lasted too long though it moves.
_LASTING: Final = 50


class Standstill:
    """What the looks at one queue have seen; its owner has a lock, and looks each millisecond while there is a queue.

    No job waits for ever while a thread could be had: either jobs end, and each that does lets the first of the queue
    begin; or none does, and then further threads are woken after `_PATIENCE` looks at the latest.
    """

    def __init__(self, saturation: Saturation) -> None:
        self._saturation = saturation
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
        saturated = self._saturation.reached
        self._lasted += 1
        if completed != self._seen:
            self._growth, self._still, self._seen = 1, 1, completed
            if self._lasted < _LASTING or (saturated and not (awake == 1 and self._saturation.long)):
                return 0
            self._lasted = 0
            return 1
        self._still += 1
        if self._still <= _PATIENCE and saturated and completed:
            return 0
        growth = min(self._growth, waiting)
        self._growth *= 2
        return growth
