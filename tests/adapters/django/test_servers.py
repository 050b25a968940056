"""The project on real servers: what crosses a socket, clients that leave, the end of a process, and PostgreSQL."""

import hashlib
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

import servers
from servers import MIB, Server
from support.postgres import postgres

ASGI = "__import__('support.django_project') and __import__('bridge.django').django.get_asgi_application(threads=4)"
WSGI = "__import__('support.django_project') and __import__('bridge.django').django.get_wsgi_application()"

KINDS: list[tuple[Callable[[Path, str], servers.Running], str]] = [
    (servers.uvicorn_httptools_uvloop, ASGI),
    (servers.uvicorn_h11_asyncio, ASGI),
    (servers.hypercorn_asyncio, ASGI),
    (servers.gunicorn_gthread, WSGI),
    (servers.gunicorn_gthread_preload, WSGI),
    (servers.waitress, WSGI),
]
EACH = [pytest.param(kind, id=kind[0].__name__, marks=pytest.mark.xdist_group(kind[0].__name__)) for kind in KINDS]


@pytest.fixture(scope="module", params=EACH)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each server in turn, with the project behind the drop-in for it."""
    run, app = request.param
    with run(tmp_path_factory.mktemp(run.__name__), app) as running:
        yield running


def _json(server: Server, path: str) -> Any:
    status, body = server.get(path)
    assert status == 200, (body, server.log())
    return json.loads(body)


BOTH = pytest.mark.parametrize("prefix", ["", "async_"])


@BOTH
def test_answers(server: Server, prefix: str) -> None:
    """Small ones, forms, templates and errors."""
    assert (200, b"hello\n") == server.get(f"/{prefix}hello")
    assert (200, b"hello template\n") == server.get(f"/{prefix}template")
    assert 500 == server.get(f"/{prefix}fails")[0]
    assert 404 == server.get("/nowhere")[0]


@BOTH
def test_streams(server: Server, prefix: str) -> None:
    """Of either kind, whole."""
    assert b"".join(b"%d\n" % number for number in range(1000)) == server.get(f"/{prefix}stream?parts=1000")[1]


@BOTH
def test_a_large_upload(server: Server, prefix: str) -> None:
    """32 MiB to each kind of view, which is not held in memory."""
    body = secrets.token_bytes(32 * MIB)
    with server.memory_bound(24), server.connect() as connection:
        response = connection.ask("POST", f"/{prefix}digest", body)
        assert hashlib.sha256(body).hexdigest().encode() == response.read()


def test_a_chunked_upload(server: Server) -> None:
    """Without Content-Length."""
    with server.connect() as connection:
        connection.head("POST", "/digest", {"Transfer-Encoding": "chunked"})
        for piece in (b"one", b"two" * 10_000, b""):
            connection.send_chunk(piece)
        assert hashlib.sha256(b"one" + b"two" * 10_000).hexdigest().encode() == connection.response("POST").read()


def test_a_feed_is_seen_as_it_is_made_and_ends_with_its_client(server: Server) -> None:
    """Server-sent events, and the cleanup of their generator."""
    before = _json(server, "/counters").get("feed closed", 0)
    with server.connect() as connection:
        response = connection.ask("GET", "/async_ticks")
        assert b"data: 0\n\n" == b"".join(response.readline() for _ in range(2))
        assert b"data: 1\n\n" == b"".join(response.readline() for _ in range(2))
        connection.abort()
    server.wait_for(lambda: _json(server, "/counters").get("feed closed", 0) == before + 1, "the feed's end")


def test_a_waiting_view_is_cancelled_when_its_client_leaves(server: Server) -> None:
    """Wherever the server shows that."""
    before = _json(server, "/counters").get("cleaned", 0)
    with server.connect() as connection:
        connection.head("GET", "/async_waits")
        server.wait_for(lambda: _json(server, "/counters").get("waits", 0) > before, "the view's start")
        connection.abort()
    server.wait_for(lambda: _json(server, "/counters").get("cleaned", 0) == before + 1, "the view's cleanup")


def test_a_sync_stream_ends_with_its_client(server: Server) -> None:
    """Its close() is called."""
    before = _json(server, "/counters").get("closed", 0)
    with server.connect() as connection:
        assert b"x" == connection.ask("GET", "/endless").read(1)
        connection.abort()
    server.wait_for(lambda: _json(server, "/counters").get("closed", 0) > before, "the stream's close()")


def test_mixed_requests_at_once(server: Server) -> None:
    """200 of them; each gets its own answer."""

    def ask(number: int) -> bool:
        prefix = "async_" if number % 3 else ""
        reply = _json(server, f"/{prefix}state?set=x{number}")
        return bool(reply["before"]["local"] == "unset" and reply["after"]["variable"] == f"x{number}")

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(200)))


@pytest.mark.parametrize("kind", EACH)
def test_the_server_stops_while_a_feed_is_open(
    kind: tuple[Callable[[Path, str], servers.Running], str], tmp_path: Path
) -> None:
    """Within its grace."""
    run, app = kind
    with run(tmp_path, app) as server, server.connect() as connection:
        assert connection.ask("GET", "/async_ticks").read(1)
        if run is servers.hypercorn_asyncio and sys.version_info >= (3, 12):
            # There it waits for all connections (asyncio.Server.wait_closed) before its own grace begins.
            connection.abort()
        server.stop(SIGINT if run is servers.waitress else SIGTERM)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A PostgreSQL server of the tests' own."""
    with postgres() as port:
        yield port


@pytest.mark.debian("postgresql")
class TestPostgreSQL:
    """Connections are used again, in the thread that has made them."""

    @pytest.fixture(params=[KINDS[0], KINDS[3]], ids=["uvicorn", "gunicorn_gthread"])
    def start(
        self, request: pytest.FixtureRequest, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], servers.Running]:
        """Starts a server whose project uses PostgreSQL."""
        monkeypatch.setenv("DJANGO_SITE_POSTGRES", str(port))
        run, app = request.param
        return lambda: run(tmp_path, app)

    def test_persistent_connections(self, start: Callable[[], servers.Running]) -> None:
        """`CONN_MAX_AGE`: not more of them than threads, whatever the requests are; all of one request have one."""
        with start() as server, ThreadPoolExecutor(8) as pool:
            paths = ["/backend", "/async_backend"] * 30
            found = [reply["backend"] for reply in pool.map(lambda path: _json(server, path), paths)]

        assert all(first == second for first, second in found)
        assert len({first for first, _ in found}) <= 16  # threads of Gunicorn; Uvicorn's project has 4

    def test_a_stream_has_one_connection(self, start: Callable[[], servers.Running]) -> None:
        """From its first part to its last."""
        with start() as server, ThreadPoolExecutor(8) as pool:
            for _, body in pool.map(lambda _: server.get("/async_backend_stream"), range(24)):
                first, second = body.split()
                assert first == second

    def test_the_pool_of_psycopg(self, start: Callable[[], servers.Running], monkeypatch: pytest.MonkeyPatch) -> None:
        """One for the process: no more than its maximum, and none is lost."""
        monkeypatch.setenv("DJANGO_SITE_POOL", "1")
        with start() as server, ThreadPoolExecutor(8) as pool:
            paths = ["/backend", "/async_backend", "/async_backend_stream"] * 20
            found = [server.get(path) for path in [*paths[:3], *paths]]
            found += pool.map(server.get, paths)

        assert {200} == {status for status, _ in found}
