"""The chat of `examples/django_async` without a browser: what a page is told, and what nobody may do."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support.chat import Events, guest, history, nobody_is_here, post, stream, token
from support.example_process import Site
from support.lookout import PROJECT, WEBSOCKETS
from support.patience import PROCESS_PATIENCE
from support.python_process import run_script

LONGEST = 1000
MANY = 200  # events: what has not come among these does not come

# The first run makes the virtual environment for Apache.
pytestmark = pytest.mark.timeout(300)


def socket_of(client: httpx.Client, room: str = "lobby", query: str = "after=0", **options: Any) -> ClientConnection:
    """An open WebSocket, with the cookies of a client."""
    url = str(client.base_url.join(f"/chat/{room}/live/?{query}"))
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    options = {"origin": str(client.base_url).rstrip("/")} | options
    return connect(
        url.replace("http", "ws"),
        additional_headers={"Cookie": cookies},
        proxy=None,
        open_timeout=PROCESS_PATIENCE,
        **options,
    )


def texts(socket: ClientConnection) -> Iterator[str]:
    while True:
        yield str(socket.recv(PROCESS_PATIENCE))


# A WebSocket whose client has gone: the one who sends finds that out first, and the one who receives next.
GONE = """
import asyncio, os, sys
sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "lookout.settings"
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("seed_chat", stdout=sys.stderr)
from importlib import import_module
from django.conf import settings
session = import_module(settings.SESSION_ENGINE).SessionStore()
session["visitor"] = {"id": "0" * 32, "name": "Ole"}
session.save()
from chat import socket
from chat.models import Presence
from lookout.lifespan import startup, shutdown

async def main():
    state, gone = {}, asyncio.Event()
    events = [{"type": "websocket.connect"}]

    async def receive():
        if events:
            return events.pop()
        await gone.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(event):
        if event["type"] == GONE_AT:
            gone.set()
            raise ConnectionResetError

    await startup(state)
    scope = {
        "type": "websocket", "path": "/chat/lobby/live/", "root_path": "", "query_string": b"after=0", "state": state,
        "headers": [(b"host", b"localhost"), (b"origin", b"http://localhost"),
                    (b"cookie", f"{settings.SESSION_COOKIE_NAME}={session.session_key}".encode())],
    }
    try:
        await socket.application(scope, receive, send)
    except ConnectionResetError:
        print("gone")
    print(len(state["hub"].visits), await Presence.objects.acount())
    await shutdown(state)

asyncio.run(main())
"""


class TestPresence:
    """Who is here."""

    @pytest.mark.parametrize("event", ["websocket.accept", "websocket.send"])
    def test_a_client_that_goes_while_it_is_told(
        self, event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its page is not there any more, and its place is free, though both of its tasks find it gone."""
        monkeypatch.chdir(PROJECT)
        monkeypatch.setenv("LOOKOUT_VAR", str(tmp_path))
        lines = run_script(GONE.replace("GONE_AT", repr(event)), quiet=False)
        assert "0 0" == lines[-1]

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
            for number in range(120):
                post(ole, "lobby", str(number))
            with stream(ole, after=after + 120) as events:
                page = events.next("hello")["page"]
                post(ole, "lobby", "120")
                # When the server has looked, all of it is old.
                answer_ticks(ole, events, page, until=lambda event: event.get("last", {}).get("lobby") == after + 121)
            with stream(ole, after=after) as events:
                old = [events.next("message") for _ in range(121)]
                post(ole, "lobby", "new")
                new = events.next("message")

        assert [str(number) for number in range(121)] == [message["text"] for message in old]
        assert [*range(after + 1, after + 122)] == [message["number"] for message in old]
        assert ("new", after + 122) == (new["text"], new["number"])

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
            found.append(json.loads(socket.recv(PROCESS_PATIENCE)))
    except ConnectionClosed:
        return found
