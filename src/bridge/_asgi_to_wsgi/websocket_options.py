"""What `AsgiToWsgi` may be told about WebSockets, and how many of them may be open."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from bridge import _arguments
from bridge._concurrency.greenlets import new_lock
from bridge._concurrency.per_process import PerProcess
from bridge.errors import ClientProtocolError

# What was expected, the clause, and the status, of a handshake that may succeed at another time.
LATER: Final = ("another try, later", "RFC 9110 15.6.4", 503)


class WebSocketOptions:
    """The options of `AsgiToWsgi` for WebSockets, as its constructor describes them.

    Raises `TypeError` or `ValueError` for a wrong one.
    """

    __slots__ = ("max_message", "max_websockets", "ping_interval", "ping_timeout", "websocket")

    def __init__(
        self,
        websocket: Literal["auto", "reject", "off"] = "auto",
        max_websockets: int | None = None,
        max_message: int = 16 * 2**20,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
    ) -> None:
        _arguments.choice("websocket", websocket, ("auto", "reject", "off"))
        if max_websockets is not None:
            _arguments.count("max_websockets", max_websockets, least=1)
        _arguments.count("max_message", max_message, least=1)
        for name, value in (("ping_interval", ping_interval), ("ping_timeout", ping_timeout)):
            if value is not None:
                _arguments.seconds(name, value)
        self.websocket = websocket
        self.max_websockets = max_websockets
        self.max_message = max_message
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout

    def limit(self, threads: int | None) -> float:
        """How many may be open on a server with so many threads for requests; None is for any number."""
        if self.max_websockets is not None:
            return self.max_websockets
        # One stays free for requests, if there is more than one.
        return math.inf if threads is None else max(threads - 1, 1)


class _Count:
    """Counts the sessions of all adapters in one process, because they share the server's threads."""

    def __init__(self) -> None:
        self.lock = new_lock()
        self.sessions = 0


_count: Final = PerProcess(_Count)


@contextmanager
def counted(limit: float) -> Iterator[None]:
    """Count a session while it lasts. Raises `ClientProtocolError` if there are `limit` sessions already."""
    count = _count.here()
    with count.lock:
        if count.sessions >= limit:
            raise ClientProtocolError("asked for a WebSocket while the maximum number was open", *LATER)
        count.sessions += 1
    try:
        yield
    finally:
        with count.lock:
            count.sessions -= 1
