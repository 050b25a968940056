"""A browser as the client: what JavaScript sees of WebSockets through `AsgiToWsgi`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import servers
from real_servers.websocket_kinds import QUIET_APP
from support.browser import Browser
from support.waiting import until

pytestmark = pytest.mark.debian("chromium-headless-shell")

# A promise of all that happens to one WebSocket until it is closed: `talk` is called for each message.
SESSION: Final = """new Promise((resolve) => {
    const seen = {messages: [], error: false}, socket = new WebSocket(%r, %s);
    socket.binaryType = "arraybuffer";
    socket.onerror = () => { seen.error = true; };
    socket.onopen = () => {
        seen.protocol = socket.protocol; seen.extensions = socket.extensions; talk(socket, seen.messages);
    };
    socket.onmessage = (event) => {
        const data = event.data;
        seen.messages.push(typeof data == "string" ? data : [...new Uint8Array(data)]);
        talk(socket, seen.messages);
    };
    socket.onclose = (event) => { resolve({...seen, code: event.code, reason: event.reason, clean: event.wasClean}); };
    const talk = (socket, messages) => { %s };
})"""
RUNS: Final[list[tuple[Callable[[Path, str], servers.Running], bool]]] = [
    (servers.gunicorn_gthread, True),
    (servers.waitress_websockets, False),
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(run, id=run.__name__, marks=[] if core else [pytest.mark.servers]) for run, core in RUNS],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with request.param(tmp_path_factory.mktemp("site"), QUIET_APP) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def browser(server: servers.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """At a page of the server, which has set a cookie."""
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.open(f"http://127.0.0.1:{server.port}/hello")
        opened.run("document.cookie = 'name=ann'")
        yield opened


def session(browser: Browser, server: servers.Server, path: str, talk: str = "", protocols: str = "[]") -> Any:
    """All that the page sees; `talk` has `socket`, and the `messages` so far."""
    return browser.run(SESSION % (f"ws://127.0.0.1:{server.port}{path}", protocols, talk))


def test_messages_come_back(browser: Browser, server: servers.Server) -> None:
    """Text, bytes and 200 kB, compressed, with a subprotocol; and each side is told how the other one closes."""
    talk = """
        const said = ["héllo", new Uint8Array([0, 255, 128]), "é".repeat(100_000)];
        if (messages.length < said.length) socket.send(said[messages.length]); else socket.close(4001, "och, nö");
    """
    seen = session(browser, server, "/echo", talk, '["one", "two"]')

    assert ["héllo", [0, 255, 128], "é" * 100_000] == seen["messages"]
    assert ("two", False) == (seen["protocol"], seen["error"])
    assert seen["extensions"].startswith("permessage-deflate")
    assert (4001, "och, nö", True) == (seen["code"], seen["reason"], seen["clean"])
    until(lambda: "4001 och, nö" in server.signals.told("departed"))


def test_the_app_closes(browser: Browser, server: servers.Server) -> None:
    seen = session(browser, server, "/close")

    assert (3001, "done", True) == (seen["code"], seen["reason"], seen["clean"])
    until(lambda: "3001 done" in server.signals.told("departed"))


def test_the_app_sees_the_cookie(browser: Browser, server: servers.Server) -> None:
    assert ["name=ann"] == session(browser, server, "/cookie")["messages"]


@pytest.mark.parametrize("path", ["/refuse", "/deny"])
def test_a_denial_is_an_error(path: str, browser: Browser, server: servers.Server) -> None:
    """A page is told no more than that; and the next session is served."""
    seen = session(browser, server, path)

    assert (True, 1006, False) == (seen["error"], seen["code"], seen["clean"])
    assert ["name=ann"] == session(browser, server, "/cookie")["messages"]
