"""Real servers for the tests, one function for each: a process on 127.0.0.1, on a port that the kernel chose.

Each is a context manager that yields a `Server` once it answers, and stops it with SIGTERM at the end. A server that
does not start, dies, does not stop within its grace or leaves a process behind is an `AssertionError` with its log.
"""

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from apps import Signals

ROOT = Path(__file__).resolve().parent.parent
START_PATIENCE = 30.0  # seconds until a server that does not answer has failed to start
GRACE = 2  # seconds that a server is told to wait for live requests when it stops
STOP_PATIENCE = 12.0  # seconds until a server that was told to stop has failed to
MIB = 2**20


class _Reader(io.BufferedReader):
    """Outlives the responses read from it, so that bytes behind one response are the start of the next."""

    def close(self) -> None:
        """`http.client` closes its file at the end of each response; the socket's owner closes the socket."""

    def flush(self) -> None:
        """`http.client` does that for a response that nobody has read to its end, when the connection is long gone."""

    def makefile(self, mode: str) -> "_Reader":
        return self


class Connection:
    """A client's connection that can do what `http.client` forbids: half a body, a response before the end, a leave."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.reader = _Reader(socket.SocketIO(self.socket, "r"))

    def head(self, method: str, path: str, headers: Mapping[str, object] | None = None) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, body: bytes) -> None:
        self.socket.sendall(body)

    def send_chunk(self, body: bytes) -> None:
        """One piece of a body with `Transfer-Encoding: chunked`; an empty one is its end."""
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(body), body))

    def response(self, method: str = "GET") -> http.client.HTTPResponse:
        """Wait for the head of the response."""
        response = http.client.HTTPResponse(self.reader, method=method)  # type: ignore[arg-type]
        response.begin()
        return response

    def ask(self, method: str, path: str, body: bytes = b"") -> http.client.HTTPResponse:
        self.head(method, path, {"Content-Length": len(body)} if body else None)
        self.send(body)
        return self.response(method)

    def abort(self) -> None:
        """Leave as a browser does whose tab is closed: with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        super(_Reader, self.reader).close()
        self.socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@dataclass
class Server:
    """A server that runs. `process` is what was started; requests may be served by a child of it."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    signals: Signals
    stopped: bool = False

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def connect(self) -> Connection:
        return Connection(self.port)

    def get(self, path: str) -> tuple[int, bytes]:
        with self.connect() as connection:
            response = connection.ask("GET", path)
            return response.status, response.read()

    def counters(self) -> dict[str, int]:
        """What the app has counted, and under "pid" the process that serves."""
        status, body = self.get("/counters")
        assert status == 200, body
        return dict(json.loads(body))

    def wait_for(self, holds: Callable[[], bool], what: str, patience: float = 15.0) -> None:
        """Return once `holds()`; fail with the log when it does not become true."""
        deadline = time.monotonic() + patience
        while not holds():
            assert time.monotonic() < deadline, f"{self.name}: not within {patience} s: {what}\n{self.log()}"
            time.sleep(0.01)

    @contextmanager
    def memory_bound(self, mebibytes: int) -> Iterator[None]:
        """Fail if the peak of the resident memory of the serving process rises further than this over its present."""
        status = Path(f"/proc/{self.counters()['pid']}/status")
        status.with_name("clear_refs").write_text("5")  # the peak is counted from here: proc(5)
        idle = _kibibytes(status, "VmRSS")
        yield
        grown = _kibibytes(status, "VmHWM") - idle
        assert grown < mebibytes * 1024, f"{self.name}: memory grew by {grown} KiB"

    def stop(self, how: signal.Signals = signal.SIGTERM, patience: float = STOP_PATIENCE) -> None:
        """Send `how`, wait for the exit of the process and of its children."""
        assert self.process.poll() is None, f"{self.name} died with {self.process.returncode}\n{self.log()}"
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        self.process.send_signal(how)
        deadline = time.monotonic() + patience
        while (left := [member for member in family if self._alive(member)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        for member in left:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGABRT)  # faulthandler then prints where each thread is
        psutil.wait_procs(left, timeout=2)
        assert not left, f"{self.name} did not stop within {patience} s: {left}\n{self.log()}"
        self.stopped = True

    def kill(self) -> None:
        """After a failure no process of the session that was started here stays."""
        if not self.stopped:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _alive(self, member: psutil.Process) -> bool:
        if member.pid == self.process.pid:
            return self.process.poll() is None
        try:
            return bool(member.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


Running = AbstractContextManager[Server]


def _kibibytes(status: Path, key: str) -> int:
    return int(re.search(rf"{key}:\s+(\d+) kB", status.read_text())[1])  # type: ignore[index]


@contextmanager
def _serve(name: str, directory: Path, app: str, command: list[str], listening: str) -> Iterator[Server]:
    """Write `app`, an expression, into a module, run `command` there and read the port off its log."""
    signals, temporary, log_path = directory / "signals", directory / "tmp", directory / "server.log"
    signals.mkdir()
    temporary.mkdir()
    (directory / "served.py").write_text(f"import apps\nimport bridge\napplication = {app}\n")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), str(directory)]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "BRIDGE_TEST_SIGNALS": str(signals),
        "TMPDIR": str(temporary),
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, process, 0, log_path, Signals(signals))
    try:
        server.port = _port(server, listening)
        status, _ = server.get("/hello")
        assert status == 200, f"{name} started, but answers {status}\n{server.log()}"
        yield server
        if not server.stopped:
            server.stop()
    finally:
        server.kill()
    left = sorted(temporary.iterdir())
    assert not left, f"{name} left temporary files: {left}"


def _port(server: Server, listening: str) -> int:
    deadline = time.monotonic() + START_PATIENCE
    while not (found := re.search(rf"{listening}.*http://127\.0\.0\.1:(\d+)", server.log())):
        assert server.process.poll() is None, f"{server.name} did not start\n{server.log()}"
        assert time.monotonic() < deadline, f"{server.name} is not listening\n{server.log()}"
        time.sleep(0.02)
    return int(found[1])


def _uvicorn(name: str, directory: Path, app: str, *options: str) -> Running:
    command = ["uvicorn", "--port", "0", "--timeout-graceful-shutdown", str(GRACE), *options, "served:application"]
    return _serve(name, directory, app, command, "Uvicorn running")


def uvicorn_httptools_uvloop(directory: Path, app: str) -> Running:
    return _uvicorn("uvicorn httptools uvloop", directory, app, "--http", "httptools", "--loop", "uvloop")


def uvicorn_h11_asyncio(directory: Path, app: str) -> Running:
    return _uvicorn("uvicorn h11 asyncio", directory, app, "--http", "h11", "--loop", "asyncio")


def _hypercorn(name: str, directory: Path, app: str, worker: str) -> Running:
    options = ["--bind", "127.0.0.1:0", "--graceful-timeout", str(GRACE), "--worker-class", worker]
    return _serve(name, directory, app, ["hypercorn", *options, "served:application"], "Running on")


def hypercorn_asyncio(directory: Path, app: str) -> Running:
    return _hypercorn("hypercorn asyncio", directory, app, "asyncio")


def hypercorn_trio(directory: Path, app: str) -> Running:
    return _hypercorn("hypercorn trio", directory, app, "trio")


def _gunicorn(name: str, directory: Path, app: str, *options: str) -> Running:
    # The control socket has one path for all instances of a user.
    common = ["--bind", "127.0.0.1:0", "--workers", "1", "--graceful-timeout", str(GRACE), "--no-control-socket"]
    return _serve(name, directory, app, ["gunicorn", *common, *options, "served:application"], "Listening at")


def gunicorn_sync(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn sync", directory, app, "--worker-class", "sync")


def gunicorn_gthread(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn gthread", directory, app, "--worker-class", "gthread", "--threads", "6")


def gunicorn_gthread_preload(directory: Path, app: str) -> Running:
    options = ["--worker-class", "gthread", "--threads", "6", "--preload"]
    return _gunicorn("gunicorn gthread preload", directory, app, *options)


def waitress(directory: Path, app: str) -> Running:
    # Without the lookahead Waitress does not read from the connection while a request runs, and sees no leave.
    options = ["--listen=127.0.0.1:0", "--threads=6", "--channel-request-lookahead=1"]
    return _serve("waitress", directory, app, ["waitress", *options, "served:application"], "Serving on")
