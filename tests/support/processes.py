"""Servers and other programs of a test, as processes: each has its own folders, and each wait is bounded.

What programs keep for a user (Gunicorn's control socket, caches) has one path for all of them. Where several tests run
at once, one test's server would take or remove what another's has made there.
"""

import fcntl
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from support.patience import PROCESS_PATIENCE

LOOK_AGAIN = 0.02  # seconds, where there is no signal to wait for

PORTS = range(16_000, 32_000)
TURNS = Path(tempfile.gettempdir(), f"bridge-test-ports-{os.getuid()}")  # how many of them have been given away


def own_folders(directory: Path) -> dict[str, str]:
    """Environment variables for a program that is to keep nothing outside of `directory`."""
    home, temporary = directory / "home", directory / "tmp"
    for folder in (home, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    kept = {f"XDG_{what.upper()}_HOME": str(home / what) for what in ("cache", "config", "data", "state")}
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "TMPDIR": str(temporary), **kept}


def start(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    output: IO[bytes] | int,
    **options: Any,
) -> "subprocess.Popen[Any]":
    """Start a program whose folders are below `directory`, in a session of its own; all that it says goes to `output`.

    `environment` is added to that of the tests, and may name other folders. `cwd` is `directory` unless given.
    """
    return subprocess.Popen(
        command,
        cwd=cwd or directory,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **own_folders(directory), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )


def start_logging(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    log: Path,
) -> "subprocess.Popen[Any]":
    """`start()`, with `log` as the file for what it says."""
    with log.open("wb") as output:
        return start(command, directory, environment, cwd=cwd, output=output)


def wait_until_it_listens(process: "subprocess.Popen[Any]", port: int, log: Path) -> None:
    """Return once a connection to `port` of 127.0.0.1 is taken; fail if the process ends first, or in vain."""
    deadline = time.monotonic() + PROCESS_PATIENCE
    while not listens(port):
        assert process.poll() is None, f"{process.args} ended:\n{log.read_text(errors='replace')}"
        assert time.monotonic() < deadline, f"{process.args} does not listen:\n{log.read_text(errors='replace')}"
        time.sleep(LOOK_AGAIN)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, and that no other test has been given of late, of whatever process.

    A server takes its port some time after it is started. Were that port given to another test meanwhile, the server
    that is up first would answer both tests. So the ports go round, by a counter that the user's processes share. They
    are outside of the range that the kernel takes other ports from: it might give one of those away.
    """
    while True:
        port = PORTS[_next_turn() % len(PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _next_turn() -> int:
    with open(os.open(TURNS, os.O_RDWR | os.O_CREAT, 0o600), "r+") as turns:
        fcntl.flock(turns, fcntl.LOCK_EX)
        turn = int(turns.read() or random.randrange(len(PORTS)))
        turns.seek(0)
        turns.write(str(turn + 1))
        return turn


def end(process: "subprocess.Popen[Any]", how: signal.Signals = signal.SIGTERM) -> None:
    """Tell it to stop, unless it has, and wait for that; whatever is then left in its session is killed."""
    try:
        if process.poll() is None:
            process.send_signal(how)
            process.wait(PROCESS_PATIENCE)
    finally:
        kill(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    """Kill what is left in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
