"""A server as a process: started in a directory of its own, asked until it answers, stopped by a signal."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from servers import connection
from servers.connection import Address, Connection, open_socket
from servers.pages import read_pages
from support import processes
from support.paths import PYTHONPATH
from support.patience import PROCESS_PATIENCE
from support.processes import free_port
from support.signals import Signals

GRACE = 5  # seconds that a server is told to wait for live requests when it stops, unless BRIDGE_TEST_GRACE says other
THREADS = 6  # requests at once, unless BRIDGE_TEST_THREADS says other; the cases have twelve clients leave


@dataclass
class Server:
    """A server that runs. `process` is what was started; requests may be served by a child of it."""

    name: str
    process: subprocess.Popen[bytes]
    address: Address
    log_path: Path
    signals: Signals
    tls: ssl.SSLContext | None = None
    more_logs: list[Path] = field(default_factory=list)
    stopped: bool = False
    ending: list[psutil.Process] = field(default_factory=list)

    @property
    def port(self) -> int:
        assert not isinstance(self.address, str)
        return self.address[1]

    def log(self, since: Mapping[Path, int] | None = None) -> str:
        """What has been logged; or what has been since a `log_mark()`."""
        logs = {path: path.read_bytes() for path in (self.log_path, *self.more_logs) if path.exists()}
        return b"".join(text[(since or {}).get(path, 0) :] for path, text in logs.items()).decode(errors="replace")

    def log_mark(self) -> Mapping[Path, int]:
        return {path: path.stat().st_size for path in (self.log_path, *self.more_logs) if path.exists()}

    def connect(self) -> Connection:
        return Connection(self.address, self.tls)

    def connect_socket(self) -> socket.socket:
        return open_socket(self.address)

    def get(self, path: str) -> tuple[int, bytes]:
        with self.connect() as connection:
            response = connection.ask("GET", path)
            return response.status, response.read()

    def pid(self) -> int:
        """The process that serves."""
        status, body = self.get("/pid")
        assert status == 200, body
        return int(body)

    def counted(self, what: str, token: str = "") -> int:
        """How often the app has counted that, in all processes, for the requests with this token."""
        return len(self.signals.told(f"counted {what} {token}"))

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        """Return once `holds()`; fail with the log when it does not become true."""
        patience = connection.PATIENCE
        deadline = time.monotonic() + patience
        while not holds():
            assert time.monotonic() < deadline, f"{self.name}: not within {patience} s: {what}\n{self.log()}"
            time.sleep(0.01)

    @contextmanager
    def memory_bound(self, mebibytes: int) -> Iterator[None]:
        """Fail if the peak of the resident memory of a process rises further than this over its present."""
        idle = {Path(f"/proc/{member.pid}/status"): 0 for member in self.family()}
        for status in idle:
            status.with_name("clear_refs").write_text("5")  # the peak is counted from here: proc(5)
            idle[status] = _kibibytes(status, "VmRSS")
        yield
        grown = max(_kibibytes(status, "VmHWM") - before for status, before in idle.items())
        assert grown < mebibytes * 1024, f"{self.name}: memory grew by {grown} KiB"

    def family(self) -> list[psutil.Process]:
        """The process that was started, and all that come from it."""
        started = psutil.Process(self.process.pid)
        return [started, *started.children(recursive=True)]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send `how`, wait for the exit of the process and of its children."""
        self.begin_stop(how)
        self.wait_for_end(how)

    def begin_stop(self, how: signal.Signals) -> None:
        """Send `how`; the processes that are there now are to end."""
        assert self.process.poll() is None, f"{self.name} died with {self.process.returncode}\n{self.log()}"
        self.ending = self.family()
        self.process.send_signal(how)

    def wait_for_end(self, how: signal.Signals) -> None:
        """Return once the processes have ended that were there at `begin_stop(how)`."""
        sent = time.monotonic()
        patience = grace() + PROCESS_PATIENCE
        deadline = sent + patience
        while (left := [member for member in self.ending if self._alive(member)]) and time.monotonic() < deadline:
            time.sleep(0.01)
            if self.name == "wsgiref" and how is signal.SIGINT and time.monotonic() > sent + 1:
                # It takes an interrupt that comes while it writes for an error of that request.
                self.process.send_signal(how)
                sent = time.monotonic()
        for member in left:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGABRT)  # faulthandler then prints where each thread is
        psutil.wait_procs(left, timeout=PROCESS_PATIENCE)
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


def grace() -> int:
    """The grace of the servers that are started from here on, in seconds."""
    return int(os.environ.get("BRIDGE_TEST_GRACE", GRACE))


def threads() -> int:
    """How many requests at once the servers are started for from here on, where that is theirs to say."""
    return int(os.environ.get("BRIDGE_TEST_THREADS", THREADS))


def serve(
    name: str,
    directory: Path,
    app: str,
    more: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    unix: bool = False,
    tls: ssl.SSLContext | None = None,
    environment: dict[str, str] | None = None,
    ready: tuple[str, int] = ("", 0),
    probe: str = "/hello",
) -> Running:
    """Run the set-up `name` of docs/servers/ with `app`, an expression, and `more` options."""
    address: Address = str(directory / "run" / "mysite.sock") if unix else (host, port or free_port())
    setup = read_pages()[name]
    write_site(directory, app)
    for file, text in setup.files.items():
        (directory / file).parent.mkdir(exist_ok=True)
        (directory / file).write_text(placed(text, directory, address))
    program, *words = (placed(word, directory, address) for word in setup.words())
    command = [program, *more, *without(words, more)]
    return start(name, directory, command, address, tls=tls, environment=environment, ready=ready, probe=probe)


def write_site(directory: Path, app: str) -> None:
    """A package `mysite` with `app` as its application, and the directories that a set-up may name."""
    for name in ("mysite", "run", "signals", "tmp"):
        (directory / name).mkdir(exist_ok=True)
    (directory / "mysite" / "__init__.py").touch()
    for name in ("asgi", "wsgi"):
        text = f"from support import apps, websocket_apps\nimport bridge\n\napplication = {app}\n"
        (directory / "mysite" / f"{name}.py").write_text(text)


def placed(text: str, directory: Path, address: Address) -> str:
    """What a page says, at the places of this run."""
    text = re.sub(r"\b((?:shutdown[-_]|graceful-|stop_)timeout=)\d+", rf"\g<1>{grace()}", text)
    text = re.sub(r"\b(numthreads=|processes=2 threads=)\d+", rf"\g<1>{threads()}", text)
    if not isinstance(address, str):
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        # 8001 is a server behind a proxy.
        text = re.sub(r"127\.0\.0\.1:800[01]", f"{host}:{address[1]}", text)
        # A whole word: the port may be 18000.
        text = re.sub(r"\b8000\b", str(address[1]), text.replace("127.0.0.1", address[0]))
    # Last, because a folder may have such a number in its name.
    return text.replace("/run/mysite", str(directory / "run")).replace("/srv/mysite", str(directory))


def without(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """The `words` of a page without those of `options` that it gives too: the last one would win."""
    names = {option.partition("=")[0] for option in options if option.startswith("--")}
    left: list[str] = []
    given = iter(words)
    for word in given:
        name, equals, _ = word.partition("=")
        if name not in names:
            left.append(word)
        elif not equals:
            next(given)
    return left


def own_program(name: str) -> str:
    """A program of the virtual environment of the tests, where it has one of that name."""
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else name


@contextmanager
def start(
    name: str,
    directory: Path,
    command: list[str],
    address: Address,
    *,
    tls: ssl.SSLContext | None = None,
    environment: dict[str, str] | None = None,
    more_logs: Sequence[Path] = (),
    ready: tuple[str, int] = ("", 0),
    probe: str = "/hello",
) -> Iterator[Server]:
    """Run `command` in `directory` until the end of the block; yields once `probe` is answered, and `ready` is logged.

    An empty `probe` is for a server that does not speak HTTP: it has to let itself be connected to.
    `ready` is a text and how often it has to be there: once for each process, say.
    """
    log_path, temporary = directory / "server.log", directory / "tmp"
    own = {
        "PYTHONPATH": os.pathsep.join([PYTHONPATH, str(directory)]),
        "PYTHONFAULTHANDLER": "1",
        "BRIDGE_TEST_SIGNALS": str(directory / "signals"),
        **(environment or {}),
    }
    with log_path.open("wb") as log:
        process = processes.start(
            [own_program(command[0]), *command[1:]],
            directory,
            own,
            output=log,
            # A shell has it ignored in what runs in its background, and Python leaves it so.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    server = Server(name, process, address, log_path, Signals(directory / "signals"), tls, list(more_logs))
    try:
        _wait_until_it_answers(server, probe)
        server.wait_for(lambda: server.log().count(ready[0]) >= ready[1], f"{ready} is logged")
        yield server
        if not server.stopped:
            server.stop()
    finally:
        server.kill()
    left = sorted(temporary.iterdir())
    assert not left, f"{name} left temporary files: {left}"


def _wait_until_it_answers(server: Server, probe: str) -> None:
    deadline = time.monotonic() + PROCESS_PATIENCE
    while True:
        assert server.process.poll() is None, f"{server.name} did not start\n{server.log()}"
        try:
            if not probe:
                server.connect().close()
                return
            status, body = server.get(probe)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{server.name} does not answer: {error!r}\n{server.log()}") from error
            time.sleep(0.02)
        else:
            assert status == 200, f"{server.name} started, but answers {status} {body!r}\n{server.log()}"
            return
