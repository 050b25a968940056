"""A WSGI app behind `WsgiToAsgi`, on Hypercorn over HTTP/3."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pytest

import servers
from real_servers.kinds import HELLO, WSGI_APP
from servers.certificates import certified
from support.patience import PATIENCE
from support.sizes import MIB

if TYPE_CHECKING:
    from servers.http3 import Http3Client

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


@pytest.fixture(name="anyio_backend")
def anyio_backend_fixture() -> str:
    """The client is aioquic, which is of asyncio."""
    return "asyncio"


@pytest.fixture(name="server", scope="module", params=["asyncio", "uvloop"])
def server_fixture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    """Hypercorn, which listens for QUIC at the same number as for TCP."""
    directory = tmp_path_factory.mktemp(f"http3_{request.param}")
    tls = certified(directory)
    port = servers.process.free_port()
    more = ["--worker-class", request.param, "--graceful-timeout", "2", "--quic-bind", f"127.0.0.1:{port}"]
    with servers.process.serve("hypercorn_tls", directory, WSGI_APP, more, port=port, tls=tls) as running:
        yield running


async def asked(server: servers.Server, method: str, path: str, *body: bytes) -> tuple[int, bytes]:
    async with asyncio.timeout(PATIENCE), connected(server) as client:
        return await client.response(client.ask(method, path, body))


def connected(server: servers.Server) -> "AbstractAsyncContextManager[Http3Client]":
    from servers.http3 import http3  # only `make test-servers` installs what it needs

    return http3(server.port, server.log_path.parent / "cert.pem")


async def test_hello(server: servers.Server) -> None:
    assert (200, HELLO) == await asked(server, "GET", "/hello")


async def test_an_upload(server: servers.Server) -> None:
    """More than the adapter collects, and without Content-Length."""
    pieces = [bytes([number]) * 2**16 for number in range(64)]
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()

    assert (200, f"{4 * MIB} {digest}".encode()) == await asked(server, "POST", "/upload", *pieces)


async def test_many_on_one_connection(server: servers.Server) -> None:
    async with asyncio.timeout(PATIENCE), connected(server) as client:
        found = await asyncio.gather(*(client.response(client.ask("GET", "/hello")) for _ in range(20)))

    assert [(200, HELLO)] * 20 == found


async def test_each_chunk_arrives_before_the_next_is_made(server: servers.Server) -> None:
    async with asyncio.timeout(PATIENCE), connected(server) as client:
        stream = client.ask("GET", "/steps?token=http3")
        for step in range(3):
            assert f"data: {step}\n\n".encode() == await data(client, stream)
            server.signals.tell(f"http3-{step + 1}")


async def test_a_client_that_leaves_an_endless_stream(server: servers.Server) -> None:
    """It is closed."""
    async with asyncio.timeout(PATIENCE), connected(server) as client:
        stream = client.ask("GET", "/endless?token=leaves")
        await data(client, stream)
        client.leave(stream)
        while not server.counted("ended", "leaves"):
            await asyncio.sleep(0.01)


async def data(client: "Http3Client", stream: int) -> bytes:
    """The next piece of a body."""
    while True:
        found: bytes = getattr(await client.event(stream), "data", b"")
        if found:
            return found
