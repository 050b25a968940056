"""Warnings that are said once."""

import os

import pytest

from bridge import _log_once
from bridge._log_once import forget, warn_once
from support.waiting import LogWatch


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_log_once, "_said", set())


def test_a_warning_is_said_once_for_its_key(log: LogWatch) -> None:
    """Whatever it is filled in with; another key is another warning."""
    for name in ("one", "two"):
        warn_once("early", "%s was too early", name)
    warn_once("late", "%s was too late", "one")

    assert ["WARNING one was too early", "WARNING one was too late"] == log.having("too")


def test_a_fork_says_it_again(log: LogWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log may be another one."""
    warn_once("early", "too early")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    warn_once("early", "too early")

    assert 2 == len(log.having("too early"))


def test_what_was_said_can_be_forgotten(log: LogWatch) -> None:
    warn_once("early", "too early")
    forget()
    warn_once("early", "too early")

    assert 2 == len(log.having("too early"))
