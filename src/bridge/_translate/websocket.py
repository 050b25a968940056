"""Events that an ASGI application sends on a WebSocket -> steps: values that say what to do. Nothing is sent here."""

from enum import StrEnum
from typing import Any, Final, NamedTuple

from bridge._translate.headers import wsgi_headers
from bridge._types import ASGIHeaders, Event
from bridge.errors import ApplicationProtocolError

# RFC 6455 7.4.1 and 7.4.2, and the registry at IANA: the codes that a close frame may have.
_CLOSE_CODES: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015)))
_OWN_CLOSE_CODES: Final = range(3000, 5000)
# RFC 6455 4.2.2: these say what was agreed on. The adapter sets them, one of them from `subprotocol`.
_HANDSHAKE_HEADERS: Final = frozenset((b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol"))
_WEBSOCKET_CLAUSE: Final = "ASGI HTTP & WebSocket, "


class Accept(NamedTuple):
    """Accept the handshake, with these headers in addition to its own."""

    subprotocol: str | None
    headers: ASGIHeaders


class Message(NamedTuple):
    """Send a message: text or binary."""

    data: str | bytes


class Close(NamedTuple):
    """Close the connection. If the handshake was not accepted yet, answer it with 403."""

    code: int
    reason: str


class Respond(NamedTuple):
    """Send an event of an HTTP response instead of accepting the handshake."""

    event: Event


Step = Accept | Message | Close | Respond


class WebSocketState(StrEnum):
    """What the application has sent so far."""

    CONNECTING = "before it had accepted the handshake"
    OPEN = "while the connection was open"
    DENYING = "in the middle of the response that denies the handshake"
    DENIED = "after it had denied the handshake"
    CLOSED = "after it had closed the connection"


CONNECTING, OPEN, DENYING, DENIED, CLOSED = WebSocketState
ACCEPT, SEND, CLOSE = "websocket.accept", "websocket.send", "websocket.close"
START, BODY = "websocket.http.response.start", "websocket.http.response.body"
MORE, LAST = f"{BODY} with more_body", f"{BODY} without more_body"
# State x event -> state. Events that a state does not list are illegal in it.
ORDER: Final = {
    CONNECTING: {ACCEPT: OPEN, CLOSE: DENIED, START: DENYING},
    OPEN: {SEND: OPEN, CLOSE: CLOSED},
    DENYING: {MORE: DENYING, LAST: DENIED},
    # As in HTTP: events are ignored after the response is complete.
    DENIED: {START: DENIED, MORE: DENIED, LAST: DENIED, CLOSE: DENIED},
    CLOSED: {},
}


class WebSocketOrder:
    """The order of the events that the application sends on one connection."""

    __slots__ = ("_subprotocols", "state")

    def __init__(self, subprotocols: list[str]) -> None:
        self.state: WebSocketState = CONNECTING
        self._subprotocols = subprotocols

    def feed(self, event: Event) -> Step | None:
        """What to do for an event that the application sent, or None. Raises `ApplicationProtocolError`.

        An event that raises has no effect.
        """
        try:
            kind = event["type"]
        except (TypeError, LookupError):
            raise self._illegal(f"{type(event).__name__} ({event!r:.60})") from None
        key = kind if kind != BODY else MORE if event.get("more_body", False) else LAST
        following = ORDER[self.state].get(key) if isinstance(key, str) else None
        if following is None:
            raise self._illegal(f"{kind!r:.80}")
        step = None if self.state is DENIED else self._step(kind, event)
        self.state = following
        return step

    def unfinished(self) -> ApplicationProtocolError | None:
        """What is wrong with an application that returns now, or None. Returning while the connection is open closes it
        with 1000.
        """
        if self.state not in (CONNECTING, DENYING):
            return None
        return ApplicationProtocolError(
            "returned",
            state=self.state.value,
            expected="websocket.accept, websocket.close or a complete response",
            clause=f"{_WEBSOCKET_CLAUSE}WebSocket",
        )

    def _step(self, kind: str, event: Event) -> Step:
        if kind == SEND:
            return _message(event)
        if kind == CLOSE:
            # Before the accept, neither code nor reason is sent, and FastAPI's reason is a list.
            return _close(event) if self.state is OPEN else Close(1000, "")
        if kind == ACCEPT:
            return self._accept(event)
        # The same as for an HTTP connection (ASGI Extensions, "Websocket Denial Response").
        return Respond({**event, "type": kind.removeprefix("websocket.")})

    def _accept(self, event: Event) -> Accept:
        subprotocol = event.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise ApplicationProtocolError(
                f"accepted with the subprotocol {subprotocol!r:.60}",
                expected=f"None, or one that the client offered, {self._subprotocols!r:.200}",
                clause=f"{_WEBSOCKET_CLAUSE}Accept; RFC 6455 4.2.2",
            )
        native, _ = wsgi_headers(event.get("headers") or ())
        headers = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in native]
        for name, _ in headers:
            if name.lower() in _HANDSHAKE_HEADERS:
                raise ApplicationProtocolError(
                    f"accepted with the header {name.decode('latin-1')}",
                    expected="`subprotocol` for a subprotocol, and no headers for the rest of the handshake",
                    clause=f"{_WEBSOCKET_CLAUSE}Accept",
                )
        return Accept(subprotocol, headers)

    def _illegal(self, what: str) -> ApplicationProtocolError:
        legal = dict.fromkeys(step.partition(" ")[0] for step in ORDER[self.state])
        return ApplicationProtocolError(
            f"sent {what}",
            state=self.state.value,
            expected=" or ".join(legal) or "nothing more",
            clause=f"{_WEBSOCKET_CLAUSE}WebSocket Connection Scope",
        )


def _message(event: Event) -> Message:
    data: Any = event.get("text")
    if data is None:
        data = event.get("bytes")
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        if isinstance(data, bytes):
            return Message(data)
    elif isinstance(data, str):
        if not data.isascii():
            _refuse_surrogates(data)
        return Message(data)
    kinds = f"text of type {type(event.get('text')).__name__} and bytes of type {type(event.get('bytes')).__name__}"
    raise _unsendable(kinds)


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _unsendable(f"text that has the character {text[error.start]!r}") from None


def _unsendable(what: str) -> ApplicationProtocolError:
    return ApplicationProtocolError(
        f"sent {SEND} with {what}",
        expected="text that can be encoded as UTF-8, or bytes",
        clause=f"{_WEBSOCKET_CLAUSE}Send",
    )


def _close(event: Event) -> Close:
    code, reason = event.get("code", 1000), event.get("reason")
    code = 1000 if code is None else code
    known = isinstance(code, int) and not isinstance(code, bool) and (code in _CLOSE_CODES or code in _OWN_CLOSE_CODES)
    if not known or not isinstance(reason, str | None):
        raise ApplicationProtocolError(
            f"sent {CLOSE} with the code {code!r:.60} and a reason of type {type(reason).__name__}",
            expected="one of 1000 to 1003, 1007 to 1014 and 3000 to 4999, and a reason that is a str or None",
            clause=f"{_WEBSOCKET_CLAUSE}Close; RFC 6455 7.4",
        )
    return Close(code, reason or "")
