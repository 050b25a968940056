"""How far a check has come, and what ends it; as a process: tests/unit/cli/test_main.py."""

import os
import signal
import time

import pytest

from bridge._check import progress
from bridge._check.findings import Outcome
from bridge._check.progress import Interrupted, Interruptible, Progress
from support.patience import PATIENCE
from support.waiting import until


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE)


def test_each_outcome_is_told_once_it_is_there() -> None:
    told: list[Outcome] = []
    made = Progress(told.append)
    made.begin("GET /")
    assert ("GET /", []) == (made.asking, told)
    made.end(Outcome("GET /", "200"))

    assert (None, [Outcome("GET /", "200")], told) == (made.asking, made.outcomes, made.outcomes)


def test_code_that_catches_the_interruption_is_asked_nothing_more(exits: list[int]) -> None:
    made = Progress()
    announced: list[str] = []
    with Interruptible(None, made, announced.append, lambda: 7):
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
        with pytest.raises(Interrupted, match="by Ctrl-C"):
            made.begin("GET /")

    assert ["by Ctrl-C"] == announced


def test_afterwards_ctrl_c_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruptible(60.0, Progress(), print, lambda: 7):
        assert signal.getsignal(signal.SIGINT) != before

    assert signal.getsignal(signal.SIGINT) == before


def test_the_end_of_its_time_interrupts_what_does_not_come_back(exits: list[int]) -> None:
    limited = Interruptible(0.05, Progress(), lambda _reason: None, lambda: 7)
    with pytest.raises(Interrupted, match=r"after 0.05 seconds \(--timeout\)"), limited:
        time.sleep(PATIENCE)


@pytest.mark.parametrize("again", [True, False])
def test_what_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, exits: list[int], again: bool) -> None:
    """At a second Ctrl-C, or after a while; the process then ends with the status that is given."""
    monkeypatch.setattr(progress, "END_SECONDS", 60.0 if again else 0.05)
    with Interruptible(None, Progress(), lambda _reason: None, lambda: 7):
        for _ in range(2 if again else 1):
            with pytest.raises(Interrupted):
                press_ctrl_c()
        until(lambda: exits)

    assert 7 == exits[0]
