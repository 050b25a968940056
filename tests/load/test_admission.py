"""Ten times as many requests as there is room for: who is admitted is served in turn, who is not is told at once.

Nothing here is measured: each request holds its thread until the test releases it. "At once" is while all threads are
held; "bounded" is no later than those before it in the queue; "recovers" is that the next request is served.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import servers
from servers import Connection, Server

THREADS, BACKLOG = 2, 6
CAPACITY = THREADS + BACKLOG
WSGI = f"apps.with_stats(bridge.WsgiToAsgi(apps.wsgi_site, threads={THREADS}, backlog={BACKLOG}))"
DJANGO = (
    "apps.with_stats(__import__('support.django_project') and __import__('bridge.django').django"
    f".get_asgi_application(threads={THREADS}, backlog={BACKLOG}))"
)
KINDS: list[tuple[Callable[[Path, str], servers.Running], str, str]] = [
    (servers.uvicorn_httptools_uvloop, WSGI, "uvloop"),
    (servers.uvicorn_h11_asyncio, WSGI, "asyncio"),
    (servers.hypercorn_trio, WSGI, "trio"),
    (servers.uvicorn_httptools_uvloop, DJANGO, "django"),
]


class Site:
    """A server with room for `CAPACITY` requests; each is sent when the one before it has its place."""

    def __init__(self, server: Server, connections: ExitStack) -> None:
        self.server = server
        self._connections = connections

    def connect(self) -> Connection:
        return self._connections.enter_context(self.server.connect())

    def stats(self) -> dict[str, int]:
        status, body = self.server.get("/stats")
        assert 200 == status
        return dict(json.loads(body))

    def wait_for(self, **counts: int) -> None:
        """Return once `stats()` says so."""
        self.server.wait_for(lambda: counts.items() <= self.stats().items(), f"{counts}, but there is {self.stats()}")

    def admitted(self, numbers: range, before: int = 0) -> dict[int, Connection]:
        """Send requests of these numbers, one after the other; `before` have a place already."""
        sent: dict[int, Connection] = {}
        for number in numbers:
            sent[number] = self.connect()
            sent[number].head("GET", f"/held?id={number}")
            before += 1
            self.wait_for(busy=min(before, THREADS), waiting=max(before - THREADS, 0))
        return sent

    def release(self, *numbers: int) -> None:
        for number in numbers:
            self.server.signals.tell(f"release-{number}")

    def begun(self) -> list[int]:
        return [int(line) for line in self.server.signals.told("begun")]

    def is_at_rest(self, **counts: int) -> None:
        """The next request is served, and nothing is counted that is over."""
        assert 200 == self.server.get("/hello")[0]
        self.wait_for(busy=0, waiting=0, **counts)


@pytest.fixture(name="site", params=KINDS, ids=lambda kind: kind[2])
def site_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    run, app, _ = request.param
    with run(tmp_path, app) as server, ExitStack() as connections:
        yield Site(server, connections)


def refused(connection: Connection) -> bool:
    """Whether the answer is the refusal."""
    response = connection.response()
    response.read()
    return (503, "1") == (response.status, response.getheader("Retry-After"))


def answer(connection: Connection) -> tuple[int, bytes]:
    response = connection.response()
    return response.status, response.read()


def test_ten_times_the_capacity(site: Site) -> None:
    """Those above it are refused while all threads are held; the others are served in their order, and all of them."""
    admitted = site.admitted(range(CAPACITY))
    surplus = [site.connect() for _ in range(9 * CAPACITY)]
    for number, connection in enumerate(surplus):
        connection.head("GET", f"/held?id={CAPACITY + number}")
    assert all(refused(connection) for connection in surplus)
    assert list(range(THREADS)) == sorted(site.begun())
    site.wait_for(busy=THREADS, waiting=BACKLOG, rejected=len(surplus))

    for number, connection in admitted.items():
        site.release(number)
        assert (200, str(number).encode()) == answer(connection)
        # A thread is free, and the next in turn has it.
        site.server.wait_for(lambda last=number: len(site.begun()) >= min(last + 1 + THREADS, CAPACITY), "the next")
        assert list(range(min(number + 1 + THREADS, CAPACITY))) == sorted(site.begun())
    site.is_at_rest(rejected=len(surplus), client_disconnects=0, aborted=0)
    for connection in surplus:  # a refusal costs nobody the connection
        connection.head("GET", "/hello")
        assert 200 == answer(connection)[0]


def test_who_leaves_while_it_waits_makes_room(site: Site) -> None:
    """It is never run; its place in the queue is for the next who comes."""
    admitted = site.admitted(range(CAPACITY))
    for number in (THREADS + 1, CAPACITY - 1):
        admitted.pop(number).abort()
    site.wait_for(busy=THREADS, waiting=BACKLOG - 2, client_disconnects=2)
    admitted |= site.admitted(range(CAPACITY, CAPACITY + 2), before=CAPACITY - 2)
    one_more = site.connect()
    one_more.head("GET", "/hello")
    assert refused(one_more)

    for number, connection in admitted.items():
        site.release(number)
        assert (200, str(number).encode()) == answer(connection)
    assert sorted(admitted) == sorted(site.begun())
    site.is_at_rest(rejected=1, client_disconnects=2, aborted=0)


def test_a_large_upload_is_refused_before_it_is_sent(site: Site) -> None:
    """Nobody waits for a body that nobody wants; one whose body has come meanwhile is served or refused like others."""
    early = site.connect()
    early.head("POST", "/echo", {"Content-Length": 4})  # it holds no thread, and no place
    early.send(b"ea")
    admitted = site.admitted(range(CAPACITY))
    late = site.connect()
    late.head("POST", "/echo", {"Content-Length": 2**20})
    assert refused(late)
    early.send(b"rl")
    assert refused(early)

    site.release(*admitted)
    assert all((200, str(number).encode()) == answer(connection) for number, connection in admitted.items())
    site.is_at_rest(rejected=2, client_disconnects=0, aborted=0)
