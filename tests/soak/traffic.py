"""What clients do to a server for minutes: each looks at every byte that it gets, and tells it from anybody else's."""

import asyncio
import hashlib
import http.client
import secrets
from collections.abc import Callable

from real_servers.cases import one_of_many
from real_servers.kinds import HELLO
from servers import MIB, Server
from support import apps

AT_ONCE = 16
# Of those that hold a thread while they do something else; fewer than the threads of any of the servers.
HOLDING = 3
ROUND = 160  # requests of a round, beside those that others make meanwhile


def hello(server: Server) -> None:
    """Several on one connection, as long as the server keeps it."""
    with server.connect() as connection:
        for _ in range(3):
            response = connection.ask("GET", "/hello")
            assert (200, HELLO) == (response.status, response.read())
            if response.will_close:
                return


def no_body(server: Server) -> None:
    """RFC 9110 9.3.2, 15.3.5 and 15.4.5: nothing follows these heads, so that what follows is the next response."""
    for method, path, status in (("HEAD", "/hello", 200), ("GET", "/no-content", 204), ("GET", "/not-modified", 304)):
        with server.connect() as connection:
            response = connection.ask(method, path)
            assert (status, b"") == (response.status, response.read())
            if not response.will_close:
                assert HELLO == connection.ask("GET", "/hello").read()


def upload(server: Server) -> None:
    """One of 1 MiB; the app answers with its digest."""
    body = secrets.token_bytes(MIB)
    with server.connect() as connection:
        answer = connection.ask("POST", "/upload", body).read()
    assert f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode() == answer


def download(server: Server) -> None:
    """One of 2 MiB."""
    with server.connect() as connection:
        digest = hashlib.sha256(connection.ask("GET", "/download?mib=2").read()).hexdigest()
    assert apps.digest_of_blocks(2) == digest.encode()


def slow_upload(server: Server) -> None:
    """In pieces, with other requests between them."""
    pieces = [secrets.token_bytes(100) for _ in range(4)]
    with server.connect() as connection:
        connection.head("POST", "/echo", {"Content-Length": 400})
        for piece in pieces:
            connection.send(piece)
            hello(server)
        assert b"".join(pieces) == connection.response("POST").read()


def stalled_reader(server: Server) -> None:
    """A response that is read when others have had theirs."""
    with server.connect() as connection:
        response = connection.ask("GET", "/download?mib=4")
        hello(server)
        assert apps.digest_of_blocks(4) == hashlib.sha256(response.read()).hexdigest().encode()


def events(server: Server) -> None:
    """Each is sent once the one before it has come."""
    token = secrets.token_hex(8)
    with server.connect() as connection:
        response = connection.ask("GET", f"/steps?token={token}")
        for step in range(3):
            assert f"data: {step}\n\n".encode() == response.read1(100)
            server.signals.tell(f"{token}-{step + 1}")
        assert b"" == response.read()


def leave_a_stream(server: Server) -> None:
    with server.connect() as connection:
        assert apps.TICK == connection.ask("GET", "/endless").read(len(apps.TICK))
        connection.abort()


def leave_an_upload(server: Server) -> None:
    with server.connect() as connection:
        connection.head("POST", "/upload", {"Content-Length": 100_000})
        connection.send(b"x" * 1000)


def leave_before_the_response(server: Server) -> None:
    with server.connect() as connection:
        connection.head("GET", "/tagged?id=0&delay=0.1")
        connection.abort()


def fail(server: Server) -> None:
    """Before the response: a 500. In the middle: the client can tell."""
    assert 500 == server.get("/raises")[0]
    try:
        _, body = server.get("/raises-before-content-length")
    except (http.client.HTTPException, ConnectionError):
        return
    raise AssertionError(f"a response that has broken off looks whole: {body!r}")


OTHERS: list[Callable[[Server], None]] = [
    hello,
    slow_upload,
    upload,
    leave_a_stream,
    no_body,
    stalled_reader,
    download,
    leave_an_upload,
    fail,
    events,
    leave_before_the_response,
]
HOLD = {slow_upload, stalled_reader, events}


async def one_round(server: Server, first: int) -> None:
    """`ROUND` requests, `AT_ONCE` at once; each number is that of one request for ever, and its answer carries it."""
    turns, holding = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(HOLDING)

    async def other(do: Callable[[Server], None]) -> None:
        if do in HOLD:
            async with holding:
                await asyncio.to_thread(do, server)
        else:
            await asyncio.to_thread(do, server)

    async def one(number: int) -> None:
        async with turns:
            if number % 10 == 9:
                await other(OTHERS[number // 10 % len(OTHERS)])
            else:
                await one_of_many(server, number, chunked=True)

    async with asyncio.TaskGroup() as group:
        for number in range(first, first + ROUND):
            group.create_task(one(number))
