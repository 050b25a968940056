"""Warnings that are of use once: what they tell is so for each request, and would fill the log."""

import logging
import os
from typing import Final

_log = logging.getLogger("bridge")

# What has been said, with the process that said it: a fork says it again, since it may have a log of its own. Added to
# by whichever thread comes first; two that come at the same moment may both say it, which is no reason for a lock.
_said: Final[set[tuple[int, str]]] = set()


def warn_once(key: str, message: str, *arguments: object) -> None:
    """Log the warning `message % arguments`, once for each `key` in this process.

    `key` is what the warning is of, in the caller's words; callers take few, since each is kept.
    """
    entry = (os.getpid(), key)
    if entry not in _said:
        _said.add(entry)
        _log.warning(message, *arguments)


def forget() -> None:
    """Have every warning be said again; for tests."""
    _said.clear()
