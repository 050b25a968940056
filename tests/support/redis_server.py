"""Debian's Redis server, for the tests: on a socket in a directory, and with nothing on disk."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import debian
from support.patience import PROCESS_PATIENCE


class RedisServer:
    """A server that can be stopped and started again; `url` is for REDIS_URL."""

    def __init__(self, directory: Path) -> None:
        program = str(debian.find("redis-server"))
        self._path = directory / "redis.sock"
        self._log = directory / "redis.log"
        self._command = [program, "--port", "0", "--unixsocket", str(self._path), "--save", "", "--appendonly", "no"]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._path}"

    def start(self) -> None:
        """Returns once it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PROCESS_PATIENCE
        while not self._listens():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Returns once it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(PROCESS_PATIENCE)
            finally:
                process.kill()
                process.wait()

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._path)) == 0


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """One that serves."""
    server = RedisServer(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
