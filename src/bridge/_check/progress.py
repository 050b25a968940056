"""How far a check has come, and what can end it early: Ctrl-C, or the end of its time."""

import os
import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, Final, Self

from bridge._check.findings import Outcome

# How long the application gets to end after the check was interrupted. Then the process ends without it.
END_SECONDS: Final = 5.0


class Interrupted(KeyboardInterrupt):
    """The check has to end now, whatever the application does. Raised in the main thread, wherever its code is.

    It is a `KeyboardInterrupt`, because event loops let that out of a task.
    """


class Progress:
    """What has been asked so far, and what is being asked now. `on_end` is called with each outcome as it comes.

    `loop_lost`: whether the application has ended the loop of the check, so that the rest is not asked.
    """

    def __init__(self, on_end: Callable[[Outcome], object] = lambda _outcome: None) -> None:
        self.outcomes: list[Outcome] = []
        self.asking: str | None = None
        self.interrupted = ""
        self.loop_lost = False
        self._on_end = on_end
        self._since = monotonic()

    @property
    def seconds(self) -> float:
        """How long what is being asked now has taken so far."""
        return monotonic() - self._since

    def begin(self, asked: str) -> None:
        """Note that `asked` is being asked from now on. Raises `Interrupted` again if the application has caught it."""
        if self.interrupted:
            raise Interrupted(self.interrupted)
        self.asking, self._since = asked, monotonic()

    def end(self, outcome: Outcome) -> None:
        """Note that it has ended with this outcome."""
        self.asking = None
        self.outcomes.append(outcome)
        self._on_end(outcome)


class Interruptible:
    """A context manager. Inside it, Ctrl-C and the end of `seconds` raise `Interrupted`. Only in the main thread.

    `announce` is then called with the reason. If the application does not end within a while, or at a second Ctrl-C,
    `give_up` is called, and the process ends with the status that it returns. That may be in another thread.
    """

    def __init__(
        self, seconds: float | None, progress: Progress, announce: Callable[[str], object], give_up: Callable[[], int]
    ) -> None:
        self._seconds = seconds
        self._progress = progress
        self._announce = announce
        self._give_up = give_up
        self._expired = self._over = False
        self._lock = threading.Lock()
        self._timers: list[threading.Timer] = []
        self._before: Any = None
        self._process = os.getpid()

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        if self._seconds is not None:
            self._start_timer(self._seconds, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
        if self._progress.interrupted:
            return  # threads of the application may still keep the process alive, until a second Ctrl-C
        for timer in self._timers:
            timer.cancel()
        signal.signal(signal.SIGINT, self._before)

    def _start_timer(self, seconds: float, function: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, function)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _expire(self) -> None:
        with self._lock:
            if not self._over:
                self._expired = True
                # A signal, because nothing else reaches code that does not return.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            raise KeyboardInterrupt  # in a child process of the application, which has no report
        if self._progress.interrupted:
            self._end()
        self._progress.interrupted = f"after {self._seconds:g} seconds (--timeout)" if self._expired else "by Ctrl-C"
        self._start_timer(END_SECONDS, self._end)
        self._announce(self._progress.interrupted)
        raise Interrupted(self._progress.interrupted)

    def _end(self) -> None:
        status = 1
        try:
            status = self._give_up()
        finally:
            os._exit(status)
