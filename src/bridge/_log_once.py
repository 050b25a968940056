"""Warnings that are logged only once, because repeating them for each request would fill the log."""

import logging
import os
from typing import Final

_log = logging.getLogger("bridge")

# What has been logged, with the process that logged it. A fork logs it again, because it may have its own log. If two
# threads get here at the same moment, both may log it. Preventing that is not worth a lock.
_said: Final[set[tuple[int, str]]] = set()


def warn_once(key: str, message: str, *arguments: object) -> None:
    """Log the warning `message % arguments` once for each `key` in this process.

    `key` says what the warning is about. Callers use few keys, because each is kept.
    """
    entry = (os.getpid(), key)
    if entry not in _said:
        _said.add(entry)
        _log.warning(message, *arguments)


def forget() -> None:
    """Log every warning again. For tests."""
    _said.clear()
