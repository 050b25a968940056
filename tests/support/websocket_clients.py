"""A WebSocket client that looks at every byte, and a WSGI server in threads for it to speak to.

The protocol is wsproto's, read and written step by step, so that a test can send what no well-behaved client would.
"""

import contextlib
import socket
import socketserver
import ssl
import threading
import time
import wsgiref.simple_server
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import wsproto
import wsproto.connection
import wsproto.events as ws
from wsproto.extensions import PerMessageDeflate

from support.patience import PATIENCE

Message = str | bytes


@dataclass(frozen=True)
class Accepted:
    subprotocol: str | None
    headers: dict[str, str]
    deflate: bool


@dataclass(frozen=True)
class Rejected:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Closed:
    code: int
    reason: str


class Client:
    """One connection; nothing is answered but by the test, unless `answers_pings`."""

    def __init__(self, connection: socket.socket, host: str = "localhost", *, answers_pings: bool = True) -> None:
        connection.settimeout(PATIENCE)
        self.socket = connection
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self._host = host
        self._answers_pings = answers_pings
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._arrived: list[Any] = []
        self._text = ""
        self._bytes = b""
        self._tail = b""  # the last bytes that have come

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def open(
        self,
        path: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        deflate: bool = False,
        early: bytes = b"",
    ) -> Accepted | Rejected:
        """Send the handshake, and `early` in the same segment; what the server answers."""
        request = ws.Request(
            host=self._host,
            target=path,
            subprotocols=list(subprotocols),
            extra_headers=list(headers),
            extensions=[PerMessageDeflate()] if deflate else [],
        )
        self.socket.sendall(self._protocol.send(request) + early)
        event = self._next()
        if isinstance(event, ws.AcceptConnection):
            names = {name.decode(): value.decode() for name, value in event.extra_headers}
            return Accepted(event.subprotocol, names, bool(event.extensions))
        assert isinstance(event, ws.RejectConnection), event
        body = b""
        while event.has_body and not (part := self._next()).body_finished:
            body += part.data
        return Rejected(event.status_code, {name.decode(): value.decode() for name, value in event.headers}, body)

    def frame(self, event: Any) -> bytes:
        """The bytes of an event, once the connection is open."""
        return bytes(self._protocol.send(event))

    def message(self, data: Message, *, finished: bool = True) -> bytes:
        """The bytes of a message, or of a fragment."""
        message = ws.TextMessage if isinstance(data, str) else ws.BytesMessage
        return self.frame(message(data=data, message_finished=finished))

    def send(self, data: Message, *, finished: bool = True) -> None:
        self.socket.sendall(self.message(data, finished=finished))

    def ping(self, payload: bytes = b"") -> None:
        self.socket.sendall(self.frame(ws.Ping(payload)))

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Message | Closed:
        """The next message, whole; or how the server closes."""
        while True:
            event = self._next()
            if isinstance(event, ws.Ping):
                self.pings.append(bytes(event.payload))
                if self._answers_pings and self._protocol.state is wsproto.connection.ConnectionState.OPEN:
                    self.socket.sendall(self.frame(event.response()))
            elif isinstance(event, ws.Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, ws.TextMessage):
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    return text
            elif isinstance(event, ws.BytesMessage):
                self._bytes += bytes(event.data)
                if event.message_finished:
                    data, self._bytes = self._bytes, b""
                    return data
            else:
                assert isinstance(event, ws.CloseConnection), event
                closed = Closed(event.code, event.reason or "")
                payload = b"" if closed.code == 1005 else closed.code.to_bytes(2) + closed.reason.encode()
                # What comes behind it, wsproto drops.
                assert self._tail.endswith(bytes((0x88, len(payload))) + payload), self._tail
                return closed

    def receive_pings(self, count: int) -> None:
        """Wait for so many pings, and answer them."""
        while count:
            ping = self._next()
            assert isinstance(ping, ws.Ping), ping
            self.socket.sendall(self.frame(ping.response()))
            count -= 1

    def receive_slowly(self) -> Message | Closed:
        """As `receive`, in small pieces, with a pause behind each quarter of a MiB."""
        taken = 0
        while not any(getattr(event, "message_finished", True) for event in self._arrived):
            taken += self._take(4096)
            if taken >= 2**18:
                taken = 0
                time.sleep(0.02)  # the pause is what the test is about
        return self.receive()

    def close(self, code: int = 1000, reason: str | None = None) -> Closed:
        """Close, drop what comes until the answer, and see that nothing follows it."""
        self.socket.sendall(self.frame(ws.CloseConnection(code, reason)))
        while not isinstance(closed := self.receive(), Closed):
            pass
        self.see_the_end()
        return closed

    def answer_close(self, closed: Closed) -> None:
        """Answer the server's close frame, and see that nothing follows."""
        self.socket.sendall(self.frame(ws.CloseConnection(closed.code, closed.reason)))
        self.see_the_end()

    def end_tls(self) -> None:
        """Say that TLS ends; the server may answer, or end the connection."""
        assert isinstance(self.socket, ssl.SSLSocket)
        with contextlib.suppress(OSError):
            self.socket.unwrap()

    def see_the_end(self) -> None:
        """Fail if there is a byte before the end of the connection."""
        assert [] == self._arrived
        try:
            stray = self.socket.recv(4096)
        except ConnectionResetError:
            stray = b""
        assert b"" == stray, f"after the close frame: {stray[:200]!r}"

    def _next(self) -> Any:
        while not self._arrived:
            self._take(65536)
        return self._arrived.pop(0)

    def _take(self, size: int) -> int:
        data = self.socket.recv(size)
        assert data, "the connection ended without a word"
        self._tail = (self._tail + data)[-256:]
        self._protocol.receive_data(data)
        self._arrived.extend(self._protocol.events())
        return len(data)


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = False


class Site:
    """The standard library's server, with a thread a request; `errors` are what the app has raised."""

    def __init__(self, app: Any) -> None:
        self._server = wsgiref.simple_server.make_server("127.0.0.1", 0, self._call, _Server, _Handler)
        self._app = app
        self.errors: list[BaseException] = []
        self.address: tuple[str, int] = ("127.0.0.1", self._server.server_port)

    def _call(self, environ: Any, start_response: Any) -> Any:
        environ["wsgi.multithread"] = True  # which the plain server of the library is not
        try:
            return self._app(environ, start_response)
        except BaseException as error:
            self.errors.append(error)
            raise

    def connect(self, **options: Any) -> Client:
        return Client(socket.create_connection(self.address, PATIENCE), **options)

    @contextlib.contextmanager
    def running(self) -> Iterator["Site"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="site")
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()  # waits for the threads of the requests
            thread.join(PATIENCE)
            assert not thread.is_alive()


@contextlib.contextmanager
def site(app: Any) -> Iterator[Site]:
    """A server on loopback that runs `app`."""
    with Site(app).running() as running:
        yield running
