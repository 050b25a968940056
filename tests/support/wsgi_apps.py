"""Small WSGI apps, and what they are made of."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from support.plain_servers import Environ
from support.waiting import Flag


def reply(start_response: Any, body: bytes = b"served", status: str = "200 OK") -> list[bytes]:
    """Answer with a body that is known as a whole."""
    start_response(status, [("Content-Type", "text/plain")])
    return [body]


def hello(environ: Environ, start_response: Any) -> list[bytes]:
    """The smallest app."""
    return reply(start_response)


def simple(*chunks: bytes, status: str = "200 OK", headers: Any = ()) -> Any:
    """An app that answers with a list."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        start_response(status, list(headers))
        return list(chunks)

    return app


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 2**10


class Chunks:
    """The iterable of an app; a chunk that is an exception is raised.

    Notes how many chunks and bytes were taken from it, and the thread of each `close()`.
    """

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks = iter(chunks)
        self.pulled = 0
        self.taken = 0
        self.closings: list[int] = []
        self.closed = Flag()

    def __iter__(self) -> "Chunks":
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.pulled += 1
        if isinstance(chunk, BaseException):
            raise chunk
        self.taken += len(chunk)
        return chunk  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closings.append(threading.get_ident())
        self.closed.set()


class Gate:
    """An app that waits for `go` where the path says so; any other request it serves at once."""

    def __init__(self, path: str = "/held") -> None:
        self.entered = Flag()
        self.go = Flag()
        self.paths: list[str] = []
        self._path = path

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        self.paths.append(environ["PATH_INFO"])
        if environ["PATH_INFO"].startswith(self._path):
            self.entered.set()
            self.go.wait()
        return reply(start_response)


def reader(seen: list[Any], step: int = -1) -> Callable[..., list[bytes]]:
    """An app that keeps what it reads, and the environ."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(b"".join(iter(lambda: environ["wsgi.input"].read(step), b"")))
        seen.append(dict(environ))
        return reply(start_response)

    return app
