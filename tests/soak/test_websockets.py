"""Two hundred WebSockets for a minute, and what a quiet one costs."""

import os
import re
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

import servers
from real_servers.websocket_kinds import QUIET_APP, connect
from servers import Server
from soak.holdings import Held, grown, held
from support.websocket_clients import Accepted, Client

MINUTES = float(os.environ.get("BRIDGE_SOAK_MINUTES", "3"))
SECONDS = min(MINUTES / 3, 1) * 60
LEAST_ROUNDS = 12
SESSIONS = 200
QUIET = 100
# So many end in each round, and others come in their place.
CHANGING = 20

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 240)]


def opened(server: Server) -> Client:
    client = connect(server)
    assert isinstance(client.open("/echo"), Accepted)
    return client


def echo(client: Client, message: str) -> None:
    client.send(message)
    assert message == client.receive()


def test_two_hundred_on_gevent(tmp_path: Path) -> None:
    """Each is used in each round, some leave in good order and some without a word: nothing grows, nothing is mixed."""
    seen: list[Held] = []
    app = "bridge.AsgiToWsgi(websocket_apps.site, ping_interval=5.0, ping_timeout=30.0)"
    with servers.gevent_pywsgi(tmp_path, app) as server:
        clients = [opened(server) for _ in range(SESSIONS)]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or len(seen) < LEAST_ROUNDS:
            for number, client in enumerate(clients):
                echo(client, f"{len(seen)} of {number} " + "x" * (number % 7 * 1000))
            first = len(seen) * CHANGING % SESSIONS
            for number in range(first, first + CHANGING):
                if number % 2:
                    clients[number].close()
                clients[number].socket.close()
                clients[number] = opened(server)
            server.wait_for(
                lambda: len(server.signals.told("departed")) == CHANGING * (len(seen) + 1), "they have left"
            )
            seen.append(held(server))
        print(f"{len(seen)} rounds of {SESSIONS} sessions")
        for moment, index in (("first", 0), ("middle", len(seen) // 2), ("last", -1)):
            print(f"  {moment}: {seen[index]}")
        assert {} == grown(seen), seen
        # One thread is that of the loop, and no session has one of its own.
        assert max(each.threads for each in seen) < 20
        for client in clients:
            client.close()
            client.socket.close()


def test_a_quiet_session_on_gthread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a thread of the server, and with that 64 KiB at most."""
    monkeypatch.setenv("BRIDGE_TEST_THREADS", str(QUIET + 10))
    with servers.gunicorn_gthread(tmp_path, QUIET_APP) as server, ExitStack() as stack:
        worker = psutil.Process(server.pid())
        echo(stack.enter_context(opened(server)), "what is made once")
        before, threads = resident(worker), worker.num_threads()
        for _ in range(QUIET):
            echo(stack.enter_context(opened(server)), "x" * 100)
        each = (resident(worker) - before) / QUIET
        print(f"a quiet session: {each:.1f} KiB")
        assert each <= 64
        assert worker.num_threads() - threads <= QUIET


def resident(process: psutil.Process) -> int:
    """In KiB."""
    found = re.search(r"^Rss:\s+(\d+) kB", Path(f"/proc/{process.pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
