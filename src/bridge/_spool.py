"""A request body that is too large for memory: a temporary file, written in worker threads."""

import tempfile
import threading
from typing import IO


class Spool:
    """A temporary file that can be closed at any time, also while a thread writes to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._closed = False

    def write(self, chunks: list[bytes]) -> None:
        """Append the chunks; in a worker thread. Raises `OSError` where the disk is full, say."""
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
            self._file.writelines(chunks)

    def rewind(self) -> IO[bytes]:
        """The file, from its start."""
        assert self._file is not None
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Remove the file; in a worker thread."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
