"""What `AsgiToWsgi` may be told about WebSockets."""

import math
from dataclasses import dataclass
from typing import Literal

from bridge import _arguments


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """The options of `AsgiToWsgi` for WebSockets, as its constructor describes them.

    Raises `TypeError` or `ValueError` for a wrong one.
    """

    websocket: Literal["auto", "reject", "off"] = "auto"
    max_websockets: int | None = None
    max_message: int = 16 * 2**20
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0

    def __post_init__(self) -> None:
        _arguments.choice("websocket", self.websocket, ("auto", "reject", "off"))
        if self.max_websockets is not None:
            _arguments.count("max_websockets", self.max_websockets, least=1)
        _arguments.count("max_message", self.max_message, least=1)
        for name in ("ping_interval", "ping_timeout"):
            if getattr(self, name) is not None:
                _arguments.seconds(name, getattr(self, name))

    def limit(self, threads: int | None) -> float:
        """How many may be open on a server with so many threads for requests; None is for any number."""
        if self.max_websockets is not None:
            return self.max_websockets
        # One stays free for requests, if there is more than one.
        return math.inf if threads is None else max(threads - 1, 1)
