"""A response body that is made on an event loop, for WSGI: its thread can leave as soon as the response exists."""

from collections.abc import AsyncIterable, Callable, Iterator

from bridge._asgi_to_wsgi.portal import Chunks, Portal
from bridge._types import Environ


class LoopBody:
    """An iterable of bytestrings (PEP 3333) made of an async one.

    `WsgiToAsgi` on asyncio takes `chunks` and iterates on the loop that the request came from, with no thread; whoever
    else gets it iterates as over any other, and the thread waits for the loop. `on_close` is called by `close()`.
    `between` is called in the thread that leaves, and in one that is taken for thread-sensitive work afterwards.
    """

    def __init__(
        self,
        portal: Portal,
        environ: Environ,
        chunks: Callable[[], AsyncIterable[bytes]],
        on_close: Callable[[], object],
        between: Callable[[], object],
    ) -> None:
        self.chunks = chunks
        self.between = between
        self._portal = portal
        self._environ = environ
        self._on_close = on_close
        self._iterator: Chunks | None = None

    def __iter__(self) -> Iterator[bytes]:
        if self._iterator is None:
            self._iterator = self._portal.iterate(self._environ, self.chunks)
        return self._iterator

    def close(self) -> None:
        """PEP 3333, Specification Details: end the iteration if it goes on, and let go of what belongs to it."""
        try:
            if self._iterator is not None:
                self._iterator.close()
        finally:
            self._on_close()
