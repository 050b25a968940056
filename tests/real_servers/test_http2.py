"""Apps of both styles over HTTP/2: streams, windows and resets on one connection (RFC 9113)."""

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from real_servers.cases import MEMORY_BOUND, seen, settled
from real_servers.http2_kinds import HTTP2_ASGI, HTTP2_WSGI, Http2Kind
from real_servers.kinds import ASGI_APP, HELLO
from servers import MIB, Http2Connection, Server, Stream, StreamReset
from support import apps

pytestmark = pytest.mark.servers

MORE_THAN_THREADS = 12
WINDOW = 65_535  # bytes; RFC 9113 section 6.9.2


@pytest.fixture(scope="module", params=[kind.as_parameter() for kind in [*HTTP2_ASGI, *HTTP2_WSGI]])
def kind(request: pytest.FixtureRequest) -> Http2Kind:
    """Each server in turn."""
    return request.param


@pytest.fixture
def token() -> str:
    """A name for the signals of one test."""
    return secrets.token_hex(8)


@pytest.fixture
def client(server: Server) -> Iterator[Http2Connection]:
    """A connection of its own for each test."""
    with connect(server) as connection:
        yield connection


@pytest.fixture
def broken_upload(kind: Http2Kind) -> str:
    """What the app sees in place of the rest of a body."""
    return "ClientDisconnected" if kind in HTTP2_ASGI else "ClientLeft"


class TestResponses:
    """RFC 9113 section 8: each request on a stream of its own."""

    def test_hello(self, client: Http2Connection) -> None:
        """A small response arrives whole, with its length."""
        stream = client.request("GET", "/hello")

        assert (200, HELLO) == stream.answer()
        assert "14" == stream.header("content-length")

    @pytest.mark.parametrize("length", ["with a length", "without"])
    @pytest.mark.parametrize("size", [0, 1, WINDOW + 1, MIB])
    def test_echo(self, client: Http2Connection, size: int, length: str) -> None:
        """A body goes to the app and back, also where it is empty, and ends in a frame of its own."""
        body = secrets.token_bytes(size)
        stream = client.post("/echo", body, [("content-length", str(size))] if length == "with a length" else [])

        assert (200, body) == stream.answer()
        assert (200, HELLO) == client.get("/hello")

    def test_a_post_without_a_body(self, client: Http2Connection) -> None:
        """Its first frame is its last."""
        assert (200, b"") == client.request("POST", "/echo", end=True).answer()

    def test_many_at_once_get_their_own_response(self, client: Http2Connection) -> None:
        """30 on one connection, their uploads interleaved, every tenth slow: each gets the bytes of its own."""
        bodies = {number: f"{number} ".encode() * (1 + number * 997 % 9000) for number in range(30)}
        streams = {number: client.request("POST", _tagged(number)) for number in bodies}
        longest = max(map(len, bodies.values()))
        for start in range(0, longest, 5000):
            for number, body in bodies.items():
                if start < len(body):
                    streams[number].send(body[start : start + 5000], end=start + 5000 >= len(body))

        for number, stream in streams.items():
            assert (200, b"%d:%b:%d" % (number, bodies[number], number)) == stream.answer()
            assert str(number) == stream.header("x-id")

    @pytest.mark.parametrize(
        ("method", "path", "status", "body"),
        [
            ("HEAD", "/hello", 200, b""),
            ("HEAD", "/download?mib=1", 200, b""),
            ("GET", "/no-content", 204, b""),
            ("GET", "/no-content-with-body", 204, b""),
            ("GET", "/not-modified", 304, b""),
            ("GET", "/nowhere", 404, b"not found\n"),
        ],
    )
    def test_responses_without_a_body(
        self, client: Http2Connection, method: str, path: str, status: int, body: bytes
    ) -> None:
        """They end, and the connection serves the next request."""
        assert (status, body) == client.request(method, path).answer()
        assert (200, HELLO) == client.get("/hello")

    def test_each_chunk_arrives_before_the_next_is_made(
        self, server: Server, client: Http2Connection, token: str
    ) -> None:
        """The app makes a chunk only once the client has told that it has the one before."""
        stream = client.request("GET", f"/steps?token={token}")
        follow_steps(server, stream, token)

    def test_repeated_headers(self, client: Http2Connection) -> None:
        """They are joined by commas, and the crumbs of a cookie by semicolons (section 8.2.3)."""
        fields = [("x-repeat", "one"), ("cookie", "a=1"), ("x-repeat", "two"), ("cookie", "b=2"), ("cookie", "c=3")]
        headers = facts(client, fields)["headers"]

        assert ["one", "two"] == re.split(", ?", headers["x-repeat"])
        assert "a=1; b=2; c=3" == headers["cookie"]

    def test_repeated_headers_of_a_response(self, client: Http2Connection) -> None:
        """Two cookies are set, each in a field of its own (RFC 6265 section 3)."""
        stream = client.request("GET", "/cookies").head()

        assert ["a=1; Path=/", "b=2; Path=/"] == [value for name, value in stream.headers if name == "set-cookie"]

    def test_what_the_app_is_told(self, client: Http2Connection, kind: Http2Kind) -> None:
        """The version; the authority as its host; no pseudo-header."""
        told = facts(client)

        assert kind.protocol == told["protocol"].removeprefix("HTTP/")
        assert client.authority == told["headers"]["host"]
        assert [] == [name for name in told["headers"] if name.startswith(":")]


class TestWindows:
    """RFC 9113 section 5.2: who does not read is not sent more, and holds up nobody else."""

    def test_a_stalled_stream_beside_others(self, server: Server, client: Http2Connection, token: str) -> None:
        """A download stands still with a shut window; others on its connection go on; then it goes on too."""
        stalled = client.request("GET", "/download?mib=2")
        stalled.reads = False
        client.until(lambda: len(stalled.received) == WINDOW, "a full window")
        steps = client.request("GET", f"/steps?token={token}")
        for _ in range(5):
            body = secrets.token_bytes(200_000)
            assert (200, body) == client.post("/echo", body).answer()
            assert (200, HELLO) == client.get("/hello")
        follow_steps(server, steps, token)
        assert WINDOW == len(stalled.received)
        stalled.resume()

        assert apps.digest_of_blocks(2).decode() == hashlib.sha256(stalled.read()).hexdigest()

    def test_a_stalled_upload_beside_others(self, client: Http2Connection) -> None:
        """An upload of which half has come does not hold up the others."""
        stalled = client.request("POST", "/echo", [("content-length", "6")])
        stalled.send(b"one")
        for _ in range(5):
            assert (200, HELLO) == client.get("/hello")
        stalled.send(b"two", end=True)

        assert (200, b"onetwo") == stalled.answer()

    def test_a_large_download_waits_for_its_client(self, server: Server, client: Http2Connection, token: str) -> None:
        """64 MiB down, every byte: while the client does not read, the app is held back and little is in memory."""
        with server.memory_bound(MEMORY_BOUND):
            stream = client.request("GET", f"/download?mib=64&token={token}").head()
            made = settled(lambda: len(server.signals.told(token)))
            assert made < 64 * MIB // apps.BLOCK, "the app has made all of it, though nobody has read anything"

            digest = hashlib.sha256()
            while piece := stream.read_some():
                digest.update(piece)
            assert apps.digest_of_blocks(64) == digest.hexdigest().encode()

    def test_a_large_upload_takes_little_memory(self, server: Server, client: Http2Connection) -> None:
        """64 MiB up, every byte."""
        with server.memory_bound(MEMORY_BOUND):
            stream = client.request("POST", "/upload", [("content-length", str(64 * MIB))])
            for number in range(64 * MIB // apps.BLOCK):
                stream.send(apps.block(number))
            stream.send(b"", end=True)

            assert (200, b"%d %b" % (64 * MIB, apps.digest_of_blocks(64))) == stream.answer()

    def test_the_app_reads_the_upload_as_it_comes(self, server: Server, client: Http2Connection, token: str) -> None:
        """The app has seen the first half of a body before the client sends the second."""
        half = secrets.token_bytes(MIB)
        stream = client.request("POST", f"/upload?token={token}", [("content-length", str(2 * MIB))])
        stream.send(half)
        server.wait_for(lambda: seen(server, token) > MIB // 2, "the app sees the first half")
        stream.send(half, end=True)

        assert f"{2 * MIB} {hashlib.sha256(half + half).hexdigest()}".encode() == stream.answer()[1]

    def test_uploads_that_nobody_reads(self, client: Http2Connection) -> None:
        """Their responses come before their ends; then others have all of the window that all share."""
        for _ in range(4):
            stream = client.request("POST", "/nowhere", [("content-length", str(2 * MIB))])
            stream.send(bytes(300_000))
            assert (404, b"not found\n") == stream.answer()
            stream.send_behind_the_response(bytes(1000))
            stream.reset()

        assert (200, bytes(MIB)) == client.post("/echo", bytes(MIB)).answer()


class TestLeaves:
    """RFC 9113 section 5.4.2: a client leaves one stream, or all with their connection; the app is told."""

    def test_streams_that_are_reset_free_their_thread(
        self, server: Server, client: Http2Connection, token: str
    ) -> None:
        """Twelve endless responses, more than there are threads, on one connection: each is closed."""
        for _ in range(MORE_THAN_THREADS):
            stream = client.request("GET", f"/endless?token={token}")
            assert apps.TICK == stream.read(len(apps.TICK))
            stream.reset()

        assert (200, HELLO) == client.get("/hello")
        server.wait_for(lambda: server.counted("ended", token) == MORE_THAN_THREADS, "each is closed")

    def test_a_stream_that_is_reset_behind_a_shut_window(self, server: Server, client: Http2Connection) -> None:
        """The app waits for the window; the connection serves others afterwards, with all of its own window."""
        for _ in range(MORE_THAN_THREADS):
            stream = client.request("GET", "/download?mib=2")
            stream.reads = False
            client.until(lambda: len(stream.received) == WINDOW, "a full window")  # noqa: B023
            stream.reset()

        assert (200, bytes(MIB)) == client.post("/echo", bytes(MIB)).answer()

    def test_an_app_that_sends_nothing_is_told_of_the_reset(
        self, server: Server, client: Http2Connection, token: str
    ) -> None:
        """Without a write that could fail, the app learns within a bounded time that its client has left."""
        stream = client.request("GET", f"/idle?token={token}")
        assert apps.TICK == stream.read(len(apps.TICK))
        stream.reset()

        server.wait_for(lambda: server.counted("told of the leave", token) == 1, "the app is told")
        assert (200, HELLO) == client.get("/hello")

    def test_uploads_that_are_reset(
        self, server: Server, client: Http2Connection, token: str, broken_upload: str
    ) -> None:
        """An app that is reading is told that the rest will not come; others have all of the window again."""
        for number in range(6):
            stream = client.request("POST", f"/upload?token={token}-{number}", [("content-length", str(2 * MIB))])
            stream.send(bytes(MIB))
            server.wait_for(lambda: seen(server, f"{token}-{number}") > 0, "the app reads")  # noqa: B023
            stream.reset()

        assert (200, bytes(MIB)) == client.post("/echo", bytes(MIB)).answer()
        for number in range(6):
            server.wait_for(lambda: bool(server.signals.told(f"{token}-{number}-broken")), "the app is told")  # noqa: B023
            assert [broken_upload] == server.signals.told(f"{token}-{number}-broken")

    @pytest.mark.parametrize("how", ["close", "abort"])
    @pytest.mark.parametrize("path", ["/endless", "/idle"])
    def test_a_connection_that_is_cut(self, server: Server, kind: Http2Kind, token: str, path: str, how: str) -> None:
        """Each of its streams learns of it, whether its app sends or is silent."""
        what, streams = {"/endless": "ended", "/idle": "told of the leave"}[path], 3 if kind.multiplexes else 1
        with connect(server) as client:
            for _ in range(streams):
                assert apps.TICK == client.request("GET", f"{path}?token={token}").read(len(apps.TICK))
            client.close() if how == "close" else client.abort()

        assert (200, HELLO) == server.get("/hello")
        server.wait_for(lambda: server.counted(what, token) == streams, f"all apps are told: {what}")

    @pytest.mark.parametrize("how", ["close", "abort"])
    def test_a_connection_that_is_cut_in_uploads(
        self, server: Server, kind: Http2Kind, token: str, broken_upload: str, how: str
    ) -> None:
        """Each app that reads is told that the rest will not come."""
        tokens = [f"{token}-{number}" for number in range(2 if kind.multiplexes else 1)]
        with connect(server) as client:
            for each in tokens:
                stream = client.request("POST", f"/upload?token={each}", [("content-length", str(2 * MIB))])
                stream.send(bytes(MIB))
            for each in tokens:
                server.wait_for(lambda: seen(server, each) > 0, "the app reads")  # noqa: B023
            client.close() if how == "close" else client.abort()

        assert (200, HELLO) == server.get("/hello")
        for each in tokens:
            server.wait_for(lambda: [broken_upload] == server.signals.told(f"{each}-broken"), "the app is told")  # noqa: B023


class TestErrors:
    """RFC 9113 section 8.1: a response that is not whole does not end as one that is."""

    @pytest.mark.parametrize("path", ["/raises", "/raises-after-start"])
    def test_an_exception_before_the_body_is_a_500(self, server: Server, client: Http2Connection, path: str) -> None:
        """The client gets a 500, the log the traceback, and the next request its answer."""
        logged = server.log_mark()

        assert 500 == client.get(path)[0]
        assert (200, HELLO) == client.get("/hello")
        traceback = r"Traceback[\s\S]+apps\.py[\s\S]+LookupError: raised before the headers"
        server.wait_for(lambda: re.search(traceback, server.log(logged)) is not None, "a traceback is logged")

    @pytest.mark.parametrize("path", ["/raises-in-the-middle", "/raises-before-content-length"])
    def test_an_exception_in_the_middle_resets_the_stream(
        self, server: Server, client: Http2Connection, path: str
    ) -> None:
        """The client can tell that the response is not whole, and its connection serves on."""
        logged = server.log_mark()
        with pytest.raises(StreamReset):
            client.get(path)

        assert (200, HELLO) == client.get("/hello")
        traceback = r"Traceback[\s\S]+apps\.py[\s\S]+LookupError: raised in the middle"
        server.wait_for(lambda: re.search(traceback, server.log(logged)) is not None, "a traceback is logged")


def connect(server: Server) -> Http2Connection:
    return Http2Connection(server.address, server.tls)


def facts(client: Http2Connection, fields: list[tuple[str, str]] = []) -> Any:  # noqa: B006
    status, body = client.get("/facts", fields)
    assert 200 == status, body
    return json.loads(body)


def follow_steps(server: Server, stream: Stream, token: str) -> None:
    for step in range(3):
        assert f"data: {step}\n\n".encode() == stream.read(len("data: 0\n\n"))
        server.signals.tell(f"{token}-{step + 1}")
    assert b"" == stream.read()


def _tagged(number: int) -> str:
    return f"/tagged?id={number}{'&stream=1' if number % 2 else ''}{'&delay=0.1' if number % 10 == 0 else ''}"


@pytest.mark.parametrize("run", [servers.gunicorn_h2c, servers.gunicorn_http2])
def test_early_hints(run: Callable[[Path, str], servers.Running], tmp_path: Path) -> None:
    """RFC 8297: what the app hints at comes in a HEADERS frame before its response."""
    with run(tmp_path, ASGI_APP) as server, connect(server) as client:
        stream = client.request("GET", "/early-hint")

        assert (200, b"styled\n") == stream.answer()
        assert [[(":status", "103"), ("link", "</style.css>; rel=preload")]] == stream.informational
