"""Faults on purpose: in the app, in the process, on the wire. Each ends in bounded time with a reason in the log, and
the next request is served.
"""

import http.client
import random
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import servers
from real_servers.kinds import ASGI_APP, HELLO, WSGI_APP
from servers import MIB, Server
from servers.process import serve

pytestmark = pytest.mark.chaos

SERVERS = [
    pytest.param(servers.uvicorn_httptools_uvloop, WSGI_APP, id="uvicorn"),
    pytest.param(servers.hypercorn_trio, WSGI_APP, id="hypercorn-trio"),
    pytest.param(servers.gunicorn_gthread, ASGI_APP, id="gunicorn"),
    pytest.param(servers.waitress, ASGI_APP, id="waitress"),
]
WITH_A_MASTER = [
    pytest.param(servers.gunicorn_gthread, ASGI_APP, id="gunicorn-gthread"),
    pytest.param(servers.gunicorn_asgi, WSGI_APP, id="gunicorn-asgi"),
    pytest.param(servers.uwsgi_threads, ASGI_APP, id="uwsgi-threads"),
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
        ("what", "reason"),
        [
            ("SystemExit", "SystemExit"),
            ("KeyboardInterrupt", "KeyboardInterrupt"),
            ("MemoryError", "MemoryError"),
            ("no%20room", "MemoryError"),
            ("RecursionError", "RecursionError"),
            ("GeneratorExit", "GeneratorExit"),
        ],
    )
    def test_raised_before_the_response(self, run: Any, app: str, what: str, reason: str, tmp_path: Path) -> None:
        """A 500 or a closed connection; the process lives."""
        with run(tmp_path, app) as server:
            pid = server.pid()
            with suppress(http.client.HTTPException, ConnectionError):
                assert 500 == server.get(f"/fault?what={what}")[0]
            server.wait_for(lambda: reason in server.log(), "the reason is logged")
            next_is_served(server)
            assert pid == server.pid()

    @pytest.mark.parametrize("what", ["SystemExit", "MemoryError", "GeneratorExit"])
    def test_raised_in_the_middle(self, run: Any, app: str, what: str, tmp_path: Path) -> None:
        """The client can tell; the process lives."""
        with run(tmp_path, app) as server:
            pid = server.pid()
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                server.get(f"/fault?late=1&what={what}")
            server.wait_for(lambda: what in server.log(), "the reason is logged")
            next_is_served(server)
            assert pid == server.pid()

    @pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "MemoryError"])
    def test_raised_after_the_end(self, run: Any, app: str, what: str, tmp_path: Path) -> None:
        """Out of `close()`, or when all has been sent: the client has its response; the process lives."""
        with run(tmp_path, app) as server:
            pid = server.pid()
            assert (200, b"whole\n") == server.get(f"/fault?after=1&what={what}")
            server.wait_for(lambda: what in server.log(), "the reason is logged")
            next_is_served(server)
            assert pid == server.pid()

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


@pytest.mark.parametrize(("run", "app"), SERVERS[2:])
class TestToThePrivateLoop:
    """What an ASGI app can do to the loop that all requests share."""

    @pytest.mark.parametrize(
        ("what", "reason"),
        [
            ("loop.stop", "tried to end the process or the loop"),
            ("loop.close", "Cannot close a running event loop"),
            ("cancel%20all", "has cancelled the task that keeps it running"),
        ],
    )
    def test_it_goes_on(self, run: Any, app: str, what: str, reason: str, tmp_path: Path) -> None:
        """Stopped, closed, or with the task cancelled that keeps it running: the loop is still the same."""
        with run(tmp_path, app) as server:
            with suppress(http.client.HTTPException, ConnectionError):
                server.get(f"/fault?what={what}")
            server.wait_for(lambda: reason in server.log(), "the reason is logged")
            next_is_served(server)
            assert [f"startup {server.pid()}"] == server.signals.told("lifespan")


def test_the_servers_loop_is_closed_under_a_request(tmp_path: Path) -> None:
    """A server that has waited long enough ends its loop; the thread that is still at work is named, and left."""
    app = "bridge.WsgiToAsgi(apps.wsgi_site, shutdown_timeout=1.0)"
    with servers.uvicorn_h11_asyncio(tmp_path, app) as server:
        with server.connect() as connection:
            connection.head("GET", "/held?id=1")
            server.wait_for(lambda: server.signals.told("begun") == ["1"], "the request has begun")
            server.stop()
        assert "not stopped within 1.0 seconds: thread bridge-wsgi-" in server.log()
        assert "signals.wait" in server.log()


@pytest.mark.parametrize(("run", "app"), WITH_A_MASTER)
def test_os_exit_in_a_worker(run: Any, app: str, tmp_path: Path) -> None:
    """The request is lost, its client sees it, and another worker goes on."""
    with run(tmp_path, app) as server:
        pid = server.pid()
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            server.get("/fault?what=os._exit")
        next_is_served(server)
        assert pid != server.pid()


@pytest.mark.parametrize(("run", "app"), SERVERS)
class TestOfTheProcess:
    """What happens to a process."""

    def test_stopped_and_continued(self, run: Any, app: str, tmp_path: Path) -> None:
        """SIGSTOP in the middle of a stream, then SIGCONT: it goes on where it was."""
        with run(tmp_path, app) as server:
            worker = psutil.Process(server.pid())
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


# What makes the clock of one process jump, and leaves the others alone.
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
DAY = 86_400
# It takes one way to sleep away from the process that it fakes the time for.
SLEEPS = "import time, threading\ntime.sleep = lambda seconds: threading.Event().wait(seconds) and None\n"


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("uvicorn_httptools_uvloop", WSGI_APP),
        ("hypercorn_trio", WSGI_APP),
        ("gunicorn_gthread", ASGI_APP),
        ("waitress", ASGI_APP),
    ],
)
def test_a_clock_that_jumps(name: str, app: str, tmp_path: Path) -> None:
    """A day forward in the middle of a response and two days back: nobody's time is up, and nobody's is not."""
    assert FAKETIME is not None, "`make chaos` installs Debian's libfaketime"
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a clock that is set does not move that one (POSIX, clock_settime)
        "NO_FAKE_STAT": "1",
    }
    (tmp_path / "sitecustomize.py").write_text(SLEEPS)
    with serve(name, tmp_path, app, environment=environment) as server:

        def jump(seconds: int) -> None:
            (tmp_path / "next").write_text(f"{seconds:+d}")
            (tmp_path / "next").replace(offset)
            assert abs(float(server.get("/clock")[1]) - time.time() - seconds) < DAY / 2

        with server.connect() as connection, server.connect() as leaving:
            response = connection.ask("GET", "/steps?token=jump")
            assert b"data: 0\n\n" == response.read1(100)
            assert b"tick" == leaving.ask("GET", "/endless").read(4)
            jump(DAY)
            server.signals.tell("jump-1")
            assert b"data: 1\n\n" == response.read1(100)
            jump(-DAY)
            leaving.abort()
            server.wait_for(lambda: server.counted("ended") == 1, "the leave is noticed, and its grace ends")
            server.signals.tell("jump-2")
            assert b"data: 2\n\n" == response.read()
        next_is_served(server)


# Without a startup hook, which would need the first thread.
PLAIN_APP = "bridge.WsgiToAsgi(apps.wsgi_site)"
WITHOUT_LIFESPAN = "bridge.AsgiToWsgi(apps.asgi_site, lifespan='off')"
# What a function raises the first times that it is called, if what it is called with is ours.
REFUSES = """
from {module} import {owner}
left = [{times}]
genuine = {owner}.{name}
def refuse(self, *args, **kw):
    if left[0] and {ours}:
        left[0] -= 1
        raise {error}
    return genuine(self, *args, **kw)
{owner}.{name} = refuse
"""


def refusing(place: str, error: str, *, times: int, ours: str = "True") -> str:
    module, owner, name = place.rsplit(".", 2)
    return REFUSES.format(module=module, owner=owner, name=name, error=error, times=times, ours=ours)


@pytest.mark.parametrize("error", ['RuntimeError("can\'t start new thread")', "MemoryError('no thread')"])
@pytest.mark.parametrize(("name", "app"), [("uvicorn_h11_asyncio", PLAIN_APP), ("gunicorn_gthread", ASGI_APP)])
def test_threads_that_do_not_start(name: str, app: str, error: str, tmp_path: Path) -> None:
    """Three times the system has no thread to give: errors with their reason, and then all is well."""
    fault = refusing("threading.Thread.start", error, times=3, ours="self.name.startswith('bridge-')")
    with serve(name, tmp_path, app + fault, probe="") as server:
        assert 500 <= server.get("/hello")[0]
        server.wait_for(lambda: error.split("(")[1][1:-2] in server.log(), "the reason is logged")
        next_is_served(server)


def test_the_last_thread_does_not_start(tmp_path: Path) -> None:
    """A second one would be needed: who waits for it waits for the first one, and the log says why, once."""
    others = "self.name.startswith('bridge-') and self.name != 'bridge-wsgi-1'"
    fault = refusing("threading.Thread.start", "RuntimeError('no second thread')", times=10**9, ours=others)
    with serve("uvicorn_h11_asyncio", tmp_path, PLAIN_APP + fault) as server:
        with server.connect() as first, server.connect() as second:
            first.head("GET", "/held?id=1")
            server.wait_for(lambda: server.signals.told("begun") == ["1"], "the first has the thread")
            second.head("GET", "/hello")
            server.wait_for(lambda: "no second thread" in server.log(), "the reason is logged")
            server.signals.tell("release-1")
            assert b"1" == first.response().read()
            assert HELLO == second.response().read()
        next_is_served(server)


NO_MEMORY = [
    ("uvicorn_h11_asyncio", PLAIN_APP, "bridge._wsgi_to_asgi.adapter.WsgiToAsgi._admit"),
    ("uvicorn_h11_asyncio", PLAIN_APP, "bridge._wsgi_to_asgi.adapter.WsgiToAsgi._make_responder"),
    ("uvicorn_h11_asyncio", PLAIN_APP, "bridge._concurrency.pool.ThreadPool.submit"),
    ("uvicorn_h11_asyncio", PLAIN_APP, "bridge._wsgi_to_asgi.responder.WsgiResponder.work"),
    ("uvicorn_h11_asyncio", PLAIN_APP, "bridge._concurrency.calls.Call._post"),
    ("uvicorn_h11_asyncio", PLAIN_APP, "bridge._concurrency.loops.AsyncioLoop.post"),
    ("hypercorn_trio", PLAIN_APP, "bridge._concurrency.loops.TrioLoop.post"),
    ("gunicorn_gthread", ASGI_APP, "bridge._asgi_to_wsgi.app_runner.AppRunners._for_private_loop"),
    ("gunicorn_gthread", ASGI_APP, "bridge._concurrency.private_loop.PrivateLoop._run"),
    ("gunicorn_gthread", ASGI_APP, "bridge._asgi_to_wsgi.lifespan.LifespanRun.start"),
    ("gunicorn_gthread", ASGI_APP, "bridge._asgi_to_wsgi.task.Task.start"),
    ("gunicorn_gthread", WITHOUT_LIFESPAN, "bridge._concurrency.loops.AsyncioLoop.spawn"),
    ("gunicorn_gthread", ASGI_APP, "bridge._asgi_to_wsgi.responder.AsgiResponder.work"),
    ("gunicorn_gthread", ASGI_APP, "bridge._asgi_to_wsgi.task.Task.write"),
    ("gunicorn_gthread", ASGI_APP, "bridge._asgi_to_wsgi.task.Task.next"),
]


@pytest.mark.parametrize(("name", "app", "place"), NO_MEMORY, ids=[place for _, _, place in NO_MEMORY])
def test_no_memory(name: str, app: str, place: str, tmp_path: Path) -> None:
    """In each step of a request: it is answered or refused, with a reason, and the next one is served."""
    with serve(name, tmp_path, app + refusing(place, "MemoryError('no memory here')", times=1), probe="") as server:
        with suppress(http.client.HTTPException, ConnectionError):
            assert server.get("/hello")[0] in (200, 500, 503)
        server.wait_for(lambda: "no memory here" in server.log(), "the reason is logged")
        next_is_served(server)


@pytest.mark.parametrize(("run", "app"), SERVERS[:2])
def test_no_room_for_the_spool(run: Any, app: str, tmp_path: Path) -> None:
    """A body that has to go to a file finds no room: an error with its reason, nothing of the file is left."""
    full = "\nimport resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
    with run(tmp_path, app + full) as server:
        # A server need not read what comes after its answer, nor close at once (TimeoutError: of the sender).
        with suppress(ConnectionError, TimeoutError), server.connect() as connection:
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
