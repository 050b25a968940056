"""Faults on purpose: in the app, in the process, on the wire. Each ends in bounded time with a reason in the log, and
the next request is served.

A clock that jumps is not among them: nothing here can turn the clock of a single process. The adapters wait by
`time.monotonic()`, which does not jump.
"""

import http.client
import random
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import servers
from real_servers.kinds import ASGI_APP, HELLO, WSGI_APP
from servers import MIB, Server
from servers.process import serve

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]

SERVERS = [
    pytest.param(servers.uvicorn_httptools_uvloop, WSGI_APP, id="uvicorn"),
    pytest.param(servers.hypercorn_trio, WSGI_APP, id="hypercorn-trio"),
    pytest.param(servers.gunicorn_gthread, ASGI_APP, id="gunicorn"),
    pytest.param(servers.waitress, ASGI_APP, id="waitress"),
]
WITH_A_MASTER = [
    pytest.param(servers.gunicorn_gthread, ASGI_APP, id="gunicorn-gthread"),
    pytest.param(servers.gunicorn_asgi, WSGI_APP, id="gunicorn-asgi"),
]


def next_is_served(server: Server) -> None:
    server.wait_for(lambda: _answers(server), "the next request is served")


def _answers(server: Server) -> bool:
    with suppress(ConnectionError):
        return server.get("/hello") == (200, HELLO)
    return False


@pytest.mark.parametrize(("run", "app"), SERVERS)
class TestInTheApp:
    """What an app can raise, and what it can do to a thread or a loop."""

    @pytest.mark.parametrize(
        "what", ["SystemExit", "KeyboardInterrupt", "MemoryError", "RecursionError", "GeneratorExit"]
    )
    def test_raised_before_the_response(self, run: Any, app: str, what: str, tmp_path: Path) -> None:
        """A 500 or a closed connection; the process lives."""
        with run(tmp_path, app) as server:
            pid = server.counters()["pid"]
            with suppress(http.client.HTTPException, ConnectionError):
                assert 500 == server.get(f"/fault?what={what}")[0]
            server.wait_for(lambda: what in server.log(), "the reason is logged")
            next_is_served(server)
            assert pid == server.counters()["pid"]

    @pytest.mark.parametrize("what", ["SystemExit", "MemoryError", "GeneratorExit"])
    def test_raised_in_the_middle(self, run: Any, app: str, what: str, tmp_path: Path) -> None:
        """The client can tell; the process lives."""
        with run(tmp_path, app) as server:
            pid = server.counters()["pid"]
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                server.get(f"/fault?late=1&what={what}")
            server.wait_for(lambda: what in server.log(), "the reason is logged")
            next_is_served(server)
            assert pid == server.counters()["pid"]

    def test_blocked_for_seconds(self, run: Any, app: str, tmp_path: Path) -> None:
        """It is served late, and so is who came meanwhile; a blocked loop is named in the log with its stack."""
        with run(tmp_path, app) as server:
            with server.connect() as connection:
                connection.head("GET", "/fault?what=block")
                next_is_served(server)
                assert b"survived\n" == connection.response().read()
            if app == ASGI_APP:
                assert "the event loop has been blocked" in server.log()
                assert "apps.py" in server.log()


@pytest.mark.parametrize(("run", "app"), WITH_A_MASTER)
def test_os_exit_in_a_worker(run: Any, app: str, tmp_path: Path) -> None:
    """The request is lost, its client sees it, and another worker goes on."""
    with run(tmp_path, app) as server:
        pid = server.counters()["pid"]
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            server.get("/fault?what=os._exit")
        next_is_served(server)
        assert pid != server.counters()["pid"]


@pytest.mark.parametrize(("run", "app"), SERVERS)
class TestOfTheProcess:
    """What happens to a process."""

    def test_stopped_and_continued(self, run: Any, app: str, tmp_path: Path) -> None:
        """SIGSTOP in the middle of a stream, then SIGCONT: it goes on where it was."""
        with run(tmp_path, app) as server:
            worker = psutil.Process(server.counters()["pid"])
            with server.connect() as connection:
                response = connection.ask("GET", "/steps?token=stopped")
                assert b"data: 0\n\n" == response.read1(100)
                worker.suspend()
                server.wait_for(lambda: worker.status() == psutil.STATUS_STOPPED, "it is stopped")
                server.signals.tell("stopped-1")
                server.signals.tell("stopped-2")
                worker.send_signal(signal.SIGCONT)
                assert b"data: 1\n\ndata: 2\n\n" == response.read()
            next_is_served(server)


# Without a startup hook, which would need the first thread.
PLAIN_APP = "bridge.WsgiToAsgi(apps.wsgi_site)"
NO_THREADS = """
import threading
left = [3]
genuine = threading.Thread.start
def start(self):
    if self.name.startswith("bridge-") and left[0]:
        left[0] -= 1
        raise RuntimeError("can't start new thread")
    genuine(self)
threading.Thread.start = start
"""


@pytest.mark.parametrize(("name", "app"), [("uvicorn_h11_asyncio", PLAIN_APP), ("gunicorn_gthread", ASGI_APP)])
def test_threads_that_do_not_start(name: str, app: str, tmp_path: Path) -> None:
    """Three times the system has no thread to give: errors with their reason, and then all is well."""
    with serve(name, tmp_path, app + NO_THREADS, probe="") as server:
        assert 500 <= server.get("/hello")[0]
        server.wait_for(lambda: "can't start new thread" in server.log(), "the reason is logged")
        next_is_served(server)


@pytest.mark.parametrize(("run", "app"), SERVERS[:2])
def test_no_room_for_the_spool(run: Any, app: str, tmp_path: Path) -> None:
    """A body that has to go to a file finds no room: an error with its reason, nothing of the file is left."""
    full = "\nimport resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
    with run(tmp_path, app + full) as server:
        with suppress(ConnectionError), server.connect() as connection:
            connection.head("POST", "/upload", {"Transfer-Encoding": "chunked"})
            with suppress(ConnectionError):
                for _ in range(8):
                    connection.send_chunk(bytes(MIB))
                connection.send_chunk(b"")
            with suppress(http.client.HTTPException):
                assert connection.response("POST").status >= 500
        server.wait_for(lambda: "File too large" in server.log(), "the reason is logged")
        next_is_served(server)


@pytest.mark.parametrize(("run", "app"), SERVERS)
class TestOnTheWire:
    """What comes from a client that is broken, or wants to break something."""

    def test_truncated_anywhere(self, run: Any, app: str, tmp_path: Path) -> None:
        """A request that ends after each number of bytes."""
        request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        chunked = (
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        with run(tmp_path, app) as server:
            for whole in (request, chunked):
                for size in range(0, len(whole), 3):
                    _send_and_leave(server, whole[:size])
            next_is_served(server)

    def test_garbage(self, run: Any, app: str, tmp_path: Path) -> None:
        """Random bytes, and requests with some of their bytes changed."""
        dice = random.Random(4)
        request = (
            b"POST /echo?a=b HTTP/1.1\r\nHost: a\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        with run(tmp_path, app) as server:
            for _ in range(100):
                _send_and_leave(server, dice.randbytes(dice.randrange(1, 400)))
                changed = bytearray(request)
                for _ in range(dice.randrange(1, 6)):
                    changed[dice.randrange(len(changed))] = dice.randrange(256)
                _send_and_leave(server, bytes(changed))
            next_is_served(server)


def _send_and_leave(server: Server, data: bytes) -> None:
    with server.connect() as connection, suppress(ConnectionError):
        connection.send(data)
        connection.socket.shutdown(socket.SHUT_WR)
