"""Checks that are interrupted in the process of the test, which would end with them."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from support.patience import PATIENCE


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The statuses with which the process would have ended. Neither timers that still run, nor what Ctrl-C then means,
    outlive the test.
    """
    before = signal.getsignal(signal.SIGINT)
    statuses: list[int] = []
    made: list[threading.Timer] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            made.append(self)
            super().start()

    monkeypatch.setattr(os, "_exit", statuses.append)
    monkeypatch.setattr(threading, "Timer", Timer)
    yield statuses
    signal.signal(signal.SIGINT, before)
    for timer in made:
        timer.cancel()
        timer.join(PATIENCE)
