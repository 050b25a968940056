"""`wsgi.file_wrapper` for applications behind an ASGI server (PEP 3333, "Optional Platform-Specific File Handling")."""

import io
import os
import stat
from collections.abc import Iterator
from typing import Any, Final

_BLOCK_BYTES: Final = 64 * 1024


_BUFFERED: Final = (io.BufferedReader, io.BufferedRandom)


class FileWrapper:
    """An iterable over the blocks of a file-like object. The server may send the file itself instead."""

    def __init__(self, filelike: Any, block_size: int = _BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.block_size = max(block_size, _BLOCK_BYTES)
        close = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.block_size):
            yield block

    def whole_file(self) -> tuple[str, int] | None:
        """Path and size in bytes, if this is a whole regular file that can be opened by its name. Otherwise None.

        Only for files from `open()`: others may decode what they read, or remove the file when they are closed.
        """
        opened = self.filelike
        buffered = next((kind for kind in _BUFFERED if isinstance(opened, kind)), None)
        raw = opened.raw if buffered is not None else opened
        if not isinstance(raw, io.FileIO) or not isinstance(raw.name, str | os.PathLike):
            return None
        if not _reads_as(raw, io.FileIO) or (buffered is not None and not _reads_as(opened, buffered)):
            return None
        try:
            facts = os.fstat(raw.fileno())
            # Files whose content is made as they are read, for example in /proc, also have the size 0.
            if stat.S_ISREG(facts.st_mode) and facts.st_size and opened.tell() == 0:
                path = os.fsdecode(os.path.realpath(raw.name))
                found = os.stat(path)  # noqa: PTH116 - nothing else needs pathlib, which is slow to import
                return (path, facts.st_size) if os.path.samestat(facts, found) else None
        except (OSError, ValueError):
            pass  # closed, renamed or removed: reading it will tell
        return None


def _reads_as(opened: object, base: type) -> bool:
    """Whether `opened`, perhaps of a subclass, returns the same as `base` would."""
    return all(
        getattr(type(opened), name) is getattr(base, name)
        for name in ("read", "readinto", "readline", "__next__", "tell")
    )
