"""The report of `bridge check`. What it finds: tests/unit/check/."""

import io
import json
import sys
import types
from typing import Any

import pytest

from bridge import Mounts
from bridge.cli._check import check


def good(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"good"]


def bad(environ: Any, start_response: Any) -> Any:
    sys.stdout.write("noise of the application\n")
    start_response("200", [])
    return [b"bad"]


async def new(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"new"})


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("checkshop")
    module.good, module.bad, module.site = good, bad, Mounts({"/": good, "/new": new})
    monkeypatch.setitem(sys.modules, "checkshop", module)


def test_a_good_application(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == check("checkshop:good", paths=["/"], safe=False, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("checkshop:good (")
    assert lines[0].endswith("good) speaks WSGI")
    assert "ok GET / 200, 4 bytes" == " ".join(lines[2].split())
    assert "nothing is broken" == lines[-1]
    assert not [line for line in lines if "BROKEN" in line]


def test_a_bad_one_has_each_broken_clause_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == check("checkshop:bad", paths=["/", "/other"], safe=True, as_json=False)

    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert "BROKEN  GET /other" in told.out
    assert [
        (
            "the application gave the status '200'; expected a code, a space and a reason phrase"
            " (PEP 3333, The start_response() Callable)"
        ),
        "    request: GET / and 9 more",
        "1 broken",
    ] == lines[-3:]
    assert "noise" not in told.out, "what the application prints is not the report"
    assert "noise" in told.err


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == check("checkshop:bad", paths=["/"], safe=True, as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert ("checkshop:bad", "wsgi", 1) == (told["app"], told["interface"], told["broken"])
    assert ("GET /", "200, 3 bytes") == (told["asked"][0]["asked"], told["asked"][0]["ended"])
    assert {
        "did": "gave the status '200'",
        "expected": "a code, a space and a reason phrase",
        "clause": "PEP 3333, The start_response() Callable",
    } == told["asked"][0]["findings"][0]


def test_safe_asks_nothing_that_changes_data(capsys: pytest.CaptureFixture[str]) -> None:
    check("checkshop:good", paths=["/"], safe=True, as_json=False)

    assert "POST" not in capsys.readouterr().out


def test_mounts_are_asked_as_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == check("checkshop:site", paths=["/", "/new"], safe=True, as_json=False)

    told = capsys.readouterr().out
    assert "speaks WSGI and ASGI" in told
    assert "started and stopped" in told


def test_a_finding_is_told_with_the_request_that_shows_it_and_no_second_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    check("checkshop:bad", paths=["/"], safe=True, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    finding = (
        "        gave the status '200'; expected a code, a space and a reason phrase"
        " (PEP 3333, The start_response() Callable)"
    )
    assert ["BROKEN  GET / ", finding, "BROKEN  HEAD /"] == [lines[2][:14], lines[3], lines[4][:14]]
    assert 1 == lines.count(finding)


class Output(io.StringIO):
    """What is written, and what of it has been flushed."""

    flushed = ""

    def flush(self) -> None:
        self.flushed = self.getvalue()


def test_it_prints_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second request comes to the application, the report of the first one has been written and flushed."""
    out = Output()
    monkeypatch.setattr(sys, "stdout", out)
    seen: list[str] = []

    def watching(environ: Any, start_response: Any) -> Any:
        seen.append(out.flushed)
        return good(environ, start_response)

    monkeypatch.setattr(sys.modules["checkshop"], "good", watching)
    check("checkshop:good", paths=["/"], safe=True, as_json=False)

    assert "speaks WSGI" in seen[0]
    assert "GET /" not in seen[0]
    assert "ok      GET /  " in seen[1]
    assert "ok      HEAD /  " in seen[2]
