"""The site that `make site` has built, as a reader sees it: in a browser, narrow and wide, light and dark."""

import contextlib
import functools
import http.server
import importlib
import json
import os
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.browser import Browser
from support.paths import ROOT

pytestmark = [pytest.mark.site, pytest.mark.debian("chromium-headless-shell")]

SITE = ROOT / os.environ.get("BRIDGE_SITE", "site")
NARROW, WIDE = 390, 1300  # CSS pixels


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files, without a line for each."""

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all."""
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def pages() -> list[str]:
    """The pages of the site, without those that show a file of the source."""
    found = [path.relative_to(SITE).as_posix() for path in SITE.rglob("index.html")]
    return sorted(page.removesuffix("index.html") for page in found if not page.startswith("source/"))


def prefer(browser: Browser, scheme: str) -> None:
    """What the system of the reader says: light, or dark."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def found_by(browser: Browser, base: str, words: str) -> list[str]:
    """The pages that a search finds, the best first."""
    browser.open(f"{base}?q={words.replace(' ', '%20')}")
    browser.wait_for('document.querySelectorAll(".md-search-result__item a.md-search-result__link").length > 0')
    links = browser.run(
        '[...document.querySelectorAll(".md-search-result__item > a.md-search-result__link")].map((link) => link.href)'
    )
    return [re.sub(r"[?#].*", "", link).removeprefix(base) for link in links]


# What somebody types, and the page that is to be among the first three.
SEARCHES = {
    "--reload": "troubleshooting/",
    "--workers": "howto/tuning/",
    "411": "troubleshooting/",
    "413": "troubleshooting/",
    "426": "troubleshooting/",
    "431": "troubleshooting/",
    "502": "troubleshooting/",
    "503": "troubleshooting/",
    "a2wsgi": "migrating/",
    "aiohttp": "why/",
    "Apache": "servers/apache/",
    "app.mount": "howto/fastapi/",
    "AppRegistryNotReady": "troubleshooting/",
    "ASGI vs WSGI": "why/",
    "asgiref": "migrating/",
    "AWS Lambda": "servers/serverless/",
    "background tasks": "options/",
    "BackgroundTasks": "options/",
    "benchmark": "performance/",
    "bridge check": "options/",
    "bridge_report": "django_report/",
    "Caddy": "deploying/",
    "broken pipe": "troubleshooting/",
    "CancelledError": "troubleshooting/",
    "cannot call this from an async context": "troubleshooting/",
    "Celery": "howto/celery/",
    "Channels": "howto/channels/",
    "client IP": "deploying/",
    "Cloud Run": "deploying/",
    "concurrency": "howto/tuning/",
    "contextvars": "how_it_works/",
    "CORS": "mixing/",
    "Ctrl-C": "howto/stopping/",
    "CVE": "security/",
    "database is locked": "troubleshooting/",
    "deadlock": "troubleshooting/",
    "debug toolbar": "howto/debug_toolbar/",
    "deprecated": "security/",
    "different loop": "troubleshooting/",
    "DispatcherMiddleware": "mixing/",
    "django-ninja": "howto/django_ninja/",
    "djangorestframework": "howto/django_rest_framework/",
    "Docker": "deploying/",
    "download": "howto/tuning/",
    "DRF": "howto/django_rest_framework/",
    "event loop is closed": "troubleshooting/",
    "EventSource": "troubleshooting/",
    "fastapi mount": "howto/fastapi/",
    "file upload": "howto/tuning/",
    "flask": "howto/flask/",
    "free-threaded": "pythons/",
    "freeze at reload": "troubleshooting/",
    "get_asgi_application": "reference/",
    "getting started": "tutorial/",
    "GIL": "pythons/",
    "GraphQL": "howto/graphql/",
    "gunicorn timeout": "servers/gunicorn/",
    "gzip": "troubleshooting/",
    "hangs at stop": "troubleshooting/",
    "HAProxy": "deploying/",
    "health check": "deploying/",
    "hot reload": "troubleshooting/",
    "how to stop": "howto/stopping/",
    "how to upgrade": "security/",
    "HTTP/3": "servers/",
    "http2": "servers/",
    "http3": "servers/",
    "Kubernetes": "deploying/",
    "license": "overview/",
    "liveness probe": "deploying/",
    "load balancer": "deploying/",
    "long polling": "django/",
    "max_body": "options/",
    "memory leak": "troubleshooting/",
    "missing 1 required positional argument": "troubleshooting/",
    "mod_wsgi": "servers/apache/",
    "mypy": "reference/",
    "New Relic": "observability/",
    "No module named bridge": "troubleshooting/",
    "nogil": "pythons/",
    "nothing streams": "troubleshooting/",
    "on_startup": "options/",
    "OpenTelemetry": "howto/tracing/",
    "overhead": "performance/",
    "PgBouncer": "howto/tuning/",
    "Prometheus": "howto/metrics/",
    "PyPy": "pythons/",
    "quickstart": "tutorial/",
    "range requests": "howto/tuning/",
    "readiness": "deploying/",
    "REMOTE_ADDR": "deploying/",
    "Render": "deploying/",
    "report a vulnerability": "security/",
    "request hangs": "troubleshooting/",
    "reverse proxy": "deploying/",
    "root_path": "mixing/",
    "SCRIPT_NAME": "mixing/",
    "sendfile": "howto/tuning/",
    "Sentry": "observability/",
    "server sent events": "troubleshooting/",
    "SQLAlchemy": "howto/tuning/",
    "SSE": "troubleshooting/",
    "startup": "howto/flask/",
    "static files": "howto/whitenoise/",
    "StatsD": "observability/",
    "streaming": "troubleshooting/",
    "StreamingResponse": "troubleshooting/",
    "subdirectory": "mixing/",
    "thread local": "how_it_works/",
    "thread pool": "howto/tuning/",
    "thread-safe": "howto/tuning/",
    "threadlocal": "how_it_works/",
    "too many clients": "troubleshooting/",
    "too many connections": "howto/tuning/",
    "too many open files": "troubleshooting/",
    "Traefik": "deploying/",
    "Tornado": "why/",
    "type hints": "reference/",
    "typing": "reference/",
    "uninstall": "migrating/",
    "upload limit": "troubleshooting/",
    "UvicornWorker": "servers/gunicorn/",
    "uwsgi threads": "servers/uwsgi/",
    "vercel": "servers/serverless/",
    "version": "options/",
    "vulnerability": "security/",
    "WebSocket": "websockets/",
    "websocket apache": "servers/apache/",
    "whitenoise": "howto/whitenoise/",
    "workers": "howto/tuning/",
    "X-Accel-Redirect": "howto/tuning/",
    "X-Forwarded-For": "deploying/",
    "Zappa": "servers/serverless/",
}


class TestSearch:
    @pytest.mark.parametrize(("words", "page"), SEARCHES.items(), ids=SEARCHES)
    def test_a_search_finds_the_page(self, browser: Browser, base: str, words: str, page: str) -> None:
        """The right one is among the first three."""
        assert page in found_by(browser, base, words)[:3]

    def test_the_source_is_not_found(self) -> None:
        """Pages that show a file are in no result: they would be in all of them."""
        index = json.loads((SITE / "search" / "search_index.json").read_text(encoding="utf-8"))
        assert [] == [entry["location"] for entry in index["docs"] if entry["location"].startswith("source/")]
        assert len(index["docs"]) > 200


class TestPages:
    @pytest.mark.timeout(600)  # some sixty pages, each of which makes its index for the search
    def test_nothing_overflows_or_complains(self, browser: Browser, base: str) -> None:
        """No page is wider than its window, narrow or wide; none throws; and each diagram is drawn."""
        overflowing, empty = [], []
        for page in pages():
            browser.open(base + page, width=WIDE, height=900)
            for width in (WIDE, NARROW):
                browser.call(
                    "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
                )
                if browser.run("document.documentElement.scrollWidth > innerWidth"):
                    overflowing.append((page, width))
            if browser.run('document.querySelector("pre.mermaid, div.mermaid") !== null'):
                browser.wait_for('document.querySelector("pre.mermaid") === null')
                drawn = '[...document.querySelectorAll("div.mermaid")].every((drawing) => drawing.offsetHeight > 100)'
                if not browser.run(drawn):
                    empty.append(page)
        assert ([], [], []) == (overflowing, empty, browser.complaints)

    @pytest.mark.timeout(600)  # as above
    def test_tables_fit_a_phone(self, browser: Browser, base: str) -> None:
        """None of them scrolls sideways."""
        scrolling = {}
        for page in pages():
            if "<table>" not in (SITE / page / "index.html").read_text(encoding="utf-8"):
                continue
            browser.open(base + page, width=NARROW, height=900)
            browser.wait_for('document.querySelector(".md-typeset__scrollwrap") !== null')
            browser.run('document.querySelectorAll("details").forEach((one) => { one.open = true; })')
            wide = browser.run(
                '[...document.querySelectorAll(".md-typeset__scrollwrap")]'
                ".filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.innerText.slice(0, 80))"
            )
            if wide:
                scrolling[page] = wide
        assert {} == scrolling

    @pytest.mark.parametrize(("scheme", "darkest"), [("light", "default"), ("dark", "slate")])
    def test_it_is_light_or_dark_as_the_system_is(self, browser: Browser, base: str, scheme: str, darkest: str) -> None:
        """And what is written is readable on its ground: at least 4.5 to 1 (WCAG 1.4.3)."""
        prefer(browser, scheme)
        browser.open(base)
        assert darkest == browser.run("document.body.dataset.mdColorScheme")
        colours = "getComputedStyle(document.querySelector('%s')).%s"
        ground = browser.run(colours % ("body", "backgroundColor"))
        for what in ("article p", "article h1", "article h2", "article p a"):
            assert contrast(browser.run(colours % (what, "color")), ground) > 4.5, what
        bar = browser.run(colours % ("header", "backgroundColor"))
        assert contrast(browser.run(colours % ("header .md-header__title", "color")), bar) > 4.5

    def test_pictures_are_those_of_the_scheme(self, browser: Browser, base: str) -> None:
        """Of a pair `#only-light` and `#only-dark` one is seen."""
        for scheme in ("light", "dark"):
            prefer(browser, scheme)
            browser.open(base + "examples/mixed/")
            browser.run(
                """document.querySelector("article").insertAdjacentHTML("beforeend",
                '<img id="l" src="x.svg#only-light"><img id="d" src="x.svg#only-dark">')"""
            )
            seen = [
                name
                for name, short in (("light", "l"), ("dark", "d"))
                if browser.run(f"getComputedStyle(document.getElementById('{short}')).display") != "none"
            ]
            assert [scheme] == seen
        browser.complaints.clear()  # there is no x.svg

    def test_a_console_is_copied_without_prompts(self, browser: Browser, base: str) -> None:
        """And without what its commands print."""
        browser.open(base + "howto/flask/")
        copied = browser.run('document.querySelector("[data-copy]").dataset.copy').splitlines()
        commands = ["uvicorn shop:application --port 8000 --log-level warning &", "curl http://127.0.0.1:8000/"]
        assert commands == copied[:2]
        assert not [line for line in copied if line.startswith(("$", "home"))]

    def test_a_picture_for_each_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a code host takes for it becomes what the site takes."""
        monkeypatch.syspath_prepend(str(ROOT / "scripts"))
        text = """before
<picture>
  <source media="(prefers-color-scheme: dark)" srcset="images/bench-dark.svg">
  <img alt="Requests a second" src="images/bench-light.svg">
</picture>
after"""
        expected = "![Requests a second](images/bench-light.svg#only-light)"
        expected += " ![Requests a second](images/bench-dark.svg#only-dark)"
        assert f"before\n{expected}\nafter" == importlib.import_module("site_hooks").pictures(text)

    def test_nothing_is_loaded_from_elsewhere(self, browser: Browser, base: str) -> None:
        """Neither fonts nor scripts nor pictures."""
        elsewhere = []
        for page in ("", "order/", "reference/", "troubleshooting/", "examples/mixed/"):
            browser.open(base + page)
            loaded = browser.run('performance.getEntriesByType("resource").map((entry) => entry.name)')
            elsewhere += [name for name in loaded if not name.startswith((base, "data:", "blob:"))]
        assert [] == elsewhere

    def test_no_page_names_a_resource_elsewhere(self) -> None:
        """In none of them, looked at or not."""
        assert {} == {page: found for page in pages() if (found := Resources.of(SITE / page / "index.html"))}


def contrast(one: str, other: str) -> float:
    """The ratio of two CSS colours' luminances; a transparent colour is laid on the other one."""
    ground = _rgb(other, (255.0, 255.0, 255.0))
    lights = sorted(_luminance(colour) for colour in (_rgb(one, ground), ground))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _rgb(colour: str, ground: tuple[float, ...]) -> tuple[float, ...]:
    *channels, last = [float(number) for number in re.findall(r"[\d.]+", colour)]
    if len(channels) == 2:
        return (*channels, last)
    return tuple(last * over + (1 - last) * under for over, under in zip(channels, ground, strict=True))


def _luminance(colour: tuple[float, ...]) -> float:
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


class Resources(HTMLParser):
    """What a page has its reader's browser load from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @classmethod
    def of(cls, page: Path) -> list[str]:
        parser = cls()
        parser.feed(page.read_text(encoding="utf-8"))
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        with contextlib.suppress(KeyError):
            address = values["href" if tag == "link" else "src"] or ""
            if tag != "a" and re.match(r"(https?:)?//", address):
                self.found.append(address)
