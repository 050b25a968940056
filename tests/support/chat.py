"""The chat of `examples/django_async`, for its tests: its pages in a browser, and what a client does without one."""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from support.browser import Browser
from support.example_process import Site

PLACES = 6
SETTINGS = {
    "LOOKOUT_INTERVAL": "3600",  # the sites are asked once at the start, and when a test says so
    "LOOKOUT_HEARTBEAT": "0.5",
    "LOOKOUT_PRESENCE": "15",
    "LOOKOUT_CHATS": str(PLACES),
}


def nobody_is_here(output: list[str]) -> bool:
    pages = [line for line in output if re.search(r"chat: .*, \d+ here", line)]
    return not pages or pages[-1].endswith(" 0 here\n")


class Page(Browser):
    """A browser with the page of a room."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        own = directory / name
        own.mkdir()
        super().__init__(own)

    def enter(self, url: str, room: str = "lobby", **size: int) -> None:
        """Say one's name, and wait until the room is live."""
        self.open(f"{url}/chat/?room={room}", **size)
        fill_in = f"document.querySelector('#id_name').value = {self.name!r}"
        self.loading(lambda: self.run(f"{fill_in}, document.querySelector('.door').requestSubmit()"))
        self.wait_until_live()

    def go(self, room: str) -> None:
        """On to another room, by its link."""
        link = f'#rooms a[data-room="{room}"]'
        self.loading(lambda: self.run(f"document.querySelector('{link}').click()"))
        self.wait_until_live()

    def reload(self) -> None:
        self.loading(lambda: self.run("location.reload()"))
        self.wait_until_live()

    def wait_until_live(self) -> None:
        self.wait_for("document.querySelector('#connection').dataset.state == 'live'")

    def way(self) -> str:
        """How the page is connected."""
        return str(self.run("document.querySelector('#connection').dataset.way"))

    def type(self, text: str) -> None:
        """Say something, by the keyboard."""
        self.run("document.querySelector('#text').focus()")
        self.call("Input.insertText", text=text)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def wait_for_message(self, text: str) -> None:
        self.wait_for_text("#log .text", text)

    def wait_for_notice(self, text: str) -> None:
        self.wait_for_text("#elsewhere a", text)

    def wait_for_text(self, selector: str, text: str) -> None:
        """Until an element has just this text."""
        self.wait_for(
            f"[...document.querySelectorAll('{selector}')].some(one => one.textContent == {json.dumps(text)})"
        )

    def wait_for_names(self, *names: str) -> None:
        """Until these, and nobody else, are said to be here."""
        here = "[...document.querySelectorAll('#here li')].map(one => one.lastChild.data).join()"
        self.wait_for(f"{here} == {','.join(names)!r}")

    def messages(self) -> list[str]:
        """What the log shows, from top to bottom."""
        found = self.run("[...document.querySelectorAll('#log .text')].map(one => one.textContent)")
        return [str(text) for text in found]


@contextmanager
def pages(directory: Path, *names: str) -> Iterator[list[Page]]:
    """A browser for each name; none may have anything to complain of."""
    with ExitStack() as stack:
        opened = [stack.enter_context(Page(directory, name)) for name in names]
        yield opened
    for page in opened:
        # But for what Chromium itself says where there is no WebSocket, or no server.
        complaints = [each for each in page.complaints if "/live/" not in each and "net::ERR_" not in each]
        assert [] == complaints, complaints


@contextmanager
def guest(site: Site, name: str = "") -> Iterator[httpx.Client]:
    """A client that has said its name, by default one that nobody else has."""
    with site.client() as client:
        client.get("/chat/")
        answer = client.post("/chat/", data={"name": name or f"Guest {uuid.uuid4().hex[:8]}"}, headers=token(client))
        assert (302, "/chat/lobby/") == (answer.status_code, answer.headers["location"]), answer.text
        yield client


def token(client: httpx.Client) -> dict[str, str]:
    """What a page sends along with a POST."""
    return {"X-CSRFToken": client.cookies["csrftoken"]}


def post(client: httpx.Client, room: str, text: str, key: str | None = None) -> list[dict[str, Any]]:
    """Say something by POST; what the server has to say of it."""
    data = {"key": key or uuid.uuid4().hex, "text": text}
    headers = token(client) | {"Accept": "application/json"}
    answer = client.post(f"/chat/{room}/say/", data=data, headers=headers)
    assert 200 == answer.status_code, answer.text
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def history(client: httpx.Client, room: str, before: int = 2**31 - 1) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = client.get(f"/chat/{room}/history/", params={"before": before}).json()["messages"]
    return messages


class Events:
    """What comes over a stream or a WebSocket."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def next(self, kind: str) -> dict[str, Any]:
        """The next of a kind; fails where there is none."""
        for event in self:
            if event["type"] == kind:
                return event
        raise AssertionError(f"it has ended without {kind!r}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (json.loads(line.removeprefix("data: ")) for line in self._lines if line)


@contextmanager
def stream(client: httpx.Client, room: str = "lobby", after: int = 0) -> Iterator[Events]:
    """An open stream of server-sent events."""
    with client.stream("GET", f"/chat/{room}/live/", params={"after": after}) as response:
        assert (200, "text/event-stream") == (response.status_code, response.headers["content-type"])
        events = Events(response.iter_lines())
        yield events
