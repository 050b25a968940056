"""`wsgi.input` -> `http.request` events."""

from typing import Final

from bridge._types import Environ, Event
from bridge.errors import ClientProtocolError

DISCONNECT: Final[Event] = {"type": "http.disconnect"}
EMPTY: Final[Event] = {"type": "http.request", "body": b"", "more_body": False}
# The major versions that say in the head whether there is a body. A server that gives no version counts as one of
# these.
_VERSIONS_1: Final = ("1", "0", "")
# Few requests with these methods have a body, and those that do say so.
_BODILESS_METHODS: Final = ("GET", "HEAD")


def body_length(environ: Environ) -> int | None:
    """How many bytes of body to read: Content-Length, 0 if there is no body, or None if the input ends with the body.

    With `wsgi.input_terminated`, a server promises that the input ends with the request. This is how a chunked body
    reaches an application. Transfer-Encoding then overrides Content-Length (RFC 9112 6.3). Some servers decode the body
    and leave no sign of it. So the body is read whenever there may be one: for every method but GET and HEAD, and for
    these if there is a Content-Type. Without the promise, there is no body without CONTENT_LENGTH (CGI, RFC 3875
    4.1.2).

    Raises `ClientProtocolError` (411) if there is a body and nothing says where it ends: treated as empty, it would be
    lost.
    """
    coded = "HTTP_TRANSFER_ENCODING" in environ
    terminated = environ.get("wsgi.input_terminated")
    if coded and terminated:
        return None
    length = environ.get("CONTENT_LENGTH")
    if length:
        return int(length)
    if coded:
        raise ClientProtocolError(
            "sent a body without Content-Length, with a Transfer-Encoding that this server does not decode",
            "a Content-Length",
            "RFC 9110 15.5.12",
            411,
        )
    if not terminated:
        return 0
    bodiless = environ["REQUEST_METHOD"].upper() in _BODILESS_METHODS and not environ.get("CONTENT_TYPE")
    # Since HTTP/2, no sign is needed (RFC 9113 8.1).
    if bodiless and environ.get("SERVER_PROTOCOL", "")[5:6] in _VERSIONS_1:
        return 0
    return None


class BodyEvents:
    """The body of one request as a sequence of events. `left` bytes are still unread. None: up to the end."""

    __slots__ = ("left",)

    def __init__(self, left: int | None) -> None:
        self.left = left

    def size(self, step: int) -> int:
        """How many bytes to read next, at most `step`."""
        return step if self.left is None else min(step, self.left)

    def event(self, data: bytes) -> Event:
        """The event for the result of one read: `http.disconnect` if the input ended early, because a body that breaks
        off must never look complete (ASGI HTTP, "Disconnect").
        """
        left = self.left
        if left is None:
            return {"type": "http.request", "body": data, "more_body": bool(data)}
        if not data:
            return DISCONNECT if left else dict(EMPTY)
        left -= len(data)
        if left < 0:
            data = data[:left]  # an input that gives more than it was asked for
            left = 0
        self.left = left
        return {"type": "http.request", "body": data, "more_body": left > 0}
