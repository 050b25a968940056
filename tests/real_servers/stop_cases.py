"""What every server must do when it is told to stop in the middle of work: with SIGTERM, and with SIGINT."""

import hashlib
import http.client
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from signal import SIGINT, SIGTERM, Signals

import pytest

import servers
from real_servers.kinds import Kind
from servers import MIB, Connection, Server
from support import apps

long = pytest.mark.servers
both_signals = pytest.mark.parametrize("how", [SIGTERM, SIGINT], ids=lambda how: how.name)
BROKEN = (http.client.HTTPException, ConnectionError, ssl.SSLError)
BODY = apps.HALF + apps.HALF
# Takes a request to its end; returns the status, the body, and what the body has to be.
End = Callable[[], tuple[int, bytes, bytes]]
# Begins a request; returns once the app is at work on it.
Work = Callable[[Server, Kind, Connection, str], End]


def unanswered(server: Server, kind: Kind, connection: Connection, token: str) -> End:
    """A request that the app has taken and not answered."""
    connection.head("GET", f"/waits?token={token}")
    server.wait_for(lambda: bool(server.signals.told(f"{token}-taken")), "the app has the request")

    def finish() -> tuple[int, bytes, bytes]:
        server.signals.tell(f"{token}-go")
        response = connection.response()
        return response.status, response.read(), BODY

    return finish


def half_answered(server: Server, kind: Kind, connection: Connection, token: str) -> End:
    """A response of which the client has the first half."""
    response = connection.ask("GET", f"/waits?token={token}&length=1")
    assert apps.HALF == response.read(len(apps.HALF))
    server.wait_for(lambda: bool(server.signals.told(f"{token}-taken")), "the app is in the middle")

    def finish() -> tuple[int, bytes, bytes]:
        server.signals.tell(f"{token}-go")
        return response.status, apps.HALF + response.read(), BODY

    return finish


def half_uploaded(server: Server, kind: Kind, connection: Connection, token: str) -> End:
    """A request whose body is on its way."""
    half = b"u" * MIB
    connection.head("POST", f"/upload?token={token}", {"Content-Length": 2 * MIB})
    connection.send(half)
    if kind.streams_uploads:
        server.wait_for(lambda: bool(server.signals.told(token)), "the app reads the body")

    def finish() -> tuple[int, bytes, bytes]:
        connection.send(half)
        response = connection.response("POST")
        return response.status, response.read(), f"{2 * MIB} {hashlib.sha256(half + half).hexdigest()}".encode()

    return finish


WORK: list[Work] = [half_answered, unanswered, half_uploaded]


def batches(kind: Kind) -> Iterator[list[Work]]:
    """All work, as much at once as the server can have."""
    for begin in range(0, len(WORK), kind.at_once):
        yield WORK[begin : begin + kind.at_once]


class StopCases:
    """The cases; a subclass says which servers, and what they serve."""

    @long
    @both_signals
    def test_what_ends_within_the_grace_of_a_stop(
        self,
        launch: Callable[[], servers.Running],
        kind: Kind,
        how: Signals,
        token: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """An answer, the rest of a response and the rest of an upload are whole, and the shutdown hooks run."""
        monkeypatch.setenv("BRIDGE_TEST_GRACE", "15")
        for batch in batches(kind):
            with launch() as server, ExitStack() as open_ones:
                ends = begin(batch, server, kind, token, open_ones)
                server.begin_stop(how)
                for end in ends:
                    status, body, expected = end()
                    assert (200, expected) == (status, body)
                open_ones.close()
                server.wait_for_end(how)
                told = server.signals.told("lifespan")
                started = [line for line in told if line.startswith("startup")]
                assert sorted(told) == sorted(started + [line.replace("startup", "shutdown") for line in started])

    @long
    @both_signals
    def test_what_outlasts_the_grace_of_a_stop(
        self, launch: Callable[[], servers.Running], kind: Kind, how: Signals, token: str
    ) -> None:
        """It is cut off, and the client can tell: by a length that is not reached, a reset, or an error response."""
        for batch in batches(kind):
            with launch() as server, ExitStack() as open_ones:
                ends = begin(batch, server, kind, token, open_ones)
                server.begin_stop(how)
                server.wait_for_end(how)
                for end in ends:
                    with suppress(*BROKEN):
                        status, body, _ = end()
                        assert status in (500, 502), (status, body)


def begin(batch: list[Work], server: Server, kind: Kind, token: str, open_ones: ExitStack) -> list[End]:
    connections = [open_ones.enter_context(server.connect()) for _ in batch]
    return [
        work(server, kind, connection, f"{token}-{work.__name__}")
        for work, connection in zip(batch, connections, strict=True)
    ]
