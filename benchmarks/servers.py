"""Real servers: started on a free port of 127.0.0.1, put under load by wrk, and stopped by their process id."""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks import apps, peers
from benchmarks.child import SampleError
from benchmarks.harness import check
from benchmarks.settings import Settings

CONNECTIONS = 32
GUNICORN_SYNC = "gunicorn-sync"
GUNICORN_GTHREAD = "gunicorn-gthread"
WAITRESS = "waitress"
UWSGI = "uwsgi"
MOD_WSGI = "mod_wsgi"
WSGI_SERVERS = (GUNICORN_SYNC, GUNICORN_GTHREAD, WAITRESS, UWSGI, MOD_WSGI)
CONNECTION_NUMBERS = (1, 8, 32, 128, 512, 1000)
_START_SECONDS = 20.0
_ANSWER_SECONDS = 30.0
_STOP_SECONDS = 15.0
_WRK_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: its port, and the process that runs the app (a Gunicorn worker, not its parent)."""

    port: int
    pid: int


@contextlib.contextmanager
def running(server: str, subject: str) -> Iterator[Server]:
    """The server with the app of `subject`, from its first verified answer to its end by SIGTERM."""
    port = _free_port()
    python, name, environment = peers.in_process_of_its_own(subject)
    command = [python, "-m", "benchmarks.serve", server, name, str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            _wait_for_answer(process, port)
            yield Server(port, _serving_pid(process.pid))
        except (OSError, HTTPException, SampleError, AssertionError) as error:
            log.seek(0)
            said = log.read().decode(errors="replace")[-4000:]
            raise SampleError(f"{server} with {subject}: {error}\n{said}".strip()) from error
        finally:
            _stop(process, f"{server} with {subject}")


def wrk_path() -> str:
    """Where wrk is installed; `SampleError` that names the Debian package where it is not."""
    path = shutil.which("wrk")
    if path is None:
        raise SampleError("wrk is not installed; it is in the Debian package `wrk` (apt-get install wrk)")
    return path


def load(subject: str, settings: Settings) -> dict[str, float]:
    """Requests a second of a hello app with 32 connections: the WSGI app on Uvicorn behind the adapter of `subject`,
    the ASGI app on Uvicorn, or the WSGI app on one of Gunicorn's workers.
    """
    on_gunicorn = subject in (GUNICORN_SYNC, GUNICORN_GTHREAD)
    server, app = (subject, peers.NATIVE) if on_gunicorn else ("uvicorn", subject)
    return rate(server, app, "/", settings)


def rate(server: str, app: str, path: str, settings: Settings) -> dict[str, float]:
    """Requests a second of one path, which answers hello, with 32 connections."""
    with running(server, app) as site:
        Wrk(site.port, path, 1.0).result()
        return {"rate": Wrk(site.port, path, settings.load_seconds).result().rate}


def beside(subject: str, path: str, connections: int, settings: Settings) -> dict[str, float]:
    """Hello with 8 connections, beside `connections` others that ask for `path`, which takes long."""
    server, app = (subject, peers.NATIVE) if subject in WSGI_SERVERS else ("uvicorn", subject)
    with running(server, app) as site:
        Wrk(site.port, "/", 1.0, 8).result()
        alone = Wrk(site.port, "/", settings.load_seconds, 8).result()
        others = Wrk(site.port, path, settings.load_seconds + 2, connections)
        time.sleep(1.0)  # until the load is even; not a wait for anything
        hello = Wrk(site.port, "/", settings.load_seconds, 8).result()
        return {
            "alone": alone.rate,
            "rate": hello.rate,
            "median": hello.median,
            "high": hello.high,
            "others": others.result().rate,
        }


def all_cores(subject: str, settings: Settings) -> dict[str, float]:
    """Milliseconds for 32 requests at once that each compute 20 ms, and how many processors the server used."""
    server, app = (subject, peers.NATIVE) if subject in WSGI_SERVERS else ("uvicorn", subject)
    with running(server, app) as site:
        _wave(site.port, "/compute-long")
        process = psutil.Process(site.pid)
        before, started, waves, seconds = process.cpu_times(), time.monotonic(), 0, 0.0
        while seconds < settings.load_seconds:
            _wave(site.port, "/compute-long")
            waves, seconds = waves + 1, time.monotonic() - started
        after = process.cpu_times()
        used = after.user + after.system - before.user - before.system
        return {"all": seconds / waves * 1000, "cores": used / seconds}


def _wave(port: int, path: str) -> None:
    """32 requests at once, from the first of them to the last answer."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_connection(port)) for _ in range(CONNECTIONS)]
        for client in clients:
            _ask(client, port, path)
        for client in clients:
            _answer(client)


def connections(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a hello, by the number of connections."""
    with running("uvicorn", subject) as site:
        Wrk(site.port, "/", 1.0).result()
        return {
            str(number): 1e6 / Wrk(site.port, "/", max(settings.load_seconds / 2, 1.0), number).result().rate
            for number in CONNECTION_NUMBERS
        }


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: requests a second, and the milliseconds that half of them and 99 % of them took at most."""

    rate: float
    median: float
    high: float


class Wrk:
    """One run of wrk, under way: `connections` that each ask for `path` again and again."""

    def __init__(self, port: int, path: str, seconds: float, connections: int = CONNECTIONS) -> None:
        self._size = _response_size(port, path)
        self._connections = connections
        self._seconds = seconds
        url = f"http://127.0.0.1:{port}{path}"
        command = [wrk_path(), "-t1", f"-c{connections}", f"-d{seconds:.0f}s", f"-s{_WRK_SCRIPT}", url]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def result(self) -> Load:
        """Wait for its end. Raises `SampleError` where anything else than whole answers came."""
        try:
            said, _ = self._process.communicate(timeout=self._seconds + 30)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait()
            raise SampleError("wrk does not end") from error
        if self._process.returncode != 0:
            raise SampleError(f"wrk failed: {said}")
        result = json.loads(said.splitlines()[-1])
        requests, received = result["requests"], result["bytes"]
        if any(result["errors"].values()) or not requests:
            raise SampleError(f"wrk saw errors: {result}")
        # Every response has the size of the one that was verified; those in flight at the end may be cut.
        if not 0 <= received - requests * self._size <= self._connections * self._size:
            raise SampleError(f"wrk received {received} bytes for {requests} responses of {self._size} bytes each")
        return Load(requests / result["seconds"], result["median"], result["high"])


def _response_size(port: int, path: str) -> int:
    """The size in bytes of the hello response to what wrk sends."""
    with _connection(port) as client:
        _ask(client, port, path)
        return _answer(client)


def _connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS)


def _ask(client: socket.socket, port: int, path: str) -> None:
    """Send what wrk sends."""
    client.sendall(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (path.encode(), port))


def _answer(client: socket.socket) -> int:
    """Receive the hello response, and verify it; its size in bytes, head and body."""
    received = bytearray()
    while not received.endswith(b"\r\n\r\n" + apps.HELLO):
        piece = client.recv(65536)
        if not piece:
            raise SampleError(f"the server closed the connection after {bytes(received)!r}")
        received += piece
    if not received.startswith(b"HTTP/1.1 200 "):
        raise SampleError(f"the server answered {bytes(received)!r}")
    return len(received)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_answer(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        if process.poll() is not None:
            raise SampleError(f"ended at once with status {process.returncode}")
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
            with contextlib.closing(connection):
                connection.request("GET", "/")
                response = connection.getresponse()
                return check(response.status, response.read(), apps.HELLO)
        except ConnectionRefusedError as error:
            if time.monotonic() > until:
                raise SampleError(f"no answer within {_START_SECONDS:g} seconds") from error
            time.sleep(0.05)


def _serving_pid(pid: int) -> int:
    children = psutil.Process(pid).children()
    return children[0].pid if children else pid


def _stop(process: subprocess.Popen[bytes], name: str) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()
        process.wait()
        raise SampleError(f"{name}: did not end within {_STOP_SECONDS:g} seconds of SIGTERM") from error
