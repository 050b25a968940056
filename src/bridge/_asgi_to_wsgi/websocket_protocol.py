"""The WebSocket protocol of one connection, with wsproto: bytes from the client become messages, and messages become
bytes.

Nothing here waits, sends or locks: a connection has one user at a time.
"""

import functools
import io
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bridge._translate.websocket import Accept
from bridge._types import Environ
from bridge.errors import ApplicationProtocolError, ClientProtocolError

# How many times larger inflating can make received data (RFC 1951: two bits become 258 bytes).
_LARGEST_INFLATION: Final = 1032
_LEAST_STEP_BYTES: Final = 1024
_TOO_BIG: Final = 1009
_STEP_BYTES: Final = 64 * 1024
_LARGE_STEP_BYTES: Final = 256 * 1024
# How many bytes or characters of a message are sent in one frame. wsproto copies a frame four times, and a copy within
# the processor's cache costs a tenth of one in fresh memory.
FRAME_SIZE: Final = 256 * 1024
# The parts of the request that concern the handshake. The server has dealt with the rest.
_HANDSHAKE: Final = (
    "HTTP_UPGRADE",
    "HTTP_SEC_WEBSOCKET_KEY",
    "HTTP_SEC_WEBSOCKET_VERSION",
    "HTTP_SEC_WEBSOCKET_PROTOCOL",
    "HTTP_SEC_WEBSOCKET_EXTENSIONS",
)


class Answer(NamedTuple):
    """Bytes to send at once: the answer to a ping. Only the latest answer is needed (RFC 6455 5.5.3)."""

    data: bytes


class Pong(NamedTuple):
    """The client has answered a ping."""


class Closed(NamedTuple):
    """Nothing more will come. `answer` is to be sent. If `failed`, the client broke the protocol, as `code` says."""

    code: int
    reason: str
    answer: bytes
    failed: bool


Received = str | bytes | Answer | Pong | Closed


class WebSocketProtocol:
    """One connection. `max_message` is in bytes; text counts as UTF-8.

    Raises `ImportError` if wsproto is not installed, and `ClientProtocolError` for a handshake that must be refused.
    """

    def __init__(self, environ: Environ, max_message: int) -> None:
        import wsproto.connection  # noqa: PLC0415
        import wsproto.events  # noqa: PLC0415
        import wsproto.utilities  # noqa: PLC0415

        self._events: Any = wsproto.events
        self._states: Any = wsproto.connection.ConnectionState
        # The compressor takes 260 KiB. It is made for each message, so a quiet connection does not hold it.
        self._deflate: Any = _deflate_class()(server_no_context_takeover=True)
        self._local_error = wsproto.utilities.LocalProtocolError
        self._connection: Any = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._max_message = max_message
        # The incomplete message so far, and how many bytes of it the client has sent. Not a list, because a client may
        # send it byte by byte.
        self._parts: Any = None
        self._size = 0
        try:
            self._connection.initiate_upgrade_connection(_handshake_headers(environ), "/")
        except wsproto.utilities.RemoteProtocolError as error:
            status = getattr(error.event_hint, "status_code", 400)
            raise ClientProtocolError(
                f"sent an invalid WebSocket handshake: {error}",
                expected="a handshake of version 13",
                clause="RFC 6455 4.2.1",
                status=status,
            ) from error
        for _ in self._connection.events():
            pass  # the request, which the server has parsed already

    # -- to the client

    def accept(self, accept: Accept) -> bytes:
        """Return the answer to the handshake. Raises `ApplicationProtocolError` for headers that cannot be sent."""
        try:
            data: bytes = self._connection.send(
                self._events.AcceptConnection(
                    subprotocol=accept.subprotocol, extensions=[self._deflate], extra_headers=accept.headers
                )
            )
        except Exception as error:
            raise ApplicationProtocolError(
                f"accepted a WebSocket with headers that cannot be sent: {error}",
                expected="headers as in RFC 9110",
                clause="ASGI HTTP & WebSocket, Accept",
            ) from error
        return data

    def message(self, data: str | bytes) -> Iterator[bytes]:
        """Yield the frames of a message: one, or several if it is large. Each is made when it is needed."""
        event = self._events.TextMessage if isinstance(data, str) else self._events.BytesMessage
        whole: Any = memoryview(data) if isinstance(data, bytes) else data
        for start in range(0, len(data) or 1, FRAME_SIZE):
            end = start + FRAME_SIZE
            yield bytes(self._connection.send(event(data=whole[start:end], message_finished=end >= len(data))))

    def close(self, code: int, reason: str) -> bytes:
        """Return a close frame, or nothing if one has been sent already. A reason that is too long is cut."""
        return self._send(self._events.CloseConnection(code=code, reason=reason or None))

    def ping(self) -> bytes:
        """Return a ping, or nothing if the connection is being closed."""
        return self._send(self._events.Ping())

    def _send(self, event: Any) -> bytes:
        try:
            return bytes(self._connection.send(event))
        except self._local_error:
            return b""  # not in this state

    # -- from the client

    @property
    def read_size(self) -> int:
        """How many bytes to read at once: more in the middle of a message, which has to be held in any case."""
        return _STEP_BYTES if self._parts is None else _LARGE_STEP_BYTES

    def feed(self, data: bytes) -> Iterator[Received]:
        """Yield what `data` contains. After a `Closed`, nothing more may be fed."""
        step = len(data) or 1
        if self._deflate.enabled():
            # Inflated, one step is at most about as large as one message may be.
            step = max(self._max_message // _LARGEST_INFLATION, _LEAST_STEP_BYTES)
        for start in range(0, len(data), step):
            self._connection.receive_data(data[start : start + step])
            for event in self._connection.events():
                received = self._received(event)
                if received is not None:
                    yield received
                if isinstance(received, Closed):
                    return

    def _received(self, event: Any) -> Received | None:
        events = self._events
        if isinstance(event, events.Message):
            return self._message(event)
        if isinstance(event, events.Ping):
            answer = self._send(event.response())
            return Answer(answer) if answer else None
        if isinstance(event, events.Pong):
            return Pong()
        if not isinstance(event, events.CloseConnection):
            return None
        state = self._connection.state
        if state is self._states.REMOTE_CLOSING:
            return Closed(event.code, event.reason or "", self._send(event.response()), failed=False)
        if state is self._states.CLOSED:
            return Closed(event.code, event.reason or "", b"", failed=False)
        return self._fail(int(event.code), event.reason or "")

    def _message(self, event: Any) -> Received | None:
        piece: Any = event.data
        is_text = isinstance(piece, str)
        self._size += len(piece.encode()) if is_text and not piece.isascii() else len(piece)
        if self._size > self._max_message:
            self._parts = None
            return self._fail(_TOO_BIG, f"a message of more than {self._max_message} bytes")
        whole: Any = piece
        if self._parts is not None or not event.message_finished:
            if self._parts is None:
                self._parts = io.StringIO(newline="") if is_text else io.BytesIO()
            self._parts.write(piece)
            if not event.message_finished:
                return None
            whole, self._parts = self._parts.getvalue(), None
        self._size = 0
        return whole if is_text else bytes(whole)

    def _fail(self, code: int, reason: str) -> Closed:
        return Closed(code, reason, self.close(code, reason), failed=True)


@functools.cache
def _deflate_class() -> Any:
    from wsproto.extensions import PerMessageDeflate  # noqa: PLC0415
    from wsproto.frame_protocol import RsvBits  # noqa: PLC0415

    class Deflate(PerMessageDeflate):
        """wsproto's compression, except for control frames, which are never compressed (RFC 7692 6.1).

        wsproto 1.3 takes a control frame in the middle of a compressed message for the end of the message.
        """

        control = False

        def accept(self, offer: str) -> Any:
            """RFC 7692 7.1: an offer with unknown parameters is declined."""
            try:
                return super().accept(offer)
            except ValueError:
                return None

        def frame_inbound_header(self, proto: Any, opcode: Any, rsv: Any, payload_length: int) -> Any:
            self.control = opcode.iscontrol()
            if self.control:
                return RsvBits(False, False, False)
            return super().frame_inbound_header(proto, opcode, rsv, payload_length)

        def frame_inbound_payload_data(self, proto: Any, data: bytes) -> Any:
            return data if self.control else super().frame_inbound_payload_data(proto, data)

        def frame_inbound_complete(self, proto: Any, fin: bool) -> Any:
            return None if self.control else super().frame_inbound_complete(proto, fin)

    return Deflate


def _handshake_headers(environ: Environ) -> list[tuple[bytes, bytes]]:
    found = [(key[5:].replace("_", "-"), _visible(key, environ[key])) for key in _HANDSHAKE if key in environ]
    # Some servers do not pass this header on.
    found.append(("Connection", _visible("HTTP_CONNECTION", environ.get("HTTP_CONNECTION", "Upgrade"))))
    # The server has checked that there is a host.
    found.append(("Host", "localhost"))
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found]


def _visible(key: str, value: str) -> str:
    """Return a header's value without blanks around it. Raises `ClientProtocolError` unless it is visible ASCII.

    For some other characters, wsproto and h11 would raise errors of their own.
    """
    value = value.replace("\t", " ").strip(" ")
    if value.isascii() and value.isprintable():
        return value
    raise ClientProtocolError(
        f"sent a WebSocket handshake whose {key} is {value!r:.80}", expected="visible ASCII", clause="RFC 6455 4.1"
    )
