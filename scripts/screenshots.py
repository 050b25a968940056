"""Writes the pictures of the chat in docs/images: light and dark, on a desk and on a phone.

It runs `examples/django_async` on Gunicorn with a database of its own, in which some people have talked, and looks at
it with headless Chromium.
"""

import sqlite3
import sys
import tempfile
import uuid
from contextlib import ExitStack, closing
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from support.browser import Browser  # noqa: E402  # needs the path
from support.example_process import Site  # noqa: E402
from support.lookout import Lookout, lookout  # noqa: E402

IMAGES = ROOT / "docs" / "images"
# Minutes ago, who, where and what.
SAID = [
    (26, "Ole", "kitchen", "There is cake. Two kinds."),
    (19, "Åse", "on-call", "Lamp is down again"),
    (18, "Kim", "on-call", "I have it"),
    (14, "Åse", "lobby", "Hello! Has anybody seen the old intranet lately?"),
    (13, "Ole", "lobby", "Not since it was moved. It is on port 9 now, they say."),
    (13, "Ole", "lobby", "Nobody has been able to talk to it there :-)"),
    (11, "Kim", "lobby", "I shall ask it:\n\n    curl -v http://127.0.0.1:9/"),
    (10, "Kim", "lobby", "“Connection refused”. At least it is polite about it."),
    (3, "Sam", "lobby", "Has this page just gone on talking while I restarted Gunicorn?"),
    (2, "Åse", "lobby", "It has. It said “reconnecting”, and then it had everything."),
]
LOOKING = "Kim"
# A promise: what has just come is no longer on its way, and not yet on its way out.
ALL_THERE = """new Promise((resolve) => {
    const look = () => {
        const {opacity, transform} = getComputedStyle(document.querySelector("#elsewhere li"));
        if (opacity === "1" && ["none", "matrix(1, 0, 0, 1, 0, 0)"].includes(transform)) resolve();
        else requestAnimationFrame(look);
    };
    look();
})"""


def main() -> None:
    """Talk, and look."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        lookout("gunicorn", {"LOOKOUT_INTERVAL": "3600"}) as place,
        place.serving("--chat") as site,
        ExitStack() as stack,
    ):
        people = {name: stack.enter_context(site.client()) for name in ("Kim", "Åse", "Ole", "Sam")}
        for name, client in people.items():
            client.get("/chat/")
            post(client, "/chat/", name=name)
        for _, name, room, text in SAID:
            say(people[name], room, text)
        put_back(place)
        for name in ("Åse", "Ole", "Sam"):
            stack.enter_context(people[name].stream("GET", "/chat/lobby/live/", params={"after": 0}))
        browser = stack.enter_context(Browser(Path(directory)))
        for name, width, height in (("chat", 1160, 720), ("chat-phone", 390, 844)):
            phone = width < 500
            for scheme in ("light", "dark"):
                take(browser, site, people, scheme, width, height, phone, IMAGES / f"{name}-{scheme}.png")


def take(
    browser: Browser,
    site: Site,
    people: dict[str, httpx.Client],
    scheme: str,
    width: int,
    height: int,
    phone: bool,
    path: Path,
) -> None:
    """A picture of the lobby, while something is said in the kitchen."""
    browser.open(f"{site.url}/chat/", width, height, phone=phone)
    browser.prefer(scheme)
    for name, value in people[LOOKING].cookies.items():
        browser.call("Network.setCookie", name=name, value=value, url=site.url)
    browser.open(f"{site.url}/chat/lobby/", width, height, phone=phone)
    browser.wait_for("document.querySelector('#connection').dataset.state == 'live'")
    browser.wait_for("document.querySelectorAll('#here li').length == 4")
    say(people["Ole"], "kitchen", "The second cake is going fast")
    browser.wait_for("document.querySelector('#elsewhere li')")
    browser.run(ALL_THERE)
    browser.screenshot(path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


def post(client: httpx.Client, path: str, **fields: str) -> None:
    answer = client.post(path, data=fields, headers={"X-CSRFToken": client.cookies["csrftoken"]})
    assert answer.status_code in (200, 302), answer.text


def say(client: httpx.Client, room: str, text: str) -> None:
    post(client, f"/chat/{room}/say/", key=uuid.uuid4().hex, text=text)


def put_back(place: Lookout) -> None:
    """Give the messages the times that they have in SAID."""
    with closing(sqlite3.connect(place.database, timeout=20)) as database, database:
        for minutes, _, _, text in SAID:
            database.execute(
                "UPDATE chat_message SET at = datetime(at, ?) WHERE text = ?", (f"-{minutes} minutes", text)
            )


if __name__ == "__main__":
    main()
