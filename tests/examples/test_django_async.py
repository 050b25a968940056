"""The example `examples/django_async`: an async Django project under Uvicorn, Gunicorn and Apache with mod_wsgi."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.browser import Browser
from support.example_process import Site
from support.lookout import PROJECT, SERVERS, STATUS, WSGI, lookout
from support.patience import PROCESS_PATIENCE

# Where the screenshots of the last run stay.
PICTURES = PROJECT / "var" / "screenshots"
PLACES = 4
SETTINGS = {
    "LOOKOUT_INTERVAL": "3600",  # the sites are asked once at the start, and when a test says so
    "LOOKOUT_HEARTBEAT": "0.5",
    "LOOKOUT_FEEDS": str(PLACES),
}

# The first run makes the virtual environment for Apache.
pytestmark = pytest.mark.timeout(300)


class Printer(ThreadingHTTPServer):
    """A site to be watched. `answers` is whether it is well; while `silent` is set it gives no answer at all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PrinterHandler)
        self.answers = True
        self.asked = threading.Event()
        self.silent = threading.Event()
        self.speak = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"


class PrinterHandler(BaseHTTPRequestHandler):
    server: Printer

    def do_GET(self) -> None:
        self.server.asked.set()
        if self.server.silent.is_set():
            self.server.speak.wait(PROCESS_PATIENCE)
        self.send_response(200 if self.server.answers else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The output is the tests'."""


@pytest.fixture
def printer() -> Iterator[Printer]:
    with Printer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="printer")
        thread.start()
        yield server
        server.speak.set()
        server.shutdown()
        thread.join()


@contextmanager
def served(server: str) -> Iterator[Site]:
    """The example, as its make verb starts it."""
    with lookout(server, SETTINGS) as place, place.serving() as site:
        yield site


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(server: str) -> Iterator[Site]:
    """The example, for the tests that leave it running."""
    with served(server) as running:
        yield running


@pytest.fixture
def visitor(site: Site) -> Iterator[httpx.Client]:
    """A client. Nobody follows the feed when its test begins; a server may notice only late that readers have left."""
    assert site.once(nobody_reads), "".join(site.output)
    with site.client() as client:
        yield client


def nobody_reads(output: list[str]) -> bool:
    feeds = [line for line in output if re.search(r"feed (opened|closed), \d+ open", line)]
    return not feeds or feeds[-1].endswith(" 0 open\n")


@pytest.fixture
def watched(visitor: httpx.Client, printer: Printer) -> Iterator[Printer]:
    """A printer that the example watches, and that has been found to be well."""
    submit(visitor, "/", name="Printer", url=printer.url)
    assert "up" == told(visitor, printer)["state"]
    yield printer
    submit(visitor, f"/sites/{number(visitor, printer)}/remove/")


def submit(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Sends a form of the page, as a browser does: with the page's CSRF token."""
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', client.get("/").text)
    assert token
    answer = client.post(path, data={"csrfmiddlewaretoken": token[1], **fields})
    assert answer.status_code in (202, 302), answer.text
    return answer


def number(client: httpx.Client, printer: Printer) -> int:
    """That of a site, as its card has it."""
    found = re.search(rf'id="site-(\d+)"(?:(?!</article>).)*{re.escape(printer.url)}', client.get("/").text, re.DOTALL)
    assert found
    return int(found[1])


class Events:
    """What comes through a feed, in order."""

    def __init__(self, response: httpx.Response) -> None:
        assert (200, "text/event-stream") == (response.status_code, response.headers["content-type"])
        self.response = response
        self._lines = response.iter_lines()

    def next(self) -> dict[str, Any]:
        """The next notification; comments are passed over."""
        event: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            event[name] = value
            if not line and "data" in event:
                notification: dict[str, Any] = json.loads(event["data"])
                assert ("notification", str(notification["id"])) == (event["event"], event["id"])
                return notification
        raise AssertionError("the feed has ended")

    def about(self, site: int) -> dict[str, Any]:
        """The next notification about a site."""
        while (notification := self.next())["site"] != site:
            pass
        return notification

    def rest(self) -> list[str]:
        """All lines until the end."""
        return list(self._lines)


@contextmanager
def follow(client: httpx.Client, after: int = 0) -> Iterator[Events]:
    """An open feed."""
    with client.stream("GET", "/feed/", params={"after": after}) as response:
        yield Events(response)


def told(client: httpx.Client, printer: Printer) -> dict[str, Any]:
    """The first notification about a site, which may be still to come."""
    with follow(client) as events:
        return events.about(number(client, printer))


def latest(client: httpx.Client) -> int:
    """The number of the latest notification."""
    return max((one["id"] for one in client.get("/notifications/").json()["notifications"]), default=0)


def manage(var: Path, *arguments: str) -> str:
    """What manage.py prints; fails where it fails, and on any warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=PROJECT,
        env=os.environ | {"LOOKOUT_VAR": str(var)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class TestProject:
    """The project is what one writes today, and bridge is only at its door."""

    def test_checks_are_clean(self, tmp_path: Path) -> None:
        """Django's system checks find nothing."""
        assert "System check identified no issues (0 silenced).\n" == manage(tmp_path, "check")

    def test_migrations_are_complete(self, tmp_path: Path) -> None:
        """The committed migration says all that the models say."""
        assert "No changes detected\n" == manage(tmp_path, "makemigrations", "--check", "--dry-run")

    def test_imports_of_bridge(self) -> None:
        """Only the two entry points import it, and Gunicorn's configuration for its hooks."""
        importing = [
            str(path.relative_to(PROJECT))
            for path in sorted(PROJECT.rglob("*.py"))
            if re.search(r"^(from|import) bridge", path.read_text(), re.MULTILINE)
        ]

        assert ["gunicorn.conf.py", "lookout/asgi.py", "lookout/wsgi.py"] == importing

    def test_entry_points_are_the_same(self) -> None:
        """They differ by the name of the interface."""
        asgi, wsgi = ((PROJECT / "lookout" / f"{name}.py").read_text() for name in ("asgi", "wsgi"))

        assert wsgi == asgi.replace("ASGI", "WSGI").replace("asgi", "wsgi")


@pytest.mark.debian("chromium-headless-shell")
class TestBrowser:
    """The page in headless Chromium."""

    def test_notifications_appear(
        self, site: Site, server: str, visitor: httpx.Client, printer: Printer, tmp_path: Path
    ) -> None:
        """Two notifications appear on the open page by themselves; the button and the form do what they say."""
        with Browser(tmp_path) as browser:
            browser.open(site.url)
            browser.wait_for("document.querySelector('#connection').textContent == 'live'")
            submit(visitor, "/", name="Printer", url=printer.url)
            browser.wait_for(arrived("Printer is up"))
            printer.answers = False
            browser.loading(lambda: browser.run("location.reload()"))
            browser.wait_for("document.querySelector('#connection').textContent == 'live'")
            browser.run("document.querySelector('#ask').requestSubmit()")
            browser.wait_for(arrived("Printer is down"))
            card = f"#site-{number(visitor, printer)}"
            shown = browser.run(f"document.querySelector({card!r}).dataset.state")
            browser.loading(lambda: browser.run(FILL_IN % json.dumps(printer.url + "tray")))
            cards = browser.run("[...document.querySelectorAll('.card h3')].map(card => card.textContent)")
            browser.wait_for(arrived("Paper tray is down") + f" || {on_page('Paper tray is down')}")
            browser.wait_for("document.querySelector('#connection').textContent == 'live'")
            keep(browser, f"{server}.png", tmp_path)
        assert "down" == shown
        assert "Paper tray" in cards
        assert [] == browser.complaints

    def test_nothing_is_wider_than_a_telephone(self, site: Site, watched: Printer, tmp_path: Path) -> None:
        with Browser(tmp_path) as browser:
            browser.open(site.url, width=390)
            assert [] == browser.too_wide()
            assert [] == browser.unnamed()

    @pytest.mark.parametrize("server", WSGI, indirect=True, scope="module")
    def test_no_place_is_free(
        self, site: Site, server: str, watched: Printer, visitor: httpx.Client, tmp_path: Path
    ) -> None:
        """A page that finds all places taken asks now and then, and shows what it gets."""
        with ExitStack() as stack:
            take_all_places(site, stack)
            with Browser(tmp_path) as browser:
                browser.open(site.url)
                browser.wait_for("document.querySelector('#connection').dataset.state == 'polling'")
                watched.answers = False
                submit(visitor, "/ask/")
                browser.wait_for(arrived("Printer is down"))
                keep(browser, f"{server}-polling.png", tmp_path)

        # Chromium itself calls the 503 an error.
        assert [] == [complaint for complaint in browser.complaints if "/feed/" not in complaint]


FILL_IN = """(() => {
    const form = document.querySelector("#watch");
    form.elements.name.value = "Paper tray";
    form.elements.url.value = %s;
    form.requestSubmit();
})()"""


def arrived(text: str) -> str:
    """A JavaScript expression: whether a notification has come to the open page."""
    return f"[...document.querySelectorAll('li.new .text')].some(one => one.textContent == {text!r})"


def on_page(text: str) -> str:
    """A JavaScript expression: whether the page shows a notification, however it came there."""
    return f"[...document.querySelectorAll('li .text')].some(one => one.textContent == {text!r})"


def keep(browser: Browser, name: str, directory: Path) -> None:
    """A screenshot for the test's own directory, and one to be looked at after it."""
    # What has just come is still on its way to its place.
    browser.run("Promise.all(document.getAnimations().map(animation => animation.finished)).then(() => 1)")
    browser.screenshot(directory / name)
    assert (directory / name).read_bytes().startswith(b"\x89PNG")
    PICTURES.mkdir(parents=True, exist_ok=True)
    shutil.copy(directory / name, PICTURES)


def take_all_places(site: Site, stack: ExitStack) -> None:
    """Open as many feeds as there may be."""
    assert site.once(nobody_reads), "".join(site.output)
    readers = stack.enter_context(site.client())
    for _ in range(PLACES):
        stack.enter_context(follow(readers))


class TestFeed:
    """Server-sent events, one open response for each reader."""

    def test_two_at_once(self, site: Site, visitor: httpx.Client, watched: Printer) -> None:
        """Each gets each notification when it happens, and only those after the number it names."""
        after, printer = latest(visitor), number(visitor, watched)
        with (
            site.client() as one,
            site.client() as other,
            follow(one, after) as first,
            follow(other, after) as second,
        ):
            for state in ("down", "up"):
                watched.answers = state == "up"
                submit(visitor, "/ask/")
                notification = first.about(printer)
                assert notification == second.about(printer)
                assert (state, f"Printer is {state}") == (notification["state"], notification["text"])
                assert notification["id"] > after

    def test_reader_who_comes_back(self, visitor: httpx.Client, watched: Printer) -> None:
        """It says what it has seen last, and misses nothing."""
        before = latest(visitor)
        watched.answers = False
        submit(visitor, "/ask/")
        with follow(visitor, before) as events:
            missed = events.about(number(visitor, watched))
        with visitor.stream("GET", "/feed/", headers={"Last-Event-ID": str(missed["id"] - 1)}) as response:
            assert missed == Events(response).next()

    def test_reader_who_leaves(self, site: Site) -> None:
        """The generator is closed, though nothing happens that it could tell."""
        mark = len(site.output)
        with site.client() as client, follow(client):
            site.line("feed opened", after=mark)
        site.line("feed closed", after=mark)

    def test_bad_number(self, visitor: httpx.Client) -> None:
        """Neither a feed nor the notifications begin at something that is no number."""
        answers = [visitor.get(path, params={"after": "yesterday"}) for path in ("/feed/", "/notifications/")]

        assert [400, 400] == [answer.status_code for answer in answers]

    @pytest.mark.parametrize("server", WSGI, indirect=True, scope="module")
    def test_places_on_a_wsgi_server(self, site: Site, visitor: httpx.Client) -> None:
        """Feeds never take all threads: whoever finds no place is told so at once, and the page is served."""
        with ExitStack() as stack:
            take_all_places(site, stack)
            refused = visitor.get("/feed/")
            assert (503, "30") == (refused.status_code, refused.headers["retry-after"])
            assert 200 == visitor.get("/").status_code

    @pytest.mark.parametrize("server", ["uvicorn"], indirect=True, scope="module")
    def test_places_on_an_asgi_server(self, site: Site, visitor: httpx.Client, watched: Printer) -> None:
        """There a feed holds no thread: sixty are open, more than there are threads, and each gets what happens."""
        after, printer = latest(visitor), number(visitor, watched)
        with ExitStack() as stack:
            readers = stack.enter_context(site.client())
            feeds = [stack.enter_context(follow(readers, after)) for _ in range(60)]
            watched.answers = False
            submit(visitor, "/ask/")
            notifications = [feed.about(printer) for feed in feeds]

        assert ["down"] * 60 == [one["state"] for one in notifications]


class TestBackground:
    """What goes on beside requests, on their loop."""

    def test_work_outlives_its_response(self, visitor: httpx.Client, watched: Printer) -> None:
        """The button is answered while the site that it asks is silent; what that says later is told all the same."""
        after, printer = latest(visitor), number(visitor, watched)
        watched.asked.clear()
        watched.silent.set()
        assert 202 == submit(visitor, "/ask/").status_code
        assert watched.asked.wait(PROCESS_PATIENCE)
        watched.answers = False
        with follow(visitor, after) as events:
            watched.speak.set()
            assert "down" == events.about(printer)["state"]

    def test_history(self, visitor: httpx.Client, watched: Printer) -> None:
        """The export, an async generator over the database, has a line for each notification."""
        answer = visitor.get("/history.csv")
        lines = answer.text.splitlines()

        assert "content-length" not in answer.headers
        assert "at,site,state,answer" == lines[0]
        assert any(re.search(r",Printer,up,200 OK in \d+ ms$", line) for line in lines[1:])
        assert len(lines) - 1 == len(visitor.get("/notifications/").json()["notifications"])


class TestStop:
    """SIGTERM, with an open feed."""

    def test_stops(self, server: str) -> None:
        """The feed ends, the work in the background and the client are closed, and nothing is left over."""
        with served(server) as site, site.client() as client, follow(client) as events:
            assert {"History", "Lamp", "Old intranet"} == {events.next()["text"].rpartition(" is ")[0] for _ in "123"}
            ended = gathered(events.rest)
            status = site.stop(signal.SIGTERM)
            ended()
            output = "".join(site.output)

            assert STATUS[server] == status, output
            assert "feed closed, 0 open" in output
            assert "watcher stopped" in output
            assert "Traceback" not in output
            assert not site.leaves_processes()


def gathered(function: Callable[[], object]) -> Callable[[], None]:
    """Call it in a thread of its own; what is returned waits for its end."""

    def call() -> None:
        with suppress(httpx.RemoteProtocolError):  # a server may also cut the connection
            function()

    def wait() -> None:
        thread.join(PROCESS_PATIENCE)
        assert not thread.is_alive(), "the feed does not end"

    # No test that fails has to wait for it.
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return wait
