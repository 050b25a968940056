"""What the tests of worker processes share."""

import time
from collections.abc import Callable
from typing import Any

import servers
from servers.process import GRACE
from support.patience import PROCESS_PATIENCE

MERCY = ["--worker-reload-mercy", str(GRACE)]
GRACEFUL = ["--graceful-timeout", str(GRACE)]


def lifespans(server: servers.Server) -> dict[str, list[str]]:
    """What the lifespan of each process has told, by process."""
    told: dict[str, list[str]] = {}
    for line in server.signals.told("lifespan"):
        what, pid = line.split()
        told.setdefault(pid, []).append(what)
    return told


def patiently(ask: Callable[[], Any]) -> Any:
    """A server with one worker refuses or resets what comes between two of them, before it has taken a request."""
    deadline = time.monotonic() + PROCESS_PATIENCE
    while True:
        try:
            return ask()
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
