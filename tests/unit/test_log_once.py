"""A warning that is of use once is logged once, in each process."""

import logging
import os
from collections.abc import Iterator

import pytest

from bridge import _log_once
from bridge._log_once import warn_once


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    """As in a new process."""
    _log_once.forget()
    yield
    _log_once.forget()


def test_it_is_said_once_for_each_thing(caplog: pytest.LogCaptureFixture) -> None:
    """Each request would say it again."""
    for name in ("first", "second"):
        warn_once("headers", "%s gave headers", name)
        warn_once("files", "%s gave files", name)

    assert ["first gave headers", "first gave files"] == caplog.messages
    assert {logging.WARNING} == {record.levelno for record in caplog.records}


def test_a_fork_says_it_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have a log of its own."""
    warn_once("headers", "once")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for _ in range(2):
        warn_once("headers", "once")

    assert ["once", "once"] == caplog.messages
