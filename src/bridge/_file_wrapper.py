"""`wsgi.file_wrapper` for applications behind an ASGI server (PEP 3333, "Optional Platform-Specific File Handling")."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_BLOCK: Final = 64 * 1024


class FileWrapper:
    """An iterable over the blocks of a file-like object, which the server may send by itself instead."""

    def __init__(self, filelike: Any, block_size: int = _BLOCK) -> None:
        self.filelike = filelike
        self.block_size = max(block_size, _BLOCK)
        close = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.block_size):
            yield block

    def whole_file(self) -> tuple[str, int] | None:
        """Path and size in bytes where this is all of a regular file that can be opened by its name, else None."""
        name = getattr(self.filelike, "name", None)
        if not isinstance(name, str):
            return None
        try:
            opened = os.fstat(self.filelike.fileno())
            if self.filelike.tell() == 0 and os.path.samestat(opened, Path(name).stat()):
                return os.path.realpath(name), opened.st_size
        except (OSError, AttributeError, ValueError):
            return None  # not a file of the operating system, or one that has been renamed or removed
        return None
