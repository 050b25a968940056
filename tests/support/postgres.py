"""A PostgreSQL server of the tests' own: in a directory of its own, on a free port of 127.0.0.1, as Debian has it."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support import debian
from support.patience import PROCESS_PATIENCE
from support.processes import free_port


@contextmanager
def postgres() -> Iterator[int]:
    """A server with an empty database `postgres` for the user `postgres`; yields its port."""
    # Not below pytest's directories, which are for one user only: it does not run as root, but as Debian's `postgres`.
    directory = Path(tempfile.mkdtemp(prefix="bridge-postgres-", dir=os.environ.get("TMPDIR", "/tmp")))
    try:
        yield from _serve(directory)
    finally:
        shutil.rmtree(directory)


def _serve(directory: Path) -> Iterator[int]:
    programs, data = debian.find("postgresql").parent, directory / "data"
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(directory, user)
    port = free_port()
    run = {"user": user, "cwd": directory, "stdin": subprocess.DEVNULL}
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
        capture_output=True,
        text=True,
        check=False,
        **run,  # type: ignore[call-overload]
    )
    assert made.returncode == 0, made.stderr
    options = ["-c", "fsync=off", "-c", "max_connections=60", "-c", f"unix_socket_directories={directory}"]
    log = directory / "postgres.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), *options],
            stdout=output,
            stderr=output,
            **run,  # type: ignore[call-overload]
        )
    try:
        _wait(server, programs, port, log)
        yield port
    finally:
        server.terminate()
        server.wait(PROCESS_PATIENCE)


def _wait(server: subprocess.Popen[bytes], programs: Path, port: int, log: Path) -> None:
    deadline = time.monotonic() + PROCESS_PATIENCE
    while time.monotonic() < deadline:
        ready = [programs / "pg_isready", "-q", "-t", "1", "-h", "127.0.0.1", "-p", str(port)]
        if subprocess.run(ready, check=False).returncode == 0:
            return
        assert server.poll() is None, log.read_text(errors="replace")
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.2)
    raise AssertionError(f"PostgreSQL does not answer\n{log.read_text(errors='replace')}")
