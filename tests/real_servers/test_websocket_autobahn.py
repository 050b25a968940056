"""The cases of Autobahn's test suite, by the fuzzing client that kosoku has of it, against real servers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import servers

# The suite goes on to the next case while a server still sees the last one off.
APP = "bridge.AsgiToWsgi(websocket_apps.site, ping_interval=None, max_websockets=100)"
# Those of RFC 6455: framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing.
PROTOCOL = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
# Large messages, in frames and pieces of each size, but for the slowest; compression with the sizes up to 4 KiB.
LIMITS = ["9.1.1", "9.1.3", "9.2.1", "9.2.3", "9.3.5", "9.4.5", "9.5.5", "9.6.5", "9.7.1", "9.8.1"]
COMPRESSION = [
    "12.1.1",
    "12.5.3",
    *(f"13.{group}.1" for group in range(1, 8)),
]
# In a process of its own: it puts modules of the suite's names into the path.
PROGRAM = """
import asyncio, json, os, sys
from kosoku import FailureError, run_fuzzingclient
address, concurrency, cases = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
try:
    results = asyncio.run(run_fuzzingclient(address, cases, concurrency=concurrency))
except FailureError as failure:
    results = failure.results
print(json.dumps({each.case_id: [each.behavior.value, each.behavior_close.value, each.result] for each in results}))
sys.stdout.flush()
os._exit(0)  # what it had to say is said; its own end sometimes aborts
"""


def run(server: servers.Server, cases: list[str]) -> dict[str, Any]:
    """What the suite says of each case that was not right, in a second try too: it gives each a second or so."""
    wrong = results(server, cases, concurrency=4)
    return results(server, list(wrong), concurrency=1) if wrong else {}


def results(server: servers.Server, cases: list[str], *, concurrency: int) -> dict[str, Any]:
    address = f"ws://127.0.0.1:{server.port}/echo"
    command = [sys.executable, "-c", PROGRAM, address, str(concurrency), *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert not done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert len(found) >= len(cases)
    fine = {"OK", "NON-STRICT", "INFORMATIONAL"}
    return {case: said for case, said in found.items() if not fine.issuperset(said[:2])}


HOSTS: list[tuple[Callable[[Path, str], servers.Running], bool]] = [
    (servers.gunicorn_gthread, True),
    (servers.gunicorn_gevent, False),
    (servers.cheroot, False),
    (servers.werkzeug, False),
]


@pytest.mark.parametrize(
    "host",
    [pytest.param(run, id=run.__name__, marks=[] if core else [pytest.mark.servers]) for run, core in HOSTS],
)
def test_the_protocol(host: Any, tmp_path: Path) -> None:
    """And after all of it a plain request is answered, and nothing has raised."""
    with host(tmp_path, APP) as server:
        assert {} == run(server, PROTOCOL)
        assert (200, b"Hello, world!\n") == server.get("/hello")
        assert "Traceback" not in server.log()


@pytest.mark.servers
@pytest.mark.parametrize("cases", [LIMITS, COMPRESSION], ids=["limits", "compression"])
def test_large_messages_and_compression(cases: list[str], tmp_path: Path) -> None:
    with servers.gunicorn_gthread(tmp_path, APP) as server:
        assert {} == run(server, cases)
        assert (200, b"Hello, world!\n") == server.get("/hello")
        assert "Traceback" not in server.log()
