"""Real agents around a project on real servers: what they report of its requests, beside what they report of the same
requests through Django's own handlers. `support/agents_site.py` is the project; `make test-agents` runs this.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from servers.process import Server, free_port, start
from support.paths import ROOT
from support.patience import PROCESS_PATIENCE

pytestmark = pytest.mark.agents

AGENTS = ("sentry", "ddtrace", "elastic", "otel")
SIDES = ("asgi", "wsgi")
AT_ONCE = 12
QUIET = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_SYMBOL_DATABASE_UPLOAD_ENABLED": "false",
    # Where gevent is installed, as it is here, it has asyncio loaded twice, and nothing knows a cancellation any more.
    "DD_UNLOAD_MODULES_FROM_SITECUSTOMIZE": "false",
    "DD_TRACE_STARTUP_LOGS": "false",
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
}


@dataclass
class Site:
    """The project on a server, and what its agent has recorded."""

    server: Server
    records_path: Path

    def records(self, kind: str) -> list[dict[str, Any]]:
        text = self.records_path.read_text(encoding="utf-8") if self.records_path.exists() else ""
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [one for one in found if one["kind"] == kind]

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PROCESS_PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"{what}: {self.records_path.read_text()}\n{self.server.log()}"
            time.sleep(0.02)

    def wait_for(self, kind: str, count: int) -> list[dict[str, Any]]:
        """All records of that kind, once there are so many; what comes too often has come when a later request has."""
        self.wait(lambda: len(self.records(kind)) >= count, f"{count} of {kind}")
        return self.records(kind)

    def get(self, path: str) -> int:
        """Ask for it, to the end or until it breaks off; returns the status."""
        with self.server.connect() as connection:
            response = connection.ask("GET", path)
            with suppress(IncompleteRead, OSError):
                response.read()
            return int(response.status)

    def leave(self, path: str) -> None:
        """Ask for it, and leave once something has come; or, where nothing comes, once the view says that it waits."""
        before = len(self.records("waits"))
        closed = len(self.records("closed"))
        with self.server.connect() as connection:
            if path.endswith("waits"):
                connection.head("GET", path, {})
                self.wait(lambda: len(self.records("waits")) > before, "the view waits")
            else:
                connection.ask("GET", path).read(5)
        self.wait(lambda: len(self.records("closed")) > closed, f"{path} ends")


@contextmanager
def site(directory: Path, agent: str, entry: str, side: str, when: str = "before") -> Iterator[Site]:
    port = free_port()
    records = directory / "records"
    (directory / "tmp").mkdir()
    (directory / "signals").mkdir()
    command = {
        "asgi": ["-m", "uvicorn", "agents_site:application", "--lifespan", "off", "--port", str(port)],
        "wsgi": ["-m", "gunicorn", "agents_site:application", "-b", f"127.0.0.1:{port}", "--threads", "24"],
    }[side]
    more = ["--timeout-graceful-shutdown", "2"] if side == "asgi" else ["--graceful-timeout", "2"]
    program = ["ddtrace-run", sys.executable] if agent == "ddtrace" else [sys.executable]
    # Datadog's leaves a file for the processes to come.
    (directory / "agents").mkdir()
    temporary = directory / ("agents" if agent == "ddtrace" else "tmp")
    environment = {
        "TMPDIR": str(temporary),
        "AGENT": agent,
        "ENTRY": entry,
        "SIDE": side,
        "WHEN": when,
        "RECORDS": str(records),
        **QUIET,
    }
    (directory / "agents_site.py").symlink_to(ROOT / "tests" / "support" / "agents_site.py")
    command = [*program, *command, *more]
    name = f"{agent}-{entry}-{side}"
    with start(name, directory, command, ("127.0.0.1", port), environment=environment, probe="") as server:
        yield Site(server, records)


ANSWERS = {
    "/sync": 200,
    "/is_async": 200,
    "/looped": 200,
    "/teapot": 418,
    "/nowhere": 404,
    "/fails": 500,
    "/async_fails": 500,
    "/looped_fails": 500,
    "/stream": 200,
    "/async_stream": 200,
    "/looped_stream": 200,
    "/stream?broken": 200,
    "/async_stream?broken": 200,
    "/looped_stream?broken": 200,
}


def reported(directory: Path, agent: str, entry: str, side: str, when: str = "before") -> dict[str, list[str]]:
    """What the agent reports of one request after the other: its transactions, and its errors."""
    directory.mkdir()
    with site(directory, agent, entry, side, when) as running:
        for number, (path, status) in enumerate(ANSWERS.items(), start=1):
            # Django's WSGI handler fails at what it has read to its end before there was a head.
            assert running.get(path) in ({status, 500} if path.endswith("?broken") else {status}), path
            running.wait_for("transaction", number)
        assert [] == running.records("unused")  # else the system check would warn of this agent
        running.get("/sync")
        found = {kind: running.records(kind) for kind in ("transaction", "error")}
        running.wait_for("transaction", len(ANSWERS) + 1)
        # What the fence has brought is not of the requests.
        found["transaction"] = running.records("transaction")
    if agent == "sentry" and entry == "bridge":
        assert all(one["url"] for one in found["error"])
    for one in found["error"]:
        # Of an async stream that Django's WSGI handler reads to its end before it begins, Sentry does not know it.
        one.pop("url", None)
    return {kind: sorted(json.dumps(one, sort_keys=True) for one in ones) for kind, ones in found.items()}


def is_broken_stream(record: str) -> bool:
    """Whether it tells of a stream that has broken off."""
    return json.loads(record).get("error") == 1 and "stream" in record


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_reports_what_it_does_with_djangos_handlers(agent: str, side: str, tmp_path: Path) -> None:
    """One transaction a request, of the same name and status; and the same errors, in streams too."""
    # With Django's ASGI handler Elastic's agent reports nothing: what it sets in a signal's receiver is lost there.
    as_on = "wsgi" if agent == "elastic" else side
    expected = reported(tmp_path / "django", agent, "django", as_on)
    assert len(ANSWERS) + 1 == len(expected["transaction"])
    found = reported(tmp_path / "bridge", agent, "bridge", side)
    if (agent, side) == ("ddtrace", "asgi"):
        # With Django's handler the trace of a stream that breaks off has a CancelledError of Django's own, and no word
        # of the stream's error.
        assert [f"the {kind} stream" for kind in ("async", "looped", "sync")] == sorted(
            json.loads(one)["name"] for one in found["error"]
        )
        found["error"], expected["error"] = [], []
        for kind in (found, expected):
            assert 3 == sum(map(is_broken_stream, kind["transaction"]))
            kind["transaction"] = [one for one in kind["transaction"] if not is_broken_stream(one)]
    assert expected == found


@pytest.mark.parametrize("side", SIDES)
def test_an_agent_that_comes_later_sees_the_same(side: str, tmp_path: Path) -> None:
    """What is put on Django's classes after the application was made runs around each request all the same."""
    expected = reported(tmp_path / "django", "sentry", "django", side, "after")
    assert len(ANSWERS) + 1 == len(expected["transaction"])
    assert expected == reported(tmp_path / "bridge", "sentry", "bridge", side, "after")


@pytest.mark.parametrize("view", ["who", "async_who", "looped_who"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("agent", AGENTS)
def test_what_one_request_is_marked_with_is_not_seen_in_others(
    agent: str, side: str, view: str, tmp_path: Path
) -> None:
    """Twelve at once: user and tags of each are those that its view has set, in its transaction and in its error."""
    with site(tmp_path, agent, "bridge", side) as running:
        with ThreadPoolExecutor(AT_ONCE) as clients:
            names = [f"client-{number}" for number in range(AT_ONCE)]
            assert [500] * AT_ONCE == list(clients.map(lambda name: running.get(f"/{view}/{name}"), names))
        transactions = running.wait_for("transaction", AT_ONCE)
        errors = running.wait_for("error", AT_ONCE if agent in {"sentry", "elastic"} else 0)
    marks = [one["marks"] for one in transactions]
    assert sorted(names) == sorted(mark[0] for mark in marks)
    assert all(len(set(mark)) == 1 for mark in marks), marks
    for error in errors:
        assert {error["name"]} == set(error.get("marks", [error["name"]]))
        assert error.get("url", error["name"]).endswith(error["name"])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("agent", AGENTS)
def test_a_client_that_leaves_is_no_error(agent: str, side: str, tmp_path: Path) -> None:
    """In the middle of a stream, and while an async view is at work: a transaction each, and nothing else."""
    paths = ("/endless", "/async_endless", "/waits", "/looped_waits")
    with site(tmp_path, agent, "bridge", side) as running:
        for path in paths:
            running.leave(path)
        running.get("/sync")
        # Those that are a middleware do not hear of the end of a request that is cancelled.
        running.wait_for("transaction", len(paths) + 1 if agent in {"sentry", "ddtrace"} else 1)
        assert [] == running.records("error")
        log = running.server.log()
    # OpenTelemetry's leaves a span open then, and complains when that is collected; so it does with Django's handlers.
    assert agent == "otel" or "Traceback" not in log, log


@pytest.mark.parametrize("side", SIDES)
def test_an_upload_to_an_async_view_does_not_block_the_loop(side: str, tmp_path: Path) -> None:
    """An agent that wraps the view makes no other of it: its body is there before it runs."""
    size = 5_000_000
    with site(tmp_path, "sentry", "bridge", side) as running:
        with running.server.connect() as connection:
            response = connection.ask("POST", "/upload", b"x" * size)
            assert (200, str(size).encode()) == (response.status, response.read())
        assert 200 == running.get("/sync")
