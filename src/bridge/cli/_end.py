"""What a command prints, apart from what the application prints, and its end, apart from the application's threads."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from bridge._check.progress import END_SECONDS

_OUT: Final = 1
_ERRORS: Final = 2


class OpenFile(Protocol):
    """What `put` needs of a file."""

    def write(self, text: str, /) -> object:
        """Write it."""
        ...

    def flush(self) -> object:
        """Write what is in the buffer."""
        ...

    def fileno(self) -> int:
        """The file descriptor."""
        ...


class _Unbuffered:
    """A text file without Python's buffer, to which a signal handler may write in the middle of a write."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        self._encoding = encoding

    def write(self, text: str, /) -> None:
        data = text.encode(self._encoding, "backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        return self._descriptor


@contextlib.contextmanager
def kept_apart() -> Iterator[OpenFile]:
    """Standard output for the command alone. What the application prints meanwhile goes to standard error, and so does
    what its child processes print.
    """
    out: Any = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        files = (out, sys.stderr)
        if None in files or files != (sys.__stdout__, sys.__stderr__):
            yield out  # closed, or replaced: not what child processes get
            return
        out.flush()
        kept = _Unbuffered(os.dup(_OUT), out.encoding)
        os.dup2(_ERRORS, _OUT)
        try:
            yield kept
        finally:
            os.dup2(kept.fileno(), _OUT)
            os.close(kept.fileno())


def put(out: OpenFile | None, text: str) -> None:
    """Write `text` at once. Raises `SystemExit` if that is not possible, for example because nobody reads it."""
    if out is None:
        raise SystemExit("bridge: standard output is closed")
    try:
        out.write(text)
        out.flush()
    except OSError as error:
        # What is left in its buffer would raise again at exit.
        with suppress(OSError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), out.fileno())
        raise SystemExit(f"bridge: cannot write to standard output: {error.strerror}") from None


def leave(status: Any) -> NoReturn:
    """Exit with a status, or with 1 and a message. The application's threads and exit functions get a while to end.

    What they print is no longer output.
    """
    if sys.stdout is not None and not isinstance(status, str):
        try:
            put(sys.stdout, "")
        except SystemExit as error:
            status = error.code
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
        status = 1
    with suppress(OSError):
        os.dup2(_ERRORS, _OUT)
    ending = threading.Timer(END_SECONDS, _leave_behind, (status or 0,))
    ending.daemon = True
    ending.start()
    sys.exit(status)


def _leave_behind(status: int) -> None:
    main = threading.main_thread()
    names = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not main]
    what = f"the application's threads {', '.join(names)}" if names else "what the application runs at exit"
    with suppress(Exception):
        sys.stderr.write(f"bridge: ended after {END_SECONDS:.0f} seconds without waiting for {what}\n")
        sys.stderr.flush()
    os._exit(status)
