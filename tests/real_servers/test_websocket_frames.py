"""Any frames, cut anywhere, sent to a real server."""

import contextlib
from collections.abc import Iterator

import pytest
import wsproto.events as ws
from hypothesis import given, settings
from hypothesis import strategies as st

import servers
from real_servers.websocket_kinds import QUIET_APP
from support.websocket_clients import Accepted, Client, Closed

pytestmark = pytest.mark.xdist_group("websocket frames")

# One message as the frames it comes in.
texts = st.lists(st.text(max_size=40), min_size=1, max_size=3)
binaries = st.lists(st.binary(max_size=200), min_size=1, max_size=3)
# A number is a message of so many bytes.
messages = st.lists(st.one_of(texts, binaries, st.integers(60_000, 70_000)), max_size=4)
cuts = st.lists(st.integers(0, 400), max_size=6)
# RFC 6455 7.4.1: what a server may say of bytes that are no frames.
FAULTS = {1000, 1002, 1003, 1005, 1007, 1009}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.gunicorn_gthread(tmp_path_factory.mktemp("site"), QUIET_APP) as running:
        yield running
        assert "Traceback" not in running.log()


@contextlib.contextmanager
def opened(server: servers.Server, *, deflate: bool) -> Iterator[Client]:
    """A session; after it a plain request is served."""
    with Client(server.connect_socket()) as client:
        assert isinstance(client.open("/echo", deflate=deflate), Accepted)
        yield client
    assert (200, b"Hello, world!\n") == server.get("/hello")


def send_in_pieces(client: Client, data: bytes, sizes: list[int]) -> None:
    for size in sizes:
        client.raw(data[:size])
        data = data[size:]
    client.raw(data)


@settings(deadline=None, max_examples=40, database=None)
@given(messages, cuts, st.booleans(), st.booleans())
def test_messages_come_back_whole(
    server: servers.Server, sent: list[list[str] | list[bytes] | int], sizes: list[int], pings: bool, deflate: bool
) -> None:
    """However they are fragmented and cut, and with a ping before each frame."""
    with opened(server, deflate=deflate) as client:
        data, whole = b"", []
        for drawn in sent:
            parts = [b"x" * drawn] if isinstance(drawn, int) else drawn
            whole.append(type(parts[0])().join(parts))  # type: ignore[arg-type]
            for number, part in enumerate(parts, 1):
                data += client.frame(ws.Ping(b"here")) if pings else b""
                data += client.message(part, finished=number == len(parts))
        send_in_pieces(client, data, sizes)
        assert whole == [client.receive() for _ in sent]
        assert Closed(1000, "") == client.close()


@settings(deadline=None, max_examples=40, database=None)
@given(st.binary(min_size=1, max_size=300), cuts, st.booleans())
def test_garbage_is_closed_with_a_code(server: servers.Server, garbage: bytes, sizes: list[int], deflate: bool) -> None:
    """Of the RFC's, or is part of a frame that does not come; what is valid among it may be answered."""
    with opened(server, deflate=deflate) as client:
        send_in_pieces(client, garbage, sizes)
        client.socket.shutdown(1)
        with contextlib.suppress(ConnectionError):
            received = _until_the_end(client)
            assert received is None or received in FAULTS or 3000 <= received < 5000


def _until_the_end(client: Client) -> int | None:
    """The code of the close frame; None where the server has only ended the connection, as the client has."""
    data = b""
    while piece := client.socket.recv(65536):
        data += piece
    while data:
        assert data[0] & 0x70 in (0, 0x40), data
        size, start = data[1], 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        payload = data[start : start + size]
        assert len(payload) == size, "a frame was cut"
        if data[0] & 0x0F == 8:
            assert not data[start + size :], "there is something after the close frame"
            return int.from_bytes(payload[:2], "big") if payload else 1005
        data = data[start + size :]
    return None
