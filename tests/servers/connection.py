"""A client's connection that can do what `http.client` forbids: half a body, a response before the end, a leave."""

import http.client
import io
import socket
import ssl
from collections.abc import Mapping

from support.patience import PATIENCE

# Host and port, or the path of a Unix socket.
Address = tuple[str, int] | str


class _Reader(io.BufferedReader):
    """Outlives the responses read from it, so that bytes behind one response are the start of the next."""

    def close(self) -> None:
        """`http.client` closes its file at the end of each response; the socket's owner closes the socket."""

    def flush(self) -> None:
        """`http.client` does that for a response that nobody has read to its end, when the connection is long gone."""

    def makefile(self, mode: str) -> "_Reader":
        return self


class Connection:
    """HTTP/1.1, by hand."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self.socket = open_socket(address)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.reader = _Reader(socket.SocketIO(self.socket, "r"))

    def head(self, method: str, path: str, headers: Mapping[str, object] | None = None) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, body: bytes) -> None:
        self.socket.sendall(body)

    def send_chunk(self, body: bytes) -> None:
        """One piece of a body with `Transfer-Encoding: chunked`; an empty one is its end."""
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(body), body))

    def response(self, method: str = "GET") -> http.client.HTTPResponse:
        """Wait for the head of the response."""
        response = http.client.HTTPResponse(self.reader, method=method)  # type: ignore[arg-type]
        response.begin()
        return response

    def ask(self, method: str, path: str, body: bytes = b"") -> http.client.HTTPResponse:
        self.head(method, path, {"Content-Length": len(body)} if body else None)
        if body:  # a server may have answered and left by now
            self.send(body)
        return self.response(method)

    def abort(self) -> None:
        """Leave as a browser does whose tab is closed: with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        super(_Reader, self.reader).close()
        self.socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_socket(address: Address) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=PATIENCE)
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(PATIENCE)
    try:
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened
