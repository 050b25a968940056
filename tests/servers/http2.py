"""A client's HTTP/2 connection, for what no ordinary client lets one do: shut windows, resets, half a body."""

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from servers import connection
from servers.connection import Address, open_socket

PIECE = 2**12  # bytes of a body that are sent at once, at least
STEP = 2**15  # bytes after which a window is opened again: half of it, as servers mind clients that do it byte by byte

Fields = Iterable[tuple[str, str]]


class StreamReset(Exception):
    """The server has reset the stream (RFC 9113 section 5.4.2), or the connection, before the end of the response."""


class Stream:
    """One request and its response.

    While `reads` is false its flow-control window is not opened again (RFC 9113 section 5.2), but the connection's is.
    """

    def __init__(self, owner: "Http2Connection", number: int) -> None:
        self.owner = owner
        self.number = number
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.informational: list[list[tuple[str, str]]] = []
        self.received = bytearray()
        self.reads = True
        self.ended = False
        self.code: int | None = None  # of RST_STREAM or GOAWAY
        self._owed = 0

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def send(self, body: bytes, *, end: bool = False) -> None:
        """As the server's windows let it through, but not byte by byte: pieces of a window would become ever smaller.

        Where the response is complete, the server wants no more of the body, and gets none.
        """
        state, left = self.owner.state, memoryview(body)
        while left and not self._closed:
            least, window = min(len(left), PIECE), f"a window for stream {self.number}"
            self.owner.until(lambda: self._closed or state.local_flow_control_window(self.number) >= least, window)  # noqa: B023
            if not self._closed:
                size = min(len(left), state.local_flow_control_window(self.number), state.max_outbound_frame_size)
                state.send_data(self.number, left[:size].tobytes())
                self.owner.flush()
                left = left[size:]
        self._refuse_if_broken()
        if end and not self._closed:
            state.end_stream(self.number)
            self.owner.flush()

    def send_behind_the_response(self, body: bytes) -> None:
        """What was on its way when the response came; as far as the server still takes it."""
        assert self.ended
        if self.code is None:
            window = self.owner.state.local_flow_control_window(self.number)
            self.owner.state.send_data(self.number, body[:window])
            self.owner.flush()

    def head(self) -> "Stream":
        """Wait for the head of the response."""
        self.owner.until(lambda: bool(self.status) or self._closed, f"the head of stream {self.number}")
        if not self.status:
            self._refuse_if_broken()
        return self

    def read(self, size: int | None = None) -> bytes:
        """That many bytes; or all, to the end of the stream."""
        wanted = float("inf") if size is None else size
        self.owner.until(lambda: len(self.received) >= wanted or self._closed, f"{size} bytes on stream {self.number}")
        if len(self.received) < wanted:
            self._refuse_if_broken()
        body = bytes(self.received[:size])
        del self.received[:size]
        return body

    def read_some(self) -> bytes:
        """What is there, of which there is none at the end of the stream."""
        self.owner.until(lambda: bool(self.received) or self._closed, f"data on stream {self.number}")
        if not self.received:
            self._refuse_if_broken()
        return self.read(len(self.received))

    def answer(self) -> tuple[int, bytes]:
        """Status and body of a response that has to be whole."""
        return self.head().status, self.read()

    def resume(self) -> None:
        """Read on."""
        self.reads = True
        self.take_data(0)
        self.owner.flush()

    def reset(self, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Leave this stream, as a browser does whose user goes elsewhere."""
        if self.code is None:
            self.owner.state.reset_stream(self.number, code)
            self.owner.flush()

    @property
    def _closed(self) -> bool:
        return self.ended or self.code is not None

    def _refuse_if_broken(self) -> None:
        if self.code is not None and not self.ended:
            raise StreamReset(f"stream {self.number} was reset with {ErrorCodes(self.code).name}")

    def take_data(self, size: int) -> None:
        """Give the server back what it may send, for so many bytes that have come; for 0, all that is owed."""
        self._owed += size
        if self.reads and self._owed >= (STEP if size else 1) and not self._closed:
            self.owner.open_window(self._owed, self.number)
            self._owed = 0


class Http2Connection:
    """HTTP/2 by prior knowledge, or over TLS as agreed on by ALPN. It reads only while somebody waits for something."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self.socket = open_socket(address)
        try:
            if tls is not None:
                self.socket = _speaking_http2(tls).wrap_socket(self.socket, server_hostname="localhost")
                assert "h2" == self.socket.selected_alpn_protocol(), "the server does not speak HTTP/2"  # type: ignore[attr-defined]
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Names and values go out as they are given, also those that the server has to refuse.
            config = h2.config.H2Configuration(header_encoding="latin-1")
            self.state = h2.connection.H2Connection(config)
            self.state.local_settings.enable_push = 0
            self.state.initiate_connection()
            self.flush()
        except BaseException:
            self.socket.close()
            raise
        self.authority = "localhost"
        self.scheme = "http" if tls is None else "https"
        self.streams: dict[int, Stream] = {}
        self.ended = False
        self._owed = 0

    def request(self, method: str, path: str, fields: Fields = (), *, end: bool | None = None) -> Stream:
        """Begin a request; a body has to follow, unless the method has none or `end` says so."""
        number = self.state.get_next_available_stream_id()
        stream = self.streams[number] = Stream(self, number)
        pseudo = [(":method", method), (":scheme", self.scheme), (":authority", self.authority), (":path", path)]
        self.state.send_headers(number, [*pseudo, *fields], end_stream=method != "POST" if end is None else end)
        self.flush()
        return stream

    def get(self, path: str, fields: Fields = ()) -> tuple[int, bytes]:
        return self.request("GET", path, fields).answer()

    def post(self, path: str, body: bytes, fields: Fields = ()) -> Stream:
        """Begin a request, and send all of its body."""
        stream = self.request("POST", path, fields)
        stream.send(body, end=True)
        return stream

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Take what the server sends until `holds()`."""
        deadline = time.monotonic() + connection.PATIENCE
        while not holds():
            if self.ended:
                raise StreamReset(f"the server has closed the connection while the client waited for {what}")
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError(f"not within {connection.PATIENCE} s: {what}")
            self.socket.settimeout(left)
            with suppress(TimeoutError):
                self._receive()

    def flush(self) -> None:
        if waiting := self.state.data_to_send():
            self.socket.settimeout(connection.PATIENCE)
            self.socket.sendall(waiting)

    def open_window(self, size: int, number: int | None = None) -> None:
        """Let the server send so much more on a stream, or on all of them together."""
        with suppress(ProtocolError):  # the end of the stream, or of all, is in the bytes that are being taken
            self.state.increment_flow_control_window(size, number)

    def _receive(self) -> None:
        data = self.socket.recv(2**16)
        self.ended = not data
        for event in self.state.receive_data(data) if data else []:
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            # RFC 9113 section 6.8: what is above the last stream was not served, and never will be.
            for number, stream in self.streams.items():
                if number > event.last_stream_id or event.error_code:
                    stream.code = int(event.error_code or 0)
            return
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)  # type: ignore[assignment]
        match event:
            case h2.events.InformationalResponseReceived():
                stream.informational.append(_text(event.headers))
            case h2.events.ResponseReceived():
                (_, status), *stream.headers = _text(event.headers)
                stream.status = int(status)
            case h2.events.DataReceived():
                stream.received += event.data
                stream.ended = event.stream_ended is not None
                stream.take_data(event.flow_controlled_length)
                self._owed += event.flow_controlled_length
                if self._owed >= STEP:
                    self.open_window(self._owed)
                    self._owed = 0
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.code = int(event.error_code)

    def abort(self) -> None:
        """Leave with a reset of the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Http2Connection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _text(fields: Iterable[tuple[str | bytes, str | bytes]]) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in fields]


def _speaking_http2(tls: ssl.SSLContext) -> ssl.SSLContext:
    """A context that believes the same certificates, and offers nothing but HTTP/2."""
    context = ssl.create_default_context(cadata=b"".join(tls.get_ca_certs(binary_form=True)))
    context.set_alpn_protocols(["h2"])
    return context
