"""State that each process makes for itself, and that is new after a fork; and the end of children that nobody ends."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

_log = logging.getLogger("bridge")

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


class _Forks:
    """`count` grows in the child of each fork that Python knows of, and only there. So if it has grown since we called
    some code, that code has forked, and this is the child.

    The child has one thread, a copy of the one that has forked. If it came back to us, it would wait for ever for
    threads and loops that it does not have, and hold the sockets of its parent. So it ends there (`end_child`).
    """

    count = 0

    def add(self) -> None:
        """Called in the child."""
        self.count += 1


forks: Final = _Forks()
os.register_at_fork(after_in_child=forks.add)


def end_child(error: BaseException | None) -> None:
    """End this process, a child whose code has raised `error`, or has returned. What the parent has registered with
    `atexit` is not called.
    """
    code: object = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code
    else:
        _log.error("a process that code of a request has forked came back to the adapter, and ends", exc_info=error)
    with suppress(Exception):  # they may be closed
        if code is not None and not isinstance(code, int):
            sys.stderr.write(f"{code}\n")  # as Python does
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


class EndsChildren:
    """`with EndsChildren():` ends a child that the code in it has forked. What runs for each request looks at `forks`
    instead, which takes less time.
    """

    def __enter__(self) -> None:
        self._count = forks.count

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if forks.count != self._count:
            end_child(error)
