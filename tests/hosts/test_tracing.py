"""OpenTelemetry around an adapter on real servers: a request is one trace, on whichever side its spans are begun."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from servers.process import Server, free_port, start

pytestmark = pytest.mark.hosts

AT_ONCE = 12
PATIENCE = 20.0  # seconds
CLIENT = "00000000000000ff"  # the span of the client
UVICORN = ["uvicorn", "--log-level", "warning", "--port"]
HYPERCORN = ["hypercorn", "--worker-class", "trio", "--bind"]
GUNICORN = ["gunicorn", "--threads", "8", "--bind"]
GUNICORN_SYNC = ["gunicorn", "--bind"]

# Of each span that is begun by an app: the span around it. "" is the one of the middleware.
FROM_THREAD = {"thread": "", "loop": "thread", "another thread": "loop", "stream": ""}
FROM_LOOP = {"loop": "", "thread": "loop", "loop again": "thread", "after": ""}
DJANGO_SYNC = {"thread": "", "loop": "thread", "thread again": "loop"}
DJANGO_ASYNC = {"loop": "", "thread": "loop", "loop again": "thread"}

CASES = [
    pytest.param(UVICORN, "traced_apps:asgi", "/", FROM_THREAD, id="uvicorn"),
    pytest.param(HYPERCORN, "traced_apps:asgi", "/", FROM_THREAD, id="hypercorn-trio"),
    pytest.param(GUNICORN, "traced_apps:wsgi", "/", FROM_LOOP, id="gunicorn-gthread"),
    pytest.param(GUNICORN_SYNC, "traced_apps:wsgi", "/", FROM_LOOP, id="gunicorn-sync"),
    pytest.param(UVICORN, "traced_django:asgi", "/sync", DJANGO_SYNC, id="django-sync-uvicorn"),
    pytest.param(UVICORN, "traced_django:asgi", "/async", DJANGO_ASYNC, id="django-async-uvicorn"),
    pytest.param(GUNICORN, "traced_django:wsgi", "/sync", DJANGO_SYNC, id="django-sync-gunicorn"),
    pytest.param(GUNICORN, "traced_django:wsgi", "/async", DJANGO_ASYNC, id="django-async-gunicorn"),
]


def run(command: list[str], app: str, directory: Path) -> Any:
    for name in ("signals", "tmp"):
        (directory / name).mkdir()
    port = free_port()
    *words, last = command
    where = str(port) if last == "--port" else f"127.0.0.1:{port}"
    command = [*words, last, where, f"support.{app}"]
    return start(words[0], directory, command, ("127.0.0.1", port), probe="/spans")


def ask(server: Server, path: str, headers: dict[str, str]) -> bytes:
    with server.connect() as connection:
        connection.head("GET", path, headers)
        return connection.response().read()


def spans_once(server: Server, holds: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """All spans that have ended, once that holds of them: the last ones of a request end after its response."""
    deadline = time.monotonic() + PATIENCE
    while not holds(found := json.loads(ask(server, "/spans", {}))):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return list(found)


@pytest.mark.parametrize(("command", "app", "path", "parents"), CASES)
def test_a_request_is_one_trace(
    command: list[str], app: str, path: str, parents: dict[str, str], tmp_path: Path
) -> None:
    """Of requests at once each has its own: what it does in threads and on the loop is below the client's span."""
    traces = [f"{number:032x}" for number in range(1, AT_ONCE + 1)]
    with run(command, app, tmp_path) as server:

        def request(trace: str) -> bytes:
            return ask(server, path, {"traceparent": f"00-{trace}-{CLIENT}-01"})

        with ThreadPoolExecutor(AT_ONCE) as clients:
            bodies = list(clients.map(request, traces))
        wanted = AT_ONCE * (1 + len(parents))
        spans = spans_once(server, lambda found: len(found) >= wanted)

    assert all(body.startswith(b"one\n") for body in bodies)
    assert {(trace, 1 + len(parents)) for trace in traces} == {
        (trace, sum(span["trace"] == trace for span in spans)) for trace in {span["trace"] for span in spans}
    }
    for trace in traces:
        own = [span for span in spans if span["trace"] == trace]
        names = {span["id"]: span["name"] if span["name"] in parents else "" for span in own}
        assert {"": CLIENT} == {names[span["id"]]: span["parent"] for span in own if not names[span["id"]]}
        assert parents == {span["name"]: names.get(span["parent"]) for span in own if names[span["id"]]}
        threads = {span["name"]: span["thread"] for span in own if names[span["id"]]}
        assert threads["thread"] != threads["loop"]


def test_a_websocket_is_one_trace(tmp_path: Path) -> None:
    """The WSGI middleware around the adapter has one long span, and the ASGI middleware in it one below that."""
    trace = f"{1:032x}"
    with run(GUNICORN, "traced_apps:wsgi", tmp_path) as server:
        headers = {"traceparent": f"00-{trace}-{CLIENT}-01"}
        with connect(f"ws://127.0.0.1:{server.port}/websocket", additional_headers=headers) as client:
            client.send("hello")
            echo = client.recv(PATIENCE)
        spans = spans_once(server, lambda found: len(found) >= 3)

    below = {span["parent"]: span for span in spans}
    outer = below[CLIENT]
    inner = below[outer["id"]]
    assert "hello" == echo
    assert {trace} == {span["trace"] for span in spans}
    assert ("message", 3) == (below[inner["id"]]["name"], len(spans))
