"""`wsgi.input` -> `http.request` events."""

from typing import Final

from bridge._types import Environ, Event

DISCONNECT: Final[Event] = {"type": "http.disconnect"}
EMPTY: Final[Event] = {"type": "http.request", "body": b"", "more_body": False}


def body_length(environ: Environ) -> int | None:
    """How many bytes of body to read: Content-Length, 0 without one, None where the input ends by itself.

    CGI (RFC 3875 4.1.2): without CONTENT_LENGTH there is no body. `wsgi.input_terminated` is the servers' common
    promise that the input ends with the request, which is how a chunked body reaches an application.
    """
    length = environ.get("CONTENT_LENGTH")
    if length:
        return int(length)
    chunked = "HTTP_TRANSFER_ENCODING" in environ or environ.get("SERVER_PROTOCOL", "")[5:6] not in ("0", "1", "")
    return None if chunked and environ.get("wsgi.input_terminated") else 0


class Body:
    """The request body of one request as a sequence of events; `left` bytes are still to be read (None: until the
    end).
    """

    __slots__ = ("left",)

    def __init__(self, left: int | None) -> None:
        self.left = left

    def size(self, step: int) -> int:
        """How many bytes to read next, at most `step`."""
        return step if self.left is None else min(step, self.left)

    def event(self, data: bytes) -> Event:
        """The event for what one read gave: `http.disconnect` where the input ended early, since a body that breaks off
        must never look complete (ASGI HTTP, "Disconnect").
        """
        if self.left is None:
            if not data:
                self.left = 0
            return {"type": "http.request", "body": data, "more_body": bool(data)}
        if not data:
            return DISCONNECT
        self.left -= len(data)
        return {"type": "http.request", "body": data, "more_body": self.left > 0}
