"""The files of docs/howto/metrics.md at work: what Prometheus is told when threads are used up, the loop is blocked,
apps raise, clients leave, and workers die.
"""

import re
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from servers.process import Server, free_port, start
from support.paths import ROOT

pytestmark = pytest.mark.hosts

PAGE = (ROOT / "docs" / "howto" / "metrics.md").read_text(encoding="utf-8")
PATIENCE = 20.0  # seconds

SHOP = """
import threading

from prometheus_client import REGISTRY, make_asgi_app

from bridge import Mounts, WsgiToAsgi
from bridge_metrics import StatsCollector
from timed import TimedAsgi, TimedWsgi

gate = threading.Event()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise RuntimeError("as asked")
    if environ["PATH_INFO"] == "/hold":
        assert gate.wait(30)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/stream":
        return endless()
    return [b"hello"]


def endless():
    while True:
        yield b"hello" * 1000


def open_gate(environ, start_response):
    gate.set()
    start_response("204 No Content", [])
    return []


application = WsgiToAsgi(TimedWsgi(app, "app"), threads=1)
REGISTRY.register(StatsCollector({"shop": application}, {"shop": 1}))
asgi = Mounts({"/metrics": make_asgi_app(), "/open": open_gate, "/": TimedAsgi(application, "all")}).asgi
"""

API = """
import threading

from prometheus_client import REGISTRY, make_wsgi_app

from bridge import AsgiToWsgi, Mounts
from bridge_metrics import StatsCollector
from timed import TimedAsgi, TimedWsgi

gate = threading.Event()


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/raise":
        raise RuntimeError("as asked")
    if scope["path"] == "/block":
        assert gate.wait(30)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"hello" * 1000, "more_body": True})
    await send({"type": "http.response.body", "body": b"hello"})


def open_gate(environ, start_response):
    gate.set()
    start_response("204 No Content", [])
    return []


application = AsgiToWsgi(TimedAsgi(app, "app"), slow_warning=None)
REGISTRY.register(StatsCollector({"api": application}))
wsgi = Mounts({"/metrics": make_wsgi_app(), "/open": open_gate, "/": TimedWsgi(application, "all")}).wsgi
"""


def write(directory: Path, **sites: str) -> None:
    """The files of the page, the last of each name; and those of a test in place of theirs."""
    for name in ("signals", "tmp"):
        (directory / name).mkdir()
    blocks = re.findall(r"^```python file=(\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 6
    for name, text in blocks + [(f"{name}.py", text) for name, text in sites.items()]:
        (directory / name).write_text(text)


def run(directory: Path, words: list[str], port_option: str, app: str, probe: str = "/metrics") -> Any:
    port = free_port()
    where = str(port) if port_option == "--port" else f"127.0.0.1:{port}"
    return start(words[0], directory, [*words, port_option, where, app], ("127.0.0.1", port), probe=probe)


def metrics(server: Server) -> dict[str, float]:
    """The samples, by name and labels; none if a worker is just making its files."""
    status, body = server.get("/metrics")
    if status != 200:
        return {}
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def once(server: Server, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """The samples, once that holds of them."""
    deadline = time.monotonic() + PATIENCE
    while not ((found := metrics(server)) and holds(found)):
        assert time.monotonic() < deadline, f"{found}\n{server.log()}"
        time.sleep(0.05)
    return found


def count(found: dict[str, float], app: str, outcome: str) -> float:
    return found[f'bridge_requests_total{{app="{app}",outcome="{outcome}"}}']


def timed(found: dict[str, float], what: str, part: str, status: str = "200") -> float:
    return found.get(f'http_request_seconds_{what}{{part="{part}",status="{status}"}}', 0.0)


def leave_a_stream(server: Server) -> None:
    with server.connect() as connection:
        connection.ask("GET", "/stream").read(100)
        connection.abort()


class TestAWsgiApp:
    def test_threads_that_are_used_up(self, tmp_path: Path) -> None:
        """The metrics answer all the same; the wait for a thread is in the time around the adapter alone."""
        write(tmp_path, shop=SHOP)
        words = ["uvicorn", "--log-level", "warning"]
        with run(tmp_path, words, "--port", "shop:asgi") as server, ExitStack() as clients:
            held = [clients.enter_context(server.connect()) for _ in range(2)]
            for connection in held:
                connection.head("GET", "/hold")
            waiting = once(server, lambda found: found['bridge_requests_waiting{app="shop"}'] == 1)
            server.get("/open")
            statuses = [connection.response().status for connection in held]
            done = once(server, lambda found: timed(found, "count", "all") == 2)

        assert (1, 1) == (waiting['bridge_requests_busy{app="shop"}'], waiting['bridge_threads_limit{app="shop"}'])
        assert [200, 200] == statuses
        assert (2, 0) == (count(done, "shop", "served"), done['bridge_requests_waiting{app="shop"}'])
        assert timed(done, "sum", "all") > timed(done, "sum", "app") > 0

    def test_what_goes_wrong(self, tmp_path: Path) -> None:
        """An app that raises is a 500 and `aborted`; a client that leaves is counted, and its request timed, too."""
        write(tmp_path, shop=SHOP)
        words = ["uvicorn", "--log-level", "critical"]
        with run(tmp_path, words, "--port", "shop:asgi") as server:
            status, _ = server.get("/raise")
            leave_a_stream(server)
            found = once(server, lambda found: timed(found, "count", "app") + timed(found, "count", "all") == 2)

        assert 500 == status
        assert (1, 1) == (count(found, "shop", "aborted"), count(found, "shop", "client_disconnects"))
        assert (1, 1) == (timed(found, "count", "app", "500"), timed(found, "count", "all", "500"))


class TestAnAsgiApp:
    def test_a_loop_that_is_blocked(self, tmp_path: Path) -> None:
        """The metrics answer all the same, and say for how long it has been blocked so far."""
        write(tmp_path, api=API)
        with run(tmp_path, ["gunicorn", "--threads", "4"], "--bind", "api:wsgi") as server, ExitStack() as clients:
            held = [clients.enter_context(server.connect()) for _ in range(2)]
            name = 'bridge_requests_busy{app="api"}'
            held[0].head("GET", "/block")
            once(server, lambda found: found[name] == 1)
            held[1].head("GET", "/")
            blocked = once(server, lambda found: found['bridge_loop_longest_block_seconds{app="api"}'] > 0.2)
            server.get("/open")
            statuses = [connection.response().status for connection in held]
            done = once(server, lambda found: timed(found, "count", "all") == 2)

        assert 0 == count(blocked, "api", "served")
        assert [200, 200] == statuses
        assert (2, 0) == (count(done, "api", "served"), done[name])
        assert done['bridge_loop_longest_block_seconds{app="api"}'] > 0.2

    def test_what_goes_wrong(self, tmp_path: Path) -> None:
        """As above."""
        write(tmp_path, api=API)
        with run(tmp_path, ["gunicorn", "--threads", "4"], "--bind", "api:wsgi") as server:
            status, _ = server.get("/raise")
            leave_a_stream(server)
            found = once(server, lambda found: timed(found, "count", "app") + timed(found, "count", "all") == 2)

        assert 500 == status
        assert (1, 1) == (count(found, "api", "aborted"), count(found, "api", "client_disconnects"))
        assert (1, 1) == (timed(found, "count", "app", "500"), timed(found, "count", "all", "500"))


class TestSeveralWorkers:
    def test_a_worker_that_ends(self, tmp_path: Path) -> None:
        """What it has counted stays in the sum; what it had is not in the sum of those that are alive."""
        write(tmp_path)
        words = ["gunicorn", "--config", "gunicorn_conf.py", "--workers", "2", "--threads", "4"]
        served = 'bridge_requests_total{app="api",outcome="served"}'
        with run(tmp_path, words, "--bind", "api:wsgi", probe="/") as server:
            gone = psutil.Process(server.process.pid).children()[0]
            gauges = tmp_path / "metrics" / f"gauge_livesum_{gone.pid}.db"
            server.wait_for(gauges.exists, "the worker has written its gauges")
            for _ in range(9):
                server.get("/")
            gone.send_signal(signal.SIGTERM)
            server.wait_for(lambda: not gauges.exists(), "its gauges are gone")
            for _ in range(5):
                server.get("/")
            once(server, lambda found: found.get(served) == 15)


def test_the_rules_name_what_there_is() -> None:
    """Each metric in a rule, and each in the table above them, is one that the files export."""
    files = "".join(re.findall(r"^```python file=\S+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    exported = set(re.findall(r'\("(bridge_\w+|http_\w+)"', files))
    rules = PAGE.partition("## What to alert on")[2]
    named = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"\b(?:bridge|http)_[a-z_]+\b", rules)}

    assert len(named) > 5
    assert set() == named - exported
    assert set(re.findall(r'outcome="(\w+)"', rules)) == {"rejected", "aborted", "client_disconnects"}
