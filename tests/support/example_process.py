"""An example in a process of its own, driven over HTTP as a browser would."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx
import psutil

from support import processes
from support.patience import PROCESS_PATIENCE

_T = TypeVar("_T")


class Site:
    """A Python program that serves, from its first line of output to its exit status."""

    def __init__(
        self,
        command: list[str],
        directory: Path,
        environment: Mapping[str, str],
        *,
        temporary: Path,
        ready: str = r"Uvicorn running on (?P<url>http://\S+)",
        patience: float = PROCESS_PATIENCE,
    ) -> None:
        """Run `command` in `directory`. It serves as soon as it prints `ready`, a pattern that may find its URL."""
        self.url = ""
        self.output: list[str] = []
        self.temporary = temporary
        self._ready = ready
        self._patience = patience
        self._lines = threading.Condition()
        self._ended = False
        # Where the program may put what it keeps for its user, and not what is looked at below.
        folders = Path(tempfile.mkdtemp(prefix="site-", dir=temporary.parent))
        self._process = processes.start(
            [sys.executable, *command],
            folders,
            {"TMPDIR": str(temporary), **environment},
            cwd=directory,
            output=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="site-output")
        self._reader.start()

    def __enter__(self) -> "Site":
        try:
            self.url = self.line(self._ready, self._patience).groupdict().get("url") or self.url
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._kill(after=PROCESS_PATIENCE)

    def stop(self, how: signal.Signals, *, all_of_it: bool = False) -> int:
        """Send a signal, to the server or, as a terminal does, to all of its processes; wait for the exit status."""
        if all_of_it:
            os.killpg(self._process.pid, how)
        else:
            self._process.send_signal(how)
        status = self._process.wait(timeout=PROCESS_PATIENCE)
        self._reader.join(timeout=PROCESS_PATIENCE)
        return status

    def leaves_processes(self) -> bool:
        """Whether a process that the server started is still there."""
        return bool(list(self._processes()))

    def client(self, cookies: dict[str, str] | None = None) -> httpx.Client:
        """A browser: it keeps cookies, and knows no proxy."""
        return httpx.Client(base_url=self.url, cookies=cookies, trust_env=False, timeout=PROCESS_PATIENCE)

    def line(self, pattern: str, patience: float = PROCESS_PATIENCE, after: int = 0) -> re.Match[str]:
        """What the pattern finds in the output, line by line from line `after` on, once it is there."""
        found = self.once(
            lambda lines: next(filter(None, (re.search(pattern, line) for line in lines[after:])), None), patience
        )
        assert found, f"no {pattern!r} in the output:\n" + "".join(self.output)
        return found

    def once(self, look: Callable[[list[str]], _T], patience: float = PROCESS_PATIENCE) -> _T:
        """What `look` makes of the output, once that is true; looks again at each line. At last, what it made then."""
        with self._lines:
            self._lines.wait_for(lambda: look(self.output) or self._ended, patience)
            return look(self.output)

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                with self._lines:
                    self.output.append(line)
                    self._lines.notify_all()
        with self._lines:
            self._ended = True
            self._lines.notify_all()

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == self._process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def _kill(self, after: float = 0) -> None:
        try:
            self._process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            for process in self._processes():
                process.kill()
            self._process.wait()
        self._reader.join(timeout=PROCESS_PATIENCE)
