"""What every server must do with an app behind an adapter, over real sockets; each case is the same in both directions.

`server` is shared by the cases of one kind of server; the few that stop it start one of their own with `launch`.
"""

import asyncio
import hashlib
import http.client
import io
import json
import re
import secrets
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from signal import SIGINT, SIGTERM, Signals

import pytest

import servers
from real_servers.kinds import HELLO, Kind
from servers import MIB, Server
from support import apps

MEMORY_BOUND = 48  # MiB over idle, for 64 MiB in either direction


class Cases:
    """The cases; a subclass says which servers, and what they serve."""

    broken_upload: str  # what the app sees in place of the rest of the body

    @pytest.fixture
    def token(self) -> str:
        """A name for the signals of one test."""
        return secrets.token_hex(8)

    @staticmethod
    def served(server: Server) -> None:
        """The next request gets its answer."""
        assert (200, HELLO) == server.get("/hello")

    def wait_for_count(self, server: Server, kind: Kind, what: str, token: str, count: int) -> None:
        """Return once the app has counted `count` times `what` for the requests with this token."""

        def reached() -> bool:
            if kind.stands_still:
                self.served(server)
            return server.counted(what, token) == count

        server.wait_for(reached, f"{what}: {count}")

    def test_hello(self, server: Server) -> None:
        """A small response arrives whole, with its length."""
        with server.connect() as connection:
            response = connection.ask("GET", "/hello")

            assert (200, "14", HELLO) == (response.status, response.getheader("Content-Length"), response.read())

    @pytest.mark.parametrize("size", [0, 1, 1000, 65_536, 200_000])
    def test_echo(self, server: Server, size: int) -> None:
        """A body with Content-Length goes to the app and back."""
        body = secrets.token_bytes(size)
        with server.connect() as connection:
            assert body == connection.ask("POST", "/echo", body).read()

    @pytest.mark.parametrize("pieces", [[], [b"one"], [b"one", b"two" * 10_000, b"3"], [b"x" * 100_000] * 5], ids=len)
    def test_chunked_upload(self, server: Server, kind: Kind, pieces: list[bytes]) -> None:
        """A body without Content-Length reaches the app whole, or is refused where the server cannot decode it."""
        if not kind.decodes_chunks:
            with server.connect() as connection:
                connection.head("POST", "/echo", {"Transfer-Encoding": "chunked"})
                assert 411 == connection.response("POST").status
            return
        with server.connect() as connection:
            connection.head("POST", "/echo", {"Transfer-Encoding": "chunked"})
            for piece in [*pieces, b""]:
                connection.send_chunk(piece)

            assert b"".join(pieces) == connection.response("POST").read()

    def test_each_chunk_arrives_before_the_next_is_made(self, server: Server, token: str) -> None:
        """The app makes a chunk only once the client has told that it has the one before."""
        with server.connect() as connection:
            response = connection.ask("GET", f"/steps?token={token}")
            for step in range(3):
                assert f"data: {step}\n\n".encode() == response.read1(100)
                server.signals.tell(f"{token}-{step + 1}")

            assert b"" == response.read()

    def test_the_app_reads_the_upload_as_it_comes(self, server: Server, kind: Kind, token: str) -> None:
        """The app has seen the first half of a body before the client sends the second."""
        half = secrets.token_bytes(MIB)
        with server.connect() as connection:
            connection.head("POST", f"/upload?token={token}", {"Content-Length": 2 * MIB})
            connection.send(half)
            if kind.streams_uploads:
                server.wait_for(lambda: seen(server, token) > MIB - 2 * apps.BLOCK, "the app sees the first half")
            connection.send(half)
            digest = hashlib.sha256(half + half).hexdigest()

            assert f"{2 * MIB} {digest}".encode() == connection.response("POST").read()

    def test_the_app_answers_while_it_reads(self, server: Server, kind: Kind) -> None:
        """What the app has made of the first half of a body arrives before the second half is sent."""
        half = secrets.token_bytes(MIB)
        with server.connect() as connection:
            connection.head("POST", "/echo-in-pieces", {"Content-Length": 2 * MIB})
            connection.send(half)
            if kind.streams_uploads:
                response = connection.response("POST")
                assert half[: MIB - 2 * apps.BLOCK] == response.read(MIB - 2 * apps.BLOCK)
                connection.send(half)
                assert half[MIB - 2 * apps.BLOCK :] + half == response.read()
            else:
                connection.send(half)
                assert half + half == connection.response("POST").read()

    def test_a_large_upload_takes_little_memory(self, server: Server) -> None:
        """64 MiB up, every byte."""
        with server.memory_bound(MEMORY_BOUND), server.connect() as connection:
            connection.head("POST", "/upload", {"Content-Length": 64 * MIB})
            for number in range(64 * MIB // apps.BLOCK):
                connection.send(apps.block(number))

            assert b"%d %b" % (64 * MIB, apps.digest_of_blocks(64)) == connection.response("POST").read()

    def test_a_large_download_waits_for_its_client(self, server: Server, token: str) -> None:
        """64 MiB down, every byte: while the client does not read, the app is held back and little is in memory."""
        with server.memory_bound(MEMORY_BOUND), server.connect() as connection:
            response = connection.ask("GET", f"/download?mib=64&token={token}")
            made = settled(lambda: len(server.signals.told(token)))
            assert made < 64 * MIB // apps.BLOCK, "the app has made all of it, though nobody has read anything"

            digest = hashlib.sha256()
            while piece := response.read(apps.BLOCK):
                digest.update(piece)
            assert apps.digest_of_blocks(64) == digest.hexdigest().encode()

    @pytest.mark.parametrize(
        ("method", "path", "status", "body"),
        [
            ("GET", "/hello", 200, HELLO),
            ("HEAD", "/hello", 200, b""),
            ("GET", "/no-content", 204, b""),
            ("GET", "/no-content-with-body", 204, b""),
            ("GET", "/not-modified", 304, b""),
            ("GET", "/nowhere", 404, b"not found\n"),
            ("HEAD", "/download?mib=1", 200, b""),
            ("POST", "/echo-in-pieces", 200, b"abc"),
        ],
    )
    def test_the_connection_serves_the_next_request(
        self, server: Server, kind: Kind, method: str, path: str, status: int, body: bytes
    ) -> None:
        """After each kind of response, with a body and without, the next one starts where it should."""
        with server.connect() as connection:
            first = connection.ask(method, path, b"abc" if method == "POST" else b"")
            assert (status, body) == (first.status, first.read())

            if kind.keeps_connections(first):
                assert HELLO == connection.ask("GET", "/hello").read()
            else:
                assert b"" == connection.reader.read(1), "not one byte behind the response"

    def test_clients_that_abort_an_endless_stream_free_its_thread(self, server: Server, kind: Kind, token: str) -> None:
        """Twelve leave, more than there are threads; the next request is served and each of the twelve is closed."""
        for number in range(12):
            connection = server.connect()
            assert apps.TICK == connection.ask("GET", f"/endless?token={token}").read(len(apps.TICK))
            connection.abort() if number % 2 else connection.close()

        self.served(server)
        self.wait_for_count(server, kind, "ended", token, 12)

    def test_an_app_that_sends_nothing_is_told_of_the_leave(self, server: Server, kind: Kind, token: str) -> None:
        """Without a write that could fail, the app learns within a bounded time that its client is gone."""
        connection = server.connect()
        assert apps.TICK == connection.ask("GET", f"/idle?token={token}").read(len(apps.TICK))
        connection.close()

        self.wait_for_count(server, kind, "told of the leave", token, 1)

    def test_a_client_that_leaves_early_in_an_upload(self, server: Server, token: str) -> None:
        """No app mistakes the beginning of a body for all of it."""
        for _ in range(6):
            connection = server.connect()
            connection.head("POST", f"/upload?token={token}", {"Content-Length": 100_000})
            connection.send(b"x" * 1000)
            connection.abort()

        self.served(server)
        assert set(server.signals.told(f"{token}-broken")) <= {self.broken_upload}

    def test_a_client_that_leaves_late_in_an_upload(self, server: Server, kind: Kind, token: str) -> None:
        """An app that is reading is told that the rest will not come, and its thread is free again."""
        for number in range(6):
            connection = server.connect()
            connection.head("POST", f"/upload?token={token}-{number}", {"Content-Length": 2 * MIB})
            connection.send(bytes(MIB))
            if kind.streams_uploads:
                server.wait_for(lambda: seen(server, f"{token}-{number}") > 0, "the app reads")  # noqa: B023
            connection.abort() if number % 2 else connection.close()

        self.served(server)
        for number in range(6 if kind.streams_uploads else 0):
            server.wait_for(lambda: bool(server.signals.told(f"{token}-{number}-broken")), "the app is told")  # noqa: B023
            assert [self.broken_upload] == server.signals.told(f"{token}-{number}-broken")

    @pytest.mark.parametrize("path", ["/raises", "/raises-after-start"])
    def test_an_exception_before_the_body_is_a_500(self, server: Server, path: str) -> None:
        """The client gets a 500, the log the traceback, and the next request its answer."""
        logged = server.log_mark()
        status, _ = server.get(path)

        assert 500 == status
        self.served(server)
        traceback = r"Traceback[\s\S]+apps\.py[\s\S]+LookupError: raised before the headers"
        server.wait_for(lambda: re.search(traceback, server.log(logged)) is not None, "a traceback is logged")

    @pytest.mark.parametrize("path", ["/raises-in-the-middle", "/raises-before-content-length"])
    def test_an_exception_in_the_middle_is_a_broken_response(self, server: Server, path: str) -> None:
        """The client can tell that the response is not whole; the next request gets its answer."""
        logged = server.log_mark()
        # Some servers have not sent the head by then.
        broken = pytest.raises((http.client.IncompleteRead, ConnectionResetError))
        with server.connect() as connection, broken:
            connection.ask("GET", path).read()

        self.served(server)
        traceback = r"Traceback[\s\S]+apps\.py[\s\S]+LookupError: raised in the middle"
        server.wait_for(lambda: re.search(traceback, server.log(logged)) is not None, "a traceback is logged")

    def test_many_at_once_get_their_own_response(self, server: Server, kind: Kind) -> None:
        """200 requests of five kinds at once, every tenth slow: each gets the bytes made from its own."""

        async def all_at_once() -> list[None]:
            each = (one_of_many(server, number, chunked=kind.decodes_chunks) for number in range(200))
            return await asyncio.gather(*each)

        asyncio.run(all_at_once())

    @pytest.mark.parametrize(
        "how", [SIGTERM, pytest.param(SIGINT, marks=pytest.mark.servers)], ids=lambda how: how.name
    )
    def test_a_stop_ends_live_streams(self, launch: Callable[[], servers.Running], kind: Kind, how: Signals) -> None:
        """A server that is told to stop does so within its grace, though nobody leaves, and the clients can tell."""
        with launch() as server, ExitStack() as streams:
            responses = []
            for _ in range(min(3, kind.at_once)):
                response = streams.enter_context(server.connect()).ask("GET", "/endless")
                assert apps.TICK == response.read(len(apps.TICK))
                responses.append(response)

            server.stop(how)
            for response in responses:
                with pytest.raises((http.client.IncompleteRead, ConnectionResetError, ssl.SSLError)):
                    response.read()

    def test_lifespan_runs_once_a_process(self, launch: Callable[[], servers.Running], kind: Kind) -> None:
        """Startup before the first request, in the process that serves; shutdown at its exit."""
        with launch() as server:
            pids = {server.pid() for _ in range(5)}
            started = server.signals.told("lifespan")
            assert len(started) == len(set(started))
            assert {f"startup {pid}" for pid in pids} <= set(started)

            server.stop(kind.stops_cleanly_on)
            stopped = [line.replace("startup", "shutdown") for line in started]
            assert sorted(started + stopped) == sorted(server.signals.told("lifespan"))

    def test_what_the_startup_has_made_is_there(self, server: Server) -> None:
        """The state of the lifespan, of the process that serves (ASGI Lifespan, "Lifespan State")."""
        status, body = server.get("/facts")
        assert 200 == status
        facts = json.loads(body)
        assert facts["pid"] == facts["started in"]


def seen(server: Server, token: str) -> int:
    """How many bytes of the upload the app has told that it has."""
    return int((server.signals.told(token) or ["0"])[-1])


def settled(value: Callable[[], int]) -> int:
    """What `value()` is when it has not changed for half a second."""
    latest, since = value(), time.monotonic()
    while time.monotonic() < since + 0.5:
        time.sleep(0.02)
        if (now := value()) != latest:
            latest, since = now, time.monotonic()
    return latest


async def one_of_many(server: Server, number: int, *, chunked: bool) -> None:
    query = {"id": number, "repeat": 20_000 if number % 5 == 1 else 1}
    if number % 2:
        query["stream"] = 1
    delay = "&delay=0.1" if number % 10 == 0 else ""
    path = f"/tagged?{'&'.join(f'{name}={value}' for name, value in query.items())}{delay}"
    body = f"{number} ".encode() * (1 + number * 37 % 4000) if number % 5 > 1 else b""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    if chunked and number % 5 == 2:
        head, payload = f"{head}Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        head, payload = f"{head}Content-Length: {len(body)}\r\n" if body else head, body
    named = {"ssl": server.tls, "server_hostname": "localhost"} if server.tls else {}
    reader, writer = await asyncio.open_connection(sock=server.connect_socket(), **named)
    writer.write(f"{head}\r\n".encode() + payload)
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()

    response = http.client.HTTPResponse(_Recorded(raw))  # type: ignore[arg-type]
    response.begin()
    expected = f"{number}:".encode() + body + f":{number}".encode() * query["repeat"]
    assert (200, str(number), expected) == (response.status, response.getheader("X-Id"), response.read())


class _Recorded(io.BytesIO):
    def makefile(self, mode: str) -> "_Recorded":
        return self
