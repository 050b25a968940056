"""The longer and harder cases, for every server: slow clients in numbers, odd and hostile requests, pipelining.

They belong to `make test-servers`.
"""

import http.client
import json
import ssl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from signal import SIGINT
from typing import Any

import pytest

from real_servers.kinds import HELLO, Kind
from servers import Connection, Server
from support import apps

long = pytest.mark.servers
SLOW = 50  # slow clients of each kind, where the server can have so many
WIDE = 60  # threads then

# What must be refused or survived. RFC 9112 6.3 for the lengths, RFC 9110 5.5 for the values.
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
HOSTILE = {
    "two lengths": b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a negative length": b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
    "no number for a length": b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: three\r\n\r\nabc",
    "chunks that are none": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "half a chunk": CHUNKED + b"1000\r\nabc",
    "a huge header": b"GET /hello HTTP/1.1\r\nHost: a\r\nX-Huge: " + b"x" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET /hello HTTP/1.1\r\nHost: a\r\n" + b"X-Many: x\r\n" * 2000 + b"\r\n",
    "NUL in a header": b"GET /hello HTTP/1.1\r\nHost: a\r\nX-Nul: a\0b\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
    "an endless line": b"GET /" + b"a" * 300_000,
    "nothing but a line end": b"\r\n\r\n",
}


class HardCases:
    """The cases; a subclass says which servers, and what they serve."""

    @long
    def test_slow_uploads_beside_normal_traffic(
        self, launch: Callable[..., Any], kind: Kind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """50 uploads that stand still, on a server with 60 threads where it has one for each: others are served."""
        monkeypatch.setenv("BRIDGE_TEST_THREADS", str(WIDE))
        with launch(threads=WIDE) as server, ExitStack() as open_ones:
            slow = [open_ones.enter_context(server.connect()) for _ in range(min(SLOW, kind.most_at_once - 1))]
            for connection in slow:
                connection.head("POST", "/echo", {"Content-Length": 6})
                connection.send(b"one")
            for _ in range(20):
                assert (200, HELLO) == server.get("/hello")
            for connection in slow:
                connection.send(b"two")
            for connection in slow:
                assert b"onetwo" == connection.response("POST").read()

    @long
    def test_stalled_readers_beside_normal_traffic(
        self, launch: Callable[..., Any], kind: Kind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """50 downloads that nobody reads, on the same: others are served meanwhile and afterwards."""
        monkeypatch.setenv("BRIDGE_TEST_THREADS", str(WIDE))
        with launch(threads=WIDE) as server:
            with ExitStack() as open_ones:
                for _ in range(min(SLOW, kind.most_at_once - 1)):
                    connection = open_ones.enter_context(server.connect())
                    connection.head("GET", "/download?mib=16")
                for _ in range(20):
                    assert (200, HELLO) == server.get("/hello")
            assert (200, HELLO) == server.get("/hello")

    @long
    def test_a_client_that_waits_for_100_continue(self, server: Server) -> None:
        """RFC 9110 10.1.1: the body is sent once the server has said that it wants it."""
        with server.connect() as connection:
            connection.head("POST", "/echo", {"Content-Length": 3, "Expect": "100-continue"})
            assert b"100" in connection.reader.readline()
            assert b"\r\n" == _last_line_of_head(connection)
            connection.send(b"abc")

            assert b"abc" == connection.response("POST").read()

    @long
    def test_pipelined_requests_are_answered_in_order(self, server: Server, kind: Kind) -> None:
        """RFC 9112 9.3.2: three requests in one segment."""
        with server.connect() as connection:
            paths = ["/hello", "/nowhere", "/hello"]
            connection.send(b"".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in paths))
            for expected in [HELLO, b"not found\n", HELLO]:
                response = connection.response()
                assert expected == response.read()
                if not kind.keeps_connections(response):
                    break

    @long
    @pytest.mark.parametrize("what", HOSTILE)
    def test_a_hostile_request(self, server: Server, what: str) -> None:
        """It is refused, cut off or served as far as it goes, in bounded time; the next client is served."""
        with server.connect() as connection:
            with suppress(OSError):
                connection.send(HOSTILE[what])
            _end_sending(connection)
            with suppress(http.client.HTTPException, ConnectionError, ssl.SSLError):
                response = connection.response("POST")
                assert 200 == response.status or 400 <= response.status < 600
                response.read()
        assert (200, HELLO) == server.get("/hello")

    @long
    def test_repeated_headers(self, server: Server) -> None:
        """RFC 9110 5.3 and RFC 6265 5.4: they are joined, by commas, and cookies by semicolons; none is lost."""
        headers = ["X-Repeat: one", "X-Repeat: two", "Cookie: a=1", "Cookie: b=2"]
        seen = _facts(server, "/facts", headers)["headers"]

        assert {"one", "two"} == set(seen["x-repeat"].replace(" ", "").split(","))
        assert {"a=1", "b=2"} == set(seen["cookie"].replace(",", ";").replace(" ", "").split(";"))

    @long
    def test_odd_headers(self, server: Server) -> None:
        """An empty one, one with spaces, and one that would pass for the server's own HTTP_PROXY."""
        headers = ["X-Empty:", "X-Space:   inner  space  ", "Proxy: http://evil/"]
        seen = _facts(server, "/facts", headers)["headers"]

        assert "" == seen.get("x-empty", "")
        assert "inner  space" == seen["x-space"].strip()
        assert "proxy" not in seen

    @long
    def test_a_name_with_an_underscore(self, server: Server) -> None:
        """It does not pass for the one with a dash, which a proxy may have set."""
        seen = _facts(server, "/facts", ["X_Forged: underscore", "X-Forged: dash"])["headers"]

        assert "underscore" not in seen["x-forged"]

    @long
    def test_latin_1_in_a_header(self, server: Server) -> None:
        """RFC 9110 5.5: field values are bytes; both interfaces carry them as Latin-1."""
        assert "caf\xe9" == _facts(server, "/facts", ["X-Latin: caf\xe9"])["headers"]["x-latin"]

    @long
    @pytest.mark.parametrize(
        ("path", "query"),
        [("/facts/a%20b%2Bc", "q=a+b%20c"), ("/facts/%e2%82%ac", "q=%e2%82%ac"), ("/facts/%ff%fe", "q=%ff%fe")],
        ids=["spaces", "UTF-8", "no UTF-8"],
    )
    def test_paths_and_queries(self, server: Server, path: str, query: str) -> None:
        """Each byte of the path arrives, decoded once; the query as it was sent."""
        facts = _facts(server, f"{path}?{query}")

        assert apps.unquote_to_bytes(path).hex() == facts["path"]
        assert query.encode().hex() == facts["query"]

    @long
    def test_the_connection_after_a_refused_upload(self, server: Server) -> None:
        """An upload that nobody reads does not become the next request."""
        with server.connect() as connection:
            connection.head("POST", "/nowhere", {"Content-Length": 30})
            connection.send(b"GET /raises HTTP/1.1\r\nHost: a\r\n\r\n"[:30])
            assert 404 == connection.response("POST").status
        assert (200, HELLO) == server.get("/hello")

    @long
    def test_sigint_ends_the_server(self, launch: Callable[[], Any]) -> None:
        """As Ctrl-C does."""
        with launch() as server:
            assert (200, HELLO) == server.get("/hello")
            server.stop(SIGINT)


def _facts(server: Server, target: str, headers: list[str] = []) -> Any:  # noqa: B006
    with server.connect() as connection:
        head = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
        connection.send("\r\n".join(head).encode("latin-1"))
        response = connection.response()
        assert 200 == response.status, server.log()[-3000:]
        return json.loads(response.read())


def _last_line_of_head(connection: Connection) -> bytes:
    while (line := connection.reader.readline()) not in (b"\r\n", b""):
        pass
    return line


def _end_sending(connection: Connection) -> None:
    with suppress(OSError):
        connection.socket.shutdown(1)
