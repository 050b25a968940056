"""`bridge check` against each app of tests/support/apps.py: it finds the sinful ones and nothing in the others."""

import asyncio
import gc
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bridge._check import client, probe
from bridge._check.findings import Finding
from bridge._check.probe import probe_asgi, probe_wsgi
from bridge._check.progress import Interrupted, Interruptible, Progress
from bridge._check.requests import CheckRequest, requests_for
from support import apps
from support.patience import PATIENCE

SINS = ("no_content_with_body", "raises", "raises_after_start", "raises_in_the_middle", "raises_before_content_length")
# What others ask of their query is the tests' own, and not there in a request of a check.
FAULTLESS = (
    "hello", "not_found", "pid", "echo", "echo_in_pieces", "upload", "endless", "idle", "no_content",
    "not_modified", "site", "clock", "cookies", "census",
)  # fmt: skip


@pytest.fixture(autouse=True)
def signals_go_to_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "signals", apps.Signals(tmp_path))


@pytest.fixture
def streams_are_left_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """For apps that are right until then; what others do wrong may come later on a busy machine."""
    monkeypatch.setattr(client, "_WATCH_SECONDS", 0.05)


def findings(outcomes: Any) -> dict[str, list[Finding]]:
    return {outcome.asked: outcome.findings for outcome in outcomes if outcome.findings}


@pytest.mark.parametrize("name", SINS)
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_it_finds_every_sinful_app(kind: str, name: str) -> None:
    ask: Any = probe_wsgi if kind == "wsgi" else probe_asgi

    assert "GET /" in findings(ask(getattr(apps, f"{kind}_{name}"), list(requests_for("/", safe=False))))


@pytest.mark.usefixtures("streams_are_left_soon")
@pytest.mark.parametrize("name", FAULTLESS)
def test_it_finds_nothing_in_a_faultless_wsgi_app(name: str) -> None:
    assert {} == findings(probe_wsgi(getattr(apps, f"wsgi_{name}"), list(requests_for("/", safe=False))))


@pytest.mark.usefixtures("streams_are_left_soon")
@pytest.mark.parametrize("name", [*FAULTLESS, "answers_early"])
def test_it_finds_nothing_in_a_faultless_asgi_app(name: str) -> None:
    assert {} == findings(probe_asgi(getattr(apps, f"asgi_{name}"), list(requests_for("/", safe=False))))


def test_the_table_of_apps_is_whole() -> None:
    """An app that is added there is found here."""
    known = {
        *SINS,
        *FAULTLESS,
        "answers_early",
        "download",
        "steps",
        "tagged",
        "waits",
        "held",
        "polls",
        "background",
        "lifespan",
        "facts",
        "fault",
        "early_hint",
    }
    for kind in ("wsgi", "asgi"):
        found = {name.removeprefix(f"{kind}_") for name in vars(apps) if name.startswith(f"{kind}_")}
        assert found <= known


GET = CheckRequest("GET", "GET", "/")


def test_an_app_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESPONSE_SECONDS", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive())["type"] != "http.disconnect":
                pass

    assert ["has not answered within 15 seconds"] == [each.did for each in findings(probe_asgi(app, [GET]))["GET"]]


def test_an_app_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESPONSE_SECONDS", 0.05)
    monkeypatch.setattr(client, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(probe, "GRACE_SECONDS", 0.1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(3600)

    found = findings(probe_asgi(app, [GET]))["GET"]
    assert "continued for 0 seconds after its client had left" in [each.did for each in found]


def test_an_app_that_blocks_the_loop_is_interrupted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and "wsgi_environ" not in scope:
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # the same alarm, but only now that it blocks
            time.sleep(3600)
        raise LookupError

    found = findings(probe_asgi(app, [GET]))["GET"]
    assert "raised TimeoutError: the event loop was blocked" in found[0].did


@pytest.mark.parametrize("how", ["stops the loop", "cancels all tasks"])
def test_an_app_that_ends_the_loop_ends_the_check(how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and how == "stops the loop":
            asyncio.get_running_loop().stop()
        elif scope["type"] == "http":
            for task in asyncio.all_tasks():
                task.cancel()
        await receive()

    outcomes = probe_asgi(app, [GET, GET])
    found = [(outcome.asked, [each.did for each in outcome.findings]) for outcome in outcomes]
    assert ("GET", ["stopped the event loop, or cancelled tasks of the server"]) == found[0]
    assert ["GET", "lifespan"] == [asked for asked, _ in found]


def test_it_asks_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_WATCH_SECONDS", 10.0)  # eight responses may take their time on a busy machine
    barrier = threading.Barrier(8, timeout=PATIENCE)

    def app(environ: Any, start_response: Any) -> Any:
        barrier.wait()
        return apps.wsgi_hello(environ, start_response)

    (outcome,) = probe_wsgi(app, [CheckRequest("many", "GET", "/", at_once=8)])
    assert ([], "200, 14 bytes") == (outcome.findings, outcome.ended)


def test_an_error_is_told_with_its_place() -> None:
    (outcome,) = probe_wsgi(apps.wsgi_raises, [GET])

    assert "raised LookupError: raised before the headers (apps.py:" in outcome.findings[0].did
    assert outcome.findings[0].did.endswith(") before its response")


@pytest.mark.parametrize("where", ["in its code", "while it waits"])
def test_an_interruption_is_no_fault_of_the_application_and_leaves_no_traceback(
    where: str, caplog: pytest.LogCaptureFixture, exits: list[int]
) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        elif where == "in its code":
            interrupt()
        else:
            asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.Event().wait()

    asked = Progress()
    with pytest.raises(Interrupted), Interruptible(60.0, asked, lambda _reason: None, lambda: 1):
        probe_asgi(app, list(requests_for("/", safe=True)), asked)
    gc.collect()  # asyncio complains of an exception that nobody has asked for when its task goes

    assert ([], [], []) == (asked.outcomes, caplog.messages, exits)
