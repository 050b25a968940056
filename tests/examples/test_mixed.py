"""The example `examples/mixed`: Flask and FastAPI in one process, under Uvicorn and under Gunicorn, over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support import processes
from support.browser import Browser
from support.paths import ROOT
from support.patience import PROCESS_PATIENCE

PROJECT = ROOT / "examples" / "mixed"

RUNNER = [sys.executable, str(PROJECT / "serve.py"), "--port", "{port}"]
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "8", "shed:wsgi"]
# The runner of `make run-mixed` and the lines of the README.
COMMANDS = {
    "make run-mixed": RUNNER,
    "make run-mixed UNDER=gunicorn": [*RUNNER, "--under", "gunicorn"],
    "uvicorn shed:asgi": [sys.executable, "-m", "uvicorn", "--port", "{port}", "shed:asgi"],
    "gunicorn shed:wsgi": [sys.executable, "-m", *GUNICORN],
}


class Shed:
    """The example in a process of its own."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self.port = processes.free_port()
        self.log_path = directory / "log"
        words = [word.format(port=self.port) for word in command]
        own = {"SHED_VAR": str(directory / "var")}
        self.process = processes.start_logging(words, directory, own, cwd=PROJECT, log=self.log_path)

    def log(self) -> str:
        return self.log_path.read_text()

    def client(self) -> httpx.Client:
        """A browser: it keeps cookies, follows redirects, and knows no proxy."""
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, follow_redirects=True, timeout=PROCESS_PATIENCE, trust_env=False)

    def wait(self) -> None:
        processes.wait_until_it_listens(self.process, self.port, self.log_path)

    def stop(self) -> None:
        """Ctrl-C."""
        processes.end(self.process, signal.SIGINT)


@pytest.fixture(name="shed", params=COMMANDS, scope="module")
def shed_fixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shed]:
    shed = Shed(COMMANDS[request.param], tmp_path_factory.mktemp("shed"))
    try:
        shed.wait()
        yield shed
    finally:
        shed.stop()
    assert "Traceback" not in shed.log(), shed.log()


def events_of(response: httpx.Response) -> Iterator[dict[str, object]]:
    """What a stream of server-sent events says."""
    return (json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line)


def test_both_sides_share_a_login_a_database_and_a_process(shed: Shed) -> None:
    with shed.client() as browser, shed.client() as stranger:
        assert "Hammer drill" in browser.get("/").text
        assert 401 == browser.get("/api/me").status_code
        assert "Hello, Kim" in browser.post("/login", data={"name": "Kim"}).text
        assert {"name": "Kim"} == browser.get("/api/me").json()
        assert 401 == stranger.get("/api/me").status_code

        with stranger.stream("GET", "/api/watch") as response:
            events = events_of(response)
            tools = {tool["name"]: tool for tool in next(events)["tools"]}  # type: ignore[attr-defined]
            assert not any(tool["borrower"] for tool in tools.values())

            drill, ladder = tools["Hammer drill"]["id"], tools["Ladder, 6 m"]["id"]
            page = browser.post(f"/borrow/{drill}").text
            assert re.search(r"<strong>Hammer drill</strong>\s*<span class=\"state\">is with Kim</span>", page)
            assert "Kim" == {tool["id"]: tool for tool in next(events)["tools"]}[drill]["borrower"]  # type: ignore[attr-defined]
            assert 200 == browser.put(f"/api/tools/{ladder}/loan").status_code
            assert "Kim" == {tool["id"]: tool for tool in next(events)["tools"]}[ladder]["borrower"]  # type: ignore[attr-defined]

        page = browser.get("/").text
        assert 2 == len(re.findall("is with Kim", page))
        assert 409 == browser.post(f"/borrow/{ladder}").status_code
        assert 204 == browser.delete(f"/api/tools/{ladder}/loan").status_code
        assert 1 == len(re.findall("is with Kim", browser.get("/").text))


def test_each_side_sees_the_session_that_the_other_one_writes(shed: Shed) -> None:
    with shed.client() as browser:
        browser.post("/login", data={"name": "Kim"})
        assert {"name": "Sam", "before": "Kim"} == browser.put("/api/me", params={"new": "Sam"}).json()
        assert "Hello, Sam" in browser.get("/").text
        assert "Hello" not in browser.get("/logout").text
        assert 401 == browser.get("/api/me").status_code
        browser.cookies.set("session", "forged")
        assert 401 == browser.get("/api/me").status_code


def test_the_new_side_knows_where_it_is(shed: Shed) -> None:
    """Its own pages and redirects lead below its prefix."""
    with shed.client() as browser:
        assert "/api/openapi.json" in browser.get("/api/docs").text
        assert [{"url": "/api"}] == browser.get("/api/openapi.json").json()["servers"]
        assert 404 == browser.get("/apix").status_code


def test_what_the_command_line_says_of_it(tmp_path: Path) -> None:
    def bridge(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            cwd=PROJECT,
            env=os.environ | {"SHED_VAR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=PROCESS_PATIENCE,
        )
        assert "" == done.stderr
        return done.returncode, done.stdout

    status, table = bridge("mounts", "shed:site")
    assert 0 == status
    assert [
        ["/", "flask.app.Flask", "wsgi", "adapted", "natively"],
        ["/api", "fastapi.applications.FastAPI", "asgi", "natively", "adapted"],
    ] == [line.split() for line in table.splitlines()[1:]]
    status, report = bridge("check", "shed:site", "--path", "/", "--path", "/api/tools", "--safe")
    assert (0, "nothing is broken") == (status, report.splitlines()[-1]), report


def test_the_runner_says_what_to_look_at(tmp_path: Path) -> None:
    shed = Shed(RUNNER, tmp_path)
    try:
        shed.wait()
        told = shed.log()
    finally:
        shed.stop()

    assert f"http://127.0.0.1:{shed.port}/api/watch" in told
    assert "bridge: shed:site (<Mounts /api, />) speaks ASGI and WSGI; Uvicorn runs it as ASGI, natively" in told


WIDE, NARROW = 1200, 390


@pytest.mark.debian("chromium-headless-shell")
class TestPage:
    """The page in a real browser."""

    def test_the_old_page_follows_the_new_side(self, shed: Shed, tmp_path: Path) -> None:
        """A tool that somebody else borrows shows without a reload; what the old side lends, the new one takes back."""
        with Browser(tmp_path) as browser, shed.client() as other:
            browser.open(f"http://127.0.0.1:{shed.port}/")
            browser.wait_for("document.querySelector('#connection').textContent == 'live'")
            browser.run("document.querySelector('#name').value = 'Alex'")
            browser.loading(lambda: browser.run("document.querySelector('.who button').click()"))
            browser.wait_for("document.querySelector('#connection').textContent == 'live'")
            item = "[...document.querySelectorAll('#tools li')].find(li => li.textContent.includes('Tile cutter'))"
            number = browser.run(f"{item}.dataset.tool")
            browser.loading(lambda: browser.run(f"{item}.querySelector('form button').click()"))
            browser.wait_for(f"!{item}.querySelector('.back').hidden")
            assert "is with Alex" == browser.run(f"{item}.querySelector('.state').textContent")
            browser.run(f"{item}.querySelector('.back').click()")
            browser.wait_for(f"{item}.querySelector('.state').textContent == 'is here'")
            other.post("/login", data={"name": "Robin"})
            other.put(f"/api/tools/{number}/loan")
            browser.wait_for(f"{item}.querySelector('.state').textContent == 'is with Robin'")
            other.delete(f"/api/tools/{number}/loan")

            assert [] == browser.complaints

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_can_be_read(self, shed: Shed, tmp_path: Path, width: int, scheme: str) -> None:
        """Nothing is wider than the window, and all text has the contrast of WCAG 2 (1.4.3), in light and in dark."""
        with Browser(tmp_path) as browser:
            browser.prefer(scheme)
            browser.open(f"http://127.0.0.1:{shed.port}/", width=width)
            dark = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 28, 35)"

            assert (scheme == "dark") == dark
            assert [] == browser.too_wide()
            assert [] == browser.faint()
            assert [] == browser.unnamed()
            assert [] == browser.complaints
