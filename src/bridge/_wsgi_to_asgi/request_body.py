"""A request body that is too large for memory: a temporary file, written in worker threads."""

import io
import tempfile
import threading
from contextlib import suppress
from typing import IO, cast

from bridge._translate.events_to_input import file_input


class Spool:
    """A temporary file that can be closed at any time, also while a thread writes to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._input: io.BufferedReader | None = None
        self._closed = False

    def write(self, chunks: list[bytes]) -> None:
        """Append the chunks; in a worker thread. Raises `OSError` where the disk is full, say."""
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # close() closes it
            self._file.writelines(chunks)

    def rewind(self) -> io.BufferedReader:
        """What has been written, as a `wsgi.input`."""
        assert self._file is not None
        self._file.seek(0)
        # Not the file itself: it is buffered as well, but reads lines otherwise than `io.BytesIO`.
        self._input = file_input(cast(io.BufferedRandom, self._file).raw)
        return self._input

    def close(self) -> None:
        """Remove the file; in a worker thread."""
        with self._lock:
            self._closed = True
            opened = self._input or self._file
            if opened is not None:
                # What could not be written to a full disk is not wanted any more.
                with suppress(OSError):
                    opened.close()
