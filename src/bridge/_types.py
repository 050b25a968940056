"""The types of both specifications that this package uses.

The events and scopes are plain mappings here: `asgiref.typing` describes them exactly, but an application annotated
with its framework's own types (for example Starlette's `MutableMapping[str, Any]`) would not fit those, and must be
accepted.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from types import TracebackType
from typing import Any, Protocol, Self

# PEP 3333, "Specification Details": `environ` must be a builtin dictionary.
Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, Any], Iterable[bytes]]

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[Any]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[Any]]

# ASGI HTTP, "Response Start": an iterable of (name, value) byte strings, names lower-case.
ASGIHeaders = list[tuple[bytes, bytes]]
# PEP 3333, "The start_response() Callable": a list of (name, value) native strings.
WSGIHeaders = list[tuple[str, str]]


class ClosableIterator(Iterator[bytes], Protocol):
    """An iterator whose `close()` ends what it takes its chunks from."""

    def close(self) -> None:
        """Take no more chunks."""
        ...


class Closable:
    """A class with a `close()`, as a context manager that calls it."""

    def close(self) -> None:
        """Release everything that was made."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
