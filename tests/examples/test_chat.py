"""The chat of `examples/django_async`, under Uvicorn, Gunicorn and Apache with mod_wsgi, in browsers and without."""

import json
import re
import signal
import sqlite3
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support.browser import Browser
from support.example_process import Site
from support.lookout import PROJECT, READY, WSGI, Lookout, lookout
from support.paths import ROOT
from support.redis_server import redis_server

PICTURES = PROJECT / "var" / "screenshots"
PATIENCE = 30.0
PLACES = 6
SETTINGS = {
    "LOOKOUT_INTERVAL": "3600",  # the sites are asked once at the start, and when a test says so
    "LOOKOUT_HEARTBEAT": "0.5",
    "LOOKOUT_PRESENCE": "15",
    "LOOKOUT_CHATS": str(PLACES),
}
# With these, nothing comes by looking into the database now and then.
ONLY_BY_BUS = SETTINGS | {"LOOKOUT_HEARTBEAT": "3600", "LOOKOUT_PRESENCE": "36000"}
WEBSOCKETS = ["uvicorn", "gunicorn"]
LONGEST = 1000
MANY = 200  # events: what has not come among these does not come

# The first run makes the virtual environment for Apache.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=list(READY))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(server: str) -> Iterator[Site]:
    """The example, for the tests that leave it running."""
    with lookout(server, SETTINGS) as place, place.serving("--chat") as running:
        yield running
        output = "".join(running.output)
        assert "Traceback" not in output, output


@pytest.fixture
def empty(site: Site) -> Site:
    """The same, where nobody is in the chat; a server may notice only late that pages have gone."""
    assert site.once(nobody_is_here), "".join(site.output)
    return site


def nobody_is_here(output: list[str]) -> bool:
    pages = [line for line in output if re.search(r"chat: .*, \d+ here", line)]
    return not pages or pages[-1].endswith(" 0 here\n")


# ------------------------------------------------------------------------------------------------------- in browsers


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
        # What Chromium itself says where there is no WebSocket, or no server.
        assert [] == [each for each in page.complaints if "/live/" not in each]


class TestInBrowsers:
    """Two pages of two people."""

    def test_they_talk(self, empty: Site, server: str, tmp_path: Path) -> None:
        """Each sees at once what the other one says, and who is there; over the best way that the server has."""
        with pages(tmp_path, "Kim", "Sam") as (kim, sam):
            kim.enter(empty.url)
            kim.wait_for_names("Kim (you)")
            sam.enter(empty.url)
            kim.wait_for_names("Kim (you)", "Sam")
            sam.wait_for_names("Kim", "Sam (you)")
            kim.type("Is anybody there?")
            sam.wait_for_message("Is anybody there?")
            sam.type("<b>I</b> am, & so is Ole & Åse")
            kim.wait_for_message("<b>I</b> am, & so is Ole & Åse")
            sam.wait_for("document.querySelectorAll('#outbox li').length == 0")
            ways = [kim.way(), sam.way()]
            kim.reload()
            again, there = kim.messages(), sam.messages()
            keep(kim, f"chat-{server}.png", tmp_path)
            sam.call("Page.navigate", url="about:blank")
            kim.wait_for_names("Kim (you)")

        assert ["WebSocket" if server in WEBSOCKETS else "events"] * 2 == ways
        assert ["Is anybody there?", "<b>I</b> am, & so is Ole & Åse"] == again[-2:]
        assert again == there

    def test_they_hear_of_the_rest(self, empty: Site, tmp_path: Path) -> None:
        """What is said in another room, and what becomes of a site, appears beside the conversation."""
        with pages(tmp_path, "Kim", "Sam") as (kim, sam):
            kim.enter(empty.url, "kitchen")
            sam.enter(empty.url, "lobby")
            sam.go("on-call")
            sam.type("The printer is on fire")
            kim.wait_for_notice("On call · Sam The printer is on fire")
            unread = kim.run("document.querySelector('#rooms a[data-room=on-call] .unread').textContent")
            kim.run(WATCH % "Printer")
            for page in (kim, sam):
                page.wait_for_text("#elsewhere .from", "Printer is down")
            kim.go("on-call")
            read = kim.run("document.querySelector('#rooms a[data-room=on-call] .unread').hidden")
            kim.wait_for_message("The printer is on fire")

        assert ("1", True) == (unread, read)

    def test_history(self, empty: Site, tmp_path: Path) -> None:
        """A page shows the latest fifty messages, and those before when it is asked to, in order."""
        said = [f"No. {number}" for number in range(70)]
        with guest(empty) as ole:
            before = len(history(ole, "kitchen"))
            for text in said:
                post(ole, "kitchen", text)
        with pages(tmp_path, "Kim") as (kim,):
            kim.enter(empty.url, "kitchen")
            at_first = kim.messages()
            kim.run("document.querySelector('#earlier').click()")
            kim.wait_for("document.querySelectorAll('#log li').length > 50")
            with_earlier = kim.messages()

        assert said[-50:] == at_first
        assert said == with_earlier[min(before, 30) :]

    @pytest.mark.parametrize("server", WSGI, indirect=True, scope="module")
    def test_no_place_is_free(self, empty: Site, tmp_path: Path) -> None:
        """Pages never take all threads. One that finds no place says so, and gets one when there is one."""
        with pages(tmp_path, "Kim") as (kim,):
            with ExitStack() as stack:
                for _ in range(PLACES):
                    stack.enter_context(stream(stack.enter_context(guest(empty))))
                kim.open(f"{empty.url}/chat/")
                kim.loading(lambda: kim.run(COME_IN % "Kim"))
                kim.wait_for("/all places are taken/.test(document.querySelector('#connection').textContent)")
            kim.wait_until_live()


COME_IN = "document.querySelector('#id_name').value = '%s', document.querySelector('.door').requestSubmit()"
# A site that is down, by the form of the other page.
WATCH = """(async () => {
    const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
    const form = new FormData(page.querySelector("#watch"));
    form.set("name", "%s");
    form.set("url", "http://127.0.0.1:9/");
    return (await fetch("/", {method: "POST", body: form})).status;
})()"""


def keep(page: Page, name: str, directory: Path) -> None:
    """A screenshot to be looked at after the test."""
    page.run("Promise.all(document.getAnimations().map(animation => animation.finished)).then(() => 1)")
    page.screenshot(directory / name)
    assert (directory / name).read_bytes().startswith(b"\x89PNG")
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / name).write_bytes((directory / name).read_bytes())


class TestRestart:
    """The server goes away in the middle, and comes back."""

    def test_nothing_is_lost(self, server: str, tmp_path: Path) -> None:
        """The pages say so, and connect again by themselves; what was said meanwhile arrives, once."""
        with lookout(server, SETTINGS) as place, pages(tmp_path, "Kim", "Sam") as (kim, sam):
            with place.serving("--chat") as site:
                kim.enter(site.url)
                sam.enter(site.url)
                kim.type("Before")
                sam.wait_for_message("Before")
                site.stop(signal.SIGTERM)
            for page in (kim, sam):
                page.wait_for("/reconnecting in/.test(document.querySelector('#connection').textContent)")
            kim.type("Meanwhile 1")
            kim.type("Meanwhile 2")
            sam.type("And I")
            waiting = kim.run("document.querySelectorAll('#outbox li').length")
            with place.serving("--chat") as site:
                for page in (kim, sam):
                    for text in ("Meanwhile 1", "Meanwhile 2", "And I"):
                        page.wait_for_message(text)
                    page.wait_for("document.querySelectorAll('#outbox li').length == 0")
                kim.wait_for_names("Kim (you)", "Sam")
                sam.type("After")
                kim.wait_for_message("After")
                shown = [kim.messages(), sam.messages()]
                with guest(site) as ole:
                    kept = [message["text"] for message in history(ole, "lobby")]

        assert 2 == waiting
        assert [kept, kept] == shown
        assert ["After", "And I", "Before", "Meanwhile 1", "Meanwhile 2"] == sorted(kept)
        assert kept.index("Meanwhile 1") < kept.index("Meanwhile 2")

    def test_ctrl_c(self, server: str, tmp_path: Path) -> None:
        """Open pages keep no server from its end, what has been started is stopped, and nobody is left behind."""
        with lookout(server, SETTINGS) as place, pages(tmp_path, "Kim") as (kim,), place.serving("--chat") as site:
            kim.enter(site.url)
            status = site.stop(signal.SIGINT, all_of_it=True)
            output = "".join(site.output)
            with closing(sqlite3.connect(place.database)) as database:
                present = database.execute("SELECT name FROM chat_presence").fetchall()

        assert 0 == status, output
        assert [] == present, output
        assert "watcher stopped" in output
        assert "Traceback" not in output


class TestProcesses:
    """Two workers of Gunicorn."""

    def test_through_redis(self, tmp_path: Path) -> None:
        """Pages at different workers talk, see each other, and hear of other rooms, all of it through Redis."""
        with (
            redis_server(tmp_path) as redis,
            two_workers(ONLY_BY_BUS | {"REDIS_URL": redis.url}) as (place, site),
            pages(tmp_path, "Kim", "Sam") as (kim, sam),
        ):
            at_different_workers(place, kim, sam, site.url)
            kim.type("Hello over there")
            sam.wait_for_message("Hello over there")
            sam.type("Hello")
            kim.wait_for_message("Hello")
            kim.wait_for_names("Kim (you)", "Sam")
            sam.wait_for_names("Kim", "Sam (you)")
            kim.run(WATCH % "Printer")
            for page in (kim, sam):
                page.wait_for_text("#elsewhere .from", "Printer is down")
            output = "".join(site.output)

        assert "REDIS_URL" not in output.partition("Starting gunicorn")[2]
        assert "Traceback" not in output

    def test_redis_goes_and_comes(self, tmp_path: Path) -> None:
        """While it is away messages come by way of the database; afterwards all is as before."""
        with (
            redis_server(tmp_path) as redis,
            two_workers(SETTINGS | {"REDIS_URL": redis.url}) as (place, site),
            pages(tmp_path, "Kim", "Sam") as (kim, sam),
        ):
            at_different_workers(place, kim, sam, site.url)
            redis.stop()
            site.line("Redis: .*trying again")
            kim.type("Is Redis away?")
            kim.wait_for_message("Is Redis away?")
            sam.wait_for_message("Is Redis away?")
            mark = len(site.output)
            redis.start()
            assert site.once(lambda lines: sum("Redis: listening" in line for line in lines[mark:]) == 2)
            sam.type("It is back")
            kim.wait_for_message("It is back")
            shown = [kim.messages(), sam.messages()]
            output = "".join(site.output)

        assert [["Is Redis away?", "It is back"]] * 2 == shown
        assert "other processes are not told" in output
        assert "Traceback" not in output

    def test_without_redis(self, tmp_path: Path) -> None:
        """What one says comes late to the other, but comes; the log says what to do."""
        settings = SETTINGS | {"LOOKOUT_PRESENCE": "3"}
        with two_workers(settings) as (place, site), pages(tmp_path, "Kim", "Sam") as (kim, sam):
            site.line("Several workers, and REDIS_URL names no Redis server")
            at_different_workers(place, kim, sam, site.url)
            kim.type("Hello over there")
            sam.wait_for_message("Hello over there")
            site.line("several processes serve the chat.* Set REDIS_URL")


@contextmanager
def two_workers(settings: dict[str, str]) -> Iterator[tuple[Lookout, Site]]:
    with lookout("gunicorn", settings | {"WEB_CONCURRENCY": "2"}) as place, place.serving("--chat") as site:
        assert site.once(lambda lines: sum("Booting worker" in line for line in lines) == 2)
        yield place, site


def at_different_workers(place: Lookout, kim: Page, sam: Page, url: str) -> None:
    """Both pages in the lobby; the second connects again until it finds the other worker."""
    kim.enter(url)
    sam.enter(url)
    kim.wait_for_names("Kim (you)", "Sam")
    for _ in range(50):
        with closing(sqlite3.connect(place.database)) as database:
            processes = dict(database.execute("SELECT name, process FROM chat_presence"))
        if processes["Kim"] != processes["Sam"]:
            return
        sam.reload()
        kim.wait_for_names("Kim (you)", "Sam")
    raise AssertionError("Gunicorn gives all connections to one worker")


# --------------------------------------------------------------------------------------------------- without browsers


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


def socket_of(client: httpx.Client, room: str = "lobby", query: str = "after=0", **options: Any) -> ClientConnection:
    """An open WebSocket, with the cookies of a client."""
    url = str(client.base_url.join(f"/chat/{room}/live/?{query}"))
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    options = {"origin": str(client.base_url).rstrip("/")} | options
    return connect(
        url.replace("http", "ws"), additional_headers={"Cookie": cookies}, proxy=None, open_timeout=PATIENCE, **options
    )


def texts(socket: ClientConnection) -> Iterator[str]:
    while True:
        yield str(socket.recv(PATIENCE))


class TestPresence:
    """Who is here."""

    def test_a_page_that_vanishes(self, empty: Site) -> None:
        """One that is connected, and does not say any more that it is there, is taken out, and its connection ended."""
        with (
            guest(empty, "Åse") as here,
            guest(empty, "Ole") as vanishing,
            stream(here) as events,
            stream(vanishing) as dead,
        ):
            page = events.next("hello")["page"]
            while names(events.next("here")) != ["Ole", "Åse"]:
                pass
            answer_ticks(here, events, page, until=lambda event: event["type"] == "here" and names(event) == ["Åse"])
            kinds = [event["type"] for event in islice(dead, MANY)]
            assert "hello" == kinds[0]
            assert len(kinds) < MANY  # it has an end

    def test_a_name_that_is_taken(self, empty: Site) -> None:
        """Nobody comes in under the name of somebody who is there; afterwards it is free."""
        with guest(empty, "Ole") as ole, empty.client() as other:
            with stream(ole) as events:
                events.next("hello")
                other.get("/chat/")
                refused = other.post("/chat/", data={"name": "OLE"}, headers=token(other))
            assert empty.once(nobody_is_here)
            taken = other.post("/chat/", data={"name": "OLE"}, headers=token(other))

        assert (200, True) == (refused.status_code, "Somebody of this name is here already." in refused.text)
        assert 302 == taken.status_code


def names(event: dict[str, Any]) -> list[str]:
    return sorted(one["name"] for one in event["here"])


def answer_ticks(client: httpx.Client, events: Events, page: str, until: Callable[[dict[str, Any]], bool]) -> None:
    """Say at each tick that the page is still there, as its script does, until some event."""
    for event in islice(events, MANY):
        if until(event):
            return
        if event["type"] == "tick":
            client.post("/chat/lobby/here/", data={"page": page}, headers=token(client))
    raise AssertionError("it does not come")


class TestMessages:
    """What is said by POST, and over WebSockets."""

    def test_it_is_kept_once(self, site: Site) -> None:
        """A page that does not know whether it was heard says the same again; its message is there once."""
        key = uuid.uuid4().hex
        with guest(site) as ole:
            after = last(ole)
            assert [] == post(ole, "lobby", "Once", key) == post(ole, "lobby", "Once", key)
            with stream(ole, after=after) as events:
                assert ("Once", after + 1) == tuple(map(events.next("message").get, ("text", "number")))
            assert after + 1 == last(ole)

    def test_whoever_comes_back(self, site: Site) -> None:
        """It says what it has seen last, and gets all that came after, however much: first the old, then the new."""
        with guest(site) as ole:
            after = last(ole)
            with stream(ole, after=after) as events:
                for number in range(120):
                    post(ole, "lobby", str(number))
                while events.next("numbers")["last"]["lobby"] < after + 120:  # then all are old to the server
                    pass
            with stream(ole, after=after) as events:
                old = [events.next("message") for _ in range(120)]
                post(ole, "lobby", "new")
                new = events.next("message")

        assert [str(number) for number in range(120)] == [message["text"] for message in old]
        assert [*range(after + 1, after + 121)] == [message["number"] for message in old]
        assert ("new", after + 121) == (new["text"], new["number"])

    @pytest.mark.parametrize("text", ["", " ", "x" * (LONGEST + 1), "nul\0"], ids=["empty", "blank", "long", "nul"])
    def test_bad_messages_by_post(self, site: Site, text: str) -> None:
        """They are refused with a reason, and not kept."""
        with guest(site) as ole:
            after = last(ole)
            (refused,) = post(ole, "lobby", text, "0" * 32)

            assert ("refused", "0" * 32) == (refused["type"], refused["key"])
            assert refused["why"]
            assert after == last(ole)

    def test_no_csrf_token(self, site: Site) -> None:
        """A form of another site says nothing in the name of a visitor, and no stranger says anything."""
        with guest(site) as ole, site.client() as stranger:
            stranger.get("/chat/")
            forged = ole.post("/chat/lobby/say/", data={"key": uuid.uuid4().hex, "text": "forged"})
            strange = stranger.post(
                "/chat/lobby/say/", data={"key": uuid.uuid4().hex, "text": "strange"}, headers=token(stranger)
            )
            said = [message["text"] for message in history(ole, "lobby")]
            reading = stranger.get("/chat/lobby/history/", params={"before": 9})

        assert [403, 403, 403] == [forged.status_code, strange.status_code, reading.status_code]
        assert not {"forged", "strange"} & set(said)

    def test_without_javascript(self, site: Site) -> None:
        """The form works by itself, and leads back to the room, where the message is: escaped."""
        with guest(site) as ole:
            page = ole.get("/chat/lobby/").text
            fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', page))
            answer = ole.post(
                "/chat/lobby/say/", data=fields | {"text": "<i>plain</i>"}, headers={"Accept": "text/html"}
            )
            shown = ole.get(answer.headers["location"]).text

        assert (302, "/chat/lobby/") == (answer.status_code, answer.headers["location"])
        assert "&lt;i&gt;plain&lt;/i&gt;" in shown

    def test_no_such_room(self, site: Site) -> None:
        """There is neither a page, nor a stream, nor anything to be said."""
        with guest(site) as ole:
            stream = ole.get("/chat/cellar/live/", params={"after": 0})
            said = ole.post("/chat/cellar/say/", data={"key": "0" * 32, "text": "x"}, headers=token(ole))

            assert [404, 404, 404] == [ole.get("/chat/cellar/").status_code, stream.status_code, said.status_code]

    def test_strangers(self, site: Site) -> None:
        """Without a name there is no room, and a stream says why it ends."""
        with site.client() as stranger, stream(stranger) as events:
            assert "/chat/?room=kitchen" == stranger.get("/chat/kitchen/").headers["location"]
            assert [{"type": "stranger"}] == list(events)


def last(client: httpx.Client) -> int:
    """The number of the latest message in the lobby."""
    return max((message["number"] for message in history(client, "lobby")), default=0)


@pytest.mark.parametrize("server", WEBSOCKETS, indirect=True, scope="module")
class TestWebSockets:
    """What a page cannot do, and others try."""

    def test_it_is_told_and_heard(self, site: Site) -> None:
        """The same as over the stream."""
        with guest(site) as ole:
            after = last(ole)
            with socket_of(ole, query=f"after={after}") as socket:
                events = Events(texts(socket))
                hello = events.next("hello")
                socket.send(json.dumps({"type": "here", "page": hello["page"]}))
                socket.send(json.dumps({"type": "say", "key": "1" * 31 + str(after % 10), "text": "over a socket"}))
                assert ("over a socket", after + 1) == tuple(map(events.next("message").get, ("text", "number")))

    @pytest.mark.parametrize(
        ("room", "query", "options"),
        [
            ("lobby", "after=0", {"origin": "http://elsewhere.example"}),
            ("lobby", "after=0", {"origin": "null"}),
            ("lobby", "after=0", {"origin": None}),
            ("lobby", "after=yesterday", {}),
            ("lobby", "", {}),
            ("cellar", "after=0", {}),
            ("lobby/../../feed", "after=0", {}),
        ],
        ids=["foreign", "null", "no origin", "no number", "no query", "no room", "no path"],
    )
    def test_it_is_refused(self, site: Site, room: str, query: str, options: dict[str, Any]) -> None:
        """Browsers open WebSockets from any page, with our cookies: only those of our own pages are taken."""
        with guest(site) as ole:
            with pytest.raises(InvalidStatus) as refused:
                socket_of(ole, room, query, **options).close()
            assert 403 == refused.value.response.status_code

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ("no JSON", 1008),
            ("[]", 1008),
            ('{"type": "say", "key": 1, "text": []}', 1008),
            ('{"type": "shout"}', 1008),
            ('{"type": "say", "key": "%s", "text": "\\ud800"}' % ("0" * 32), 1008),
            ("[" * 12_000, 1008),
            (b"bytes", 1008),
            ("x" * 20_000, 1009),
        ],
        ids=["no json", "list", "numbers", "unknown", "surrogate", "deep", "bytes", "long"],
    )
    def test_bad_frames(self, site: Site, frame: str | bytes, code: int) -> None:
        """They end the WebSocket with a code, and disturb nobody."""
        with guest(site) as ole, socket_of(ole) as socket:
            socket.send(frame)
            with pytest.raises(ConnectionClosed) as closed:
                Events(texts(socket)).next("never")
            assert closed.value.rcvd
            assert code == closed.value.rcvd.code
            with socket_of(ole) as another:
                assert Events(texts(another)).next("hello")

    def test_bad_messages(self, site: Site) -> None:
        """They are refused with a reason, and the WebSocket goes on."""
        with guest(site) as ole, socket_of(ole) as socket:
            events = Events(texts(socket))
            socket.send(json.dumps({"type": "say", "key": "2" * 32, "text": "\N{GRINNING FACE}" * (LONGEST + 1)}))
            refused = events.next("refused")
            socket.send(json.dumps({"type": "say", "key": uuid.uuid4().hex, "text": "\N{GRINNING FACE}" * LONGEST}))
            while (said := events.next("message"))["text"] != "\N{GRINNING FACE}" * LONGEST:
                pass

        assert ("2" * 32, True) == (refused["key"], "at most 1000 characters" in refused["why"])
        assert said["author"].startswith("Guest ")

    def test_strangers(self, site: Site) -> None:
        """Who has no name hears why, and nothing else; and says nothing."""
        with site.client() as stranger, socket_of(stranger) as socket:
            assert [{"type": "stranger"}] == heard(socket)
        with site.client() as stranger, socket_of(stranger) as socket:
            with suppress(ConnectionClosed):  # it may be over already
                socket.send(json.dumps({"type": "say", "key": "3" * 32, "text": "strange"}))
            assert {"stranger"} >= {event["type"] for event in heard(socket)}
        with guest(site) as ole:
            assert "strange" not in [message["text"] for message in history(ole, "lobby")]


def heard(socket: ClientConnection) -> list[dict[str, Any]]:
    """All that comes, until the other side ends it."""
    found = []
    try:
        while True:
            found.append(json.loads(socket.recv(PATIENCE)))
    except ConnectionClosed:
        return found


class TestVerb:
    """`make run-chat`."""

    def test_hint(self, site: Site, server: str) -> None:
        """It says what to look at, and how it is live."""
        output = "".join(site.output)

        assert f"{site.url}/chat/" in output
        assert ("server-sent events" if server == "mod_wsgi" else "over WebSockets") in output

    def test_another_server(self) -> None:
        """A server that it does not know is an error that names those which it knows; nothing is made."""
        done = subprocess.run(
            ["make", "--no-print-directory", "run-chat", "UNDER=apache"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

        assert (2, "") == (done.returncode, done.stdout)
        assert "UNDER=apache is none of uvicorn, gunicorn, mod_wsgi" in done.stderr
