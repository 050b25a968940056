"""Whether this process computes all the time, so that a further thread would only wait for the interpreter lock."""

import sys
from time import monotonic, process_time
from typing import Final

# Of one processor.
_SATURATED: Final = 0.6
# Over how long that is looked at, in seconds.
_SAMPLE: Final = 0.005
GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()


class Saturation:
    """What the process has used in the last few milliseconds that were looked at; its owner has a lock."""

    def __init__(self) -> None:
        self.reached = False
        self._since = monotonic()
        self._used = process_time()

    def look(self, now: float) -> None:
        """Look again, if that has not just been done. `now` is that of `monotonic()`."""
        if now - self._since > _SAMPLE:
            used = process_time()
            self.reached = GIL and used - self._used > _SATURATED * (now - self._since)
            self._since, self._used = now, used
