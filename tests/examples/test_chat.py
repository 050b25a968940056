"""The chat of `examples/django_async`, under Uvicorn, Gunicorn and Apache with mod_wsgi, in browsers."""

import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from support.chat import PLACES, SETTINGS, Page, guest, history, pages, post, stream
from support.example_process import Site
from support.lookout import PROJECT, WEBSOCKETS, WSGI, Lookout, lookout
from support.paths import ROOT
from support.redis_server import redis_server

PICTURES = PROJECT / "var" / "screenshots"
# With these, nothing comes by looking into the database now and then.
ONLY_BY_BUS = SETTINGS | {"LOOKOUT_HEARTBEAT": "3600", "LOOKOUT_PRESENCE": "36000"}

# The first run makes the virtual environment for Apache.
pytestmark = pytest.mark.timeout(300)


@pytest.mark.debian("chromium-headless-shell")
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

    @pytest.mark.parametrize("server", ["gunicorn"], indirect=True, scope="module")
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_a_phone(self, scheme: str, empty: Site, tmp_path: Path) -> None:
        """All of it fits, can be read, and has a name; what is said last, and where one writes, is on the screen."""
        with pages(tmp_path, "Kim") as (kim,):
            kim.prefer(scheme)
            kim.open(f"{empty.url}/chat/", 390, 844, phone=True)
            at_the_door = kim.too_wide(), kim.faint(), kim.unnamed()
            kim.enter(empty.url, width=390, height=844, phone=True)
            for number in range(30):
                kim.type(f"Line {number} " + "anditgoeson" * 10)
            kim.wait_for_message("Line 29 " + "anditgoeson" * 10)
            kim.wait_for(ON_SCREEN % "#log li:last-child")
            inside = (kim.too_wide(), kim.faint(), kim.unnamed()), kim.run(ON_SCREEN % "#text")

        assert ([], [], []) == at_the_door
        assert (([], [], []), True) == inside

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


# All of an element is.
ON_SCREEN = """(({left, top, right, bottom}) => left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight)
    (document.querySelector('%s').getBoundingClientRect())"""
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


@pytest.mark.debian("chromium-headless-shell")
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
                sam.wait_for_message("After")
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


@pytest.mark.debian("chromium-headless-shell")
class TestProcesses:
    """Two workers of Gunicorn."""

    @pytest.mark.debian("redis-server")
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

    @pytest.mark.debian("redis-server")
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
            sam.wait_for_message("It is back")
            shown = [kim.messages(), sam.messages()]
            output = "".join(site.output)

        assert [["Is Redis away?", "It is back"]] * 2 == shown
        assert "other processes are not told" in output
        assert "Traceback" not in output

    def test_without_redis(self, tmp_path: Path) -> None:
        """What one says comes late to the other, but comes; the log says what to do."""
        settings = SETTINGS | {"LOOKOUT_PRESENCE": "3"}
        with two_workers(settings) as (place, site), pages(tmp_path, "Kim", "Sam") as (kim, sam):
            site.line("Several workers, but REDIS_URL is not set")
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
