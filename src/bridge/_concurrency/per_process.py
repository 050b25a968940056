"""State that each process makes for itself, and that is new after a fork."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One `T` for each process that asks for it, made by `make` at the first call in that process.

    Some servers fork without telling Python (uWSGI). So state is found by process id, and not cleared by
    `os.register_at_fork`. What the parent had made is not used: its threads and locks do not exist here.
    """

    __slots__ = ("_found", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._found: dict[int, T] = {}

    def here(self) -> T:
        """The state of this process."""
        pid = os.getpid()
        found = self._found.get(pid)
        # setdefault and not a lock: another thread may have held the lock when this process was forked.
        return self._found.setdefault(pid, self._make()) if found is None else found

    def known(self) -> T | None:
        """The state of this process if it has been made, otherwise None."""
        return self._found.get(os.getpid())
