"""Waiting for what happens in other threads and on loops: bounded, so that what does not come fails a test.

`nothing_left_over` in `conftest.py` sees to it that nothing is left to wait for when a test is over.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
import pytest
import sniffio
import trio

from support.patience import PATIENCE

HOLD = 0.15  # seconds that something which must not happen is given to happen
FOREVER = 3600.0
Result = TypeVar("Result")


class Flag:
    """A signal between threads and loops; to wait for it is bounded."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []

    def set(self) -> None:
        with self._lock:
            self._event.set()
            wakers, self._wakers = self._wakers, []
            for wake in wakers:
                wake()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        """Wait in a thread."""
        assert self._event.wait(PATIENCE), "the signal did not come"

    async def waited(self) -> None:
        """Wait on a loop, asyncio's or trio's, without a thread."""
        woken: asyncio.Event | trio.Event
        if sniffio.current_async_library() == "trio":
            woken, token = trio.Event(), trio.lowlevel.current_trio_token()
            wake = lambda: token.run_sync_soon(woken.set)  # noqa: E731
        else:
            woken, loop = asyncio.Event(), asyncio.get_running_loop()
            wake = lambda: loop.call_soon_threadsafe(woken.set)  # type: ignore[assignment,return-value]  # noqa: E731
        with self._lock:
            if self._event.is_set():
                return
            self._wakers.append(wake)
        try:
            with anyio.fail_after(PATIENCE):
                await woken.wait()
        finally:
            with self._lock:
                # A waiter that was cancelled is not to be woken: its loop may be gone by then.
                self._wakers = [other for other in self._wakers if other is not wake]

    def comes(self) -> bool:
        """Whether something that must not happen happens within `HOLD` seconds."""
        return self._event.wait(HOLD)

    async def held(self) -> None:
        """Fail if it is set within `HOLD` seconds, for what must not happen."""
        assert not await anyio.to_thread.run_sync(self.comes), "what must not happen has happened"


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds that no signal tells of."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "what was waited for did not come"
        threading.Event().wait(0.001)


async def eventually(holds: Callable[[], object]) -> None:
    """`until()`, for code on a loop."""
    with anyio.fail_after(PATIENCE):
        while not holds():
            await anyio.sleep(0.001)


class Work(Generic[Result]):
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._thread = OneThread()
        self._outcome = self._thread.begin(function)

    def result(self) -> Result:
        """What it returned or raised; waits for it."""
        try:
            return self._outcome()
        finally:
            self._thread.end()


class OneThread:
    """A thread that runs one function after another, as a server's does."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="server-thread", daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        return self._thread.ident or 0

    def begin(self, function: Callable[[], Result]) -> Callable[[], Result]:
        """Start `function` there; what is returned waits for its end, and returns or raises what it did."""
        outcome: SimpleQueue[tuple[Result, None] | tuple[None, BaseException]] = SimpleQueue()

        def run() -> None:
            try:
                outcome.put((function(), None))
            except BaseException as error:
                outcome.put((None, error))

        def end() -> Result:
            try:
                result, error = outcome.get(timeout=PATIENCE)
            except Empty:
                stack = "".join(traceback.format_stack(sys._current_frames()[self.ident]))
                pytest.fail(f"the server's thread still waits after {PATIENCE} seconds:\n{stack}", pytrace=False)
            if error is not None:
                raise error
            return result  # type: ignore[return-value]

        self._inbox.put(run)
        return end

    def run(self, function: Callable[[], Result]) -> Result:
        return self.begin(function)()

    def end(self) -> None:
        self._inbox.put(None)

    def _main(self) -> None:
        while (function := self._inbox.get()) is not None:
            function()
            del function  # what it refers to must not live until the next one comes


def bounded(function: Callable[[], Result]) -> Result:
    """Run `function` in a thread of its own, and fail instead of waiting for ever."""
    return Work(function).result()


class LogWatch(logging.Handler):
    """What the logger `bridge` says, with a bounded wait for what is still to come. `log` in `conftest.py` is one."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self._lines: list[tuple[int, str]] = []
        self._news = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        with self._news:
            self._lines.append((record.levelno, line))
            self._news.notify_all()

    def at(self, level: int) -> list[str]:
        """The lines of at least `level` so far, each with its traceback."""
        return [line for number, line in self._lines if number >= level]

    def having(self, *texts: str, level: int = logging.DEBUG) -> list[str]:
        """The lines of at least `level` so far that contain all of `texts`."""
        return [line for line in self.at(level) if all(text in line for text in texts)]

    def wait_for(self, *texts: str, level: int = logging.DEBUG) -> str:
        """The first line of at least `level` that contains all of `texts`, once it is there."""
        with self._news:
            found = self._news.wait_for(lambda: self.having(*texts, level=level), PATIENCE)
            assert found, f"no {texts} in {self._lines}"
            return found[0]

    def complaints(self) -> list[str]:
        """Warnings and worse."""
        return self.at(logging.WARNING)


def adapters_own_threads() -> list[str]:
    """The names of the threads that the adapters have started."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]
