"""The example `examples/django_sync`: a legacy Django project under Uvicorn, driven over HTTP as a browser would."""

import ast
import csv
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import django
import httpx
import pytest

from support.browser import Browser
from support.example_process import Site
from support.paths import ROOT
from support.processes import free_port

PROJECT = ROOT / "examples" / "django_sync"
STOCK_PROJECT = Path(django.__file__).parent / "conf" / "project_template"
# The first test that wants the site migrates and seeds a database, and other tests may keep the machine busy.

TROMSO, BERGEN, OSLO = "Tromsø North Hall", "Bergen Harbour", "Oslo Loft"


def served(command: list[str], var: Path) -> Site:
    """The example in a process of its own, with its database in `var`."""
    temporary = var / "tmp"
    temporary.mkdir()
    return Site(command, PROJECT, {"WAREHOUSE_VAR": str(var)}, temporary=temporary)


UVICORN = ["-W", "error", "-m", "uvicorn", "--port", "0", "--loop", "uvloop", "--http", "httptools"]


def manage(var: Path, *arguments: str) -> str:
    """What manage.py prints; fails where it fails, and on any warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=PROJECT,
        env=os.environ | {"WAREHOUSE_VAR": str(var)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module", params=["warehouse.asgi", "warehouse.asgi_plain"])
def entry(request: pytest.FixtureRequest) -> str:
    """What the server serves: the drop-in for Django's own, and a plain `WsgiToAsgi`."""
    return str(request.param)


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated and seeded database."""
    directory = tmp_path_factory.mktemp("warehouse")
    manage(directory, "migrate", "--verbosity", "0")
    manage(directory, "seed")
    return directory


@pytest.fixture(scope="module")
def seeded(var: Path, entry: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database for each entry, so that each finds what the seed has made."""
    return Path(shutil.copytree(var, tmp_path_factory.mktemp(entry), dirs_exist_ok=True))


@pytest.fixture(scope="module")
def site(seeded: Path, entry: str) -> Iterator[Site]:
    """The example, served."""
    with served([*UVICORN, f"{entry}:application"], seeded) as running:
        yield running


@pytest.fixture
def visitor(site: Site) -> Iterator[httpx.Client]:
    """A browser that is not logged in."""
    with site.client() as client:
        yield client


@pytest.fixture(scope="module")
def session(site: Site) -> dict[str, str]:
    """The cookies of a login."""
    with site.client() as client:
        assert submit(client, "/login/", username="keeper", password="bolts-and-nuts").status_code == 302
        return dict(client.cookies)


@pytest.fixture
def keeper(site: Site, session: dict[str, str]) -> Iterator[httpx.Client]:
    """A browser that is logged in."""
    with site.client(session) as client:
        yield client


def submit(
    client: httpx.Client, path: str, files: dict[str, tuple[str, bytes]] | None = None, **fields: str
) -> httpx.Response:
    """Fills in the form of a page and sends it, as a browser does: with the page's CSRF token."""
    page = client.get(path)
    token = re.search(r'<main>.*name="csrfmiddlewaretoken" value="([^"]+)"', page.text, re.DOTALL)
    assert token, page.text
    return client.post(path, data={"csrfmiddlewaretoken": token[1], **fields}, files=files)


def choice(page: str, field: str, label: str) -> str:
    """The value of one option of a select field."""
    select = re.search(rf'<select name="{field}".*?</select>', page, re.DOTALL)
    assert select, page
    option = re.search(rf'<option value="(\d+)"[^>]*>{re.escape(label)}', select[0])
    assert option, select[0]
    return option[1]


def move(client: httpx.Client, part: str, source: str, target: str, quantity: int) -> httpx.Response:
    """Moves stock from one warehouse to another."""
    page = client.get("/move/").text
    return submit(
        client,
        "/move/",
        part=choice(page, "part", part),
        source=choice(page, "source", source),
        target=choice(page, "target", target),
        quantity=str(quantity),
    )


def stock(client: httpx.Client, part: str) -> dict[str, int]:
    """How many pieces of a part its page says are where."""
    rows = re.findall(r'<tr><td>([^<]+)</td><td class="number">(\d+)</td></tr>', client.get(f"/parts/{part}/").text)
    return {warehouse: int(quantity) for warehouse, quantity in rows}


class TestProject:
    """The project is what one finds: Django's own, all of it synchronous."""

    def test_nothing_in_it_is_asynchronous(self) -> None:
        """No line of the project uses, imports or mentions asynchronous code."""
        sources = {path.relative_to(PROJECT): path.read_text() for path in sorted(PROJECT.rglob("*.py"))}
        mentions = [
            path for path, text in sources.items() if re.search(r"\b(async|await|asyncio|anyio|asgiref)\b", text)
        ]

        assert len(sources) > 10
        assert [] == mentions

    @pytest.mark.parametrize(
        ("name", "changed"),
        [
            ("wsgi", {}),
            (
                "asgi",
                {"from django.core.asgi import": "from bridge.django import"},
            ),
        ],
    )
    def test_entry_points_are_stock(self, name: str, changed: dict[str, str]) -> None:
        """`wsgi.py` is startproject's, and so is `asgi.py` but for one import."""
        stock = (STOCK_PROJECT / "project_name" / f"{name}.py-tpl").read_text()
        stock = stock.replace("'", '"').replace("{{ project_name }}", "warehouse").replace("{{ docs_version }}", "5.2")
        for before, after in changed.items():
            assert before in stock
            stock = stock.replace(before, after)

        assert stock == (PROJECT / "warehouse" / f"{name}.py").read_text()

    def test_middleware_is_stock(self) -> None:
        """The settings list startproject's middleware, in its order."""
        stock = (STOCK_PROJECT / "project_name" / "settings.py-tpl").read_text()
        listed = re.search(r"MIDDLEWARE = (\[.*?\])", stock, re.DOTALL)
        settings = ast.parse((PROJECT / "warehouse" / "settings.py").read_text())
        middleware = [
            ast.literal_eval(line.value)
            for line in settings.body
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "MIDDLEWARE"
        ]

        assert listed
        assert [ast.literal_eval(listed[1])] == middleware

    def test_checks_are_clean(self, var: Path) -> None:
        """Django's system checks find nothing."""
        assert "System check identified no issues (0 silenced).\n" == manage(var, "check")

    def test_migrations_are_complete(self, var: Path) -> None:
        """The committed migration says all that the models say."""
        assert "No changes detected\n" == manage(var, "makemigrations", "--check", "--dry-run")

    def test_seed_twice_changes_nothing(self, tmp_path: Path) -> None:
        """A second `seed` leaves the database as it is."""

        def rows() -> list[str]:
            connection = sqlite3.connect(tmp_path / "db.sqlite3")
            try:
                return list(connection.iterdump())
            finally:
                connection.close()

        manage(tmp_path, "migrate", "--verbosity", "0")
        manage(tmp_path, "seed")
        once = rows()
        manage(tmp_path, "seed")

        assert sum('INTO "parts_movement"' in line for line in once) == 400
        assert once == rows()


class TestPages:
    """What a visitor sees."""

    @pytest.mark.parametrize(
        ("path", "shows"),
        [
            ("/", "Latest movements"),
            ("/parts/", "Page 1 of 2"),
            ("/parts/?page=2", "Page 2 of 2"),
            ("/parts/?q=hexagon", "BLT-1240"),
            ("/parts/?q=R%C3%B8r", "No part matches."),
            ("/parts/BRG-6204/", "Ball bearing 20 x 47 x 14"),
            ("/movements/", TROMSO),
            ("/login/", "Username"),
            ("/admin/login/", "Django administration"),
        ],
    )
    def test_page(self, visitor: httpx.Client, path: str, shows: str) -> None:
        """A page is HTML in UTF-8 of the length that it says, and shows what it is about."""
        page = visitor.get(path)

        assert 200 == page.status_code
        assert "text/html; charset=utf-8" == page.headers["content-type"]
        assert len(page.content) == int(page.headers["content-length"])
        assert shows in page.text

    def test_head_is_get_without_body(self, visitor: httpx.Client) -> None:
        """HEAD has the headers of GET and no body, and the connection goes on."""
        head, get = visitor.head("/parts/?q=seal"), visitor.get("/parts/?q=seal")

        assert b"" == head.content
        assert get.headers["content-length"] == head.headers["content-length"]

    def test_unknown_part_is_404(self, visitor: httpx.Client) -> None:
        """A part that is not there is Django's own 404."""
        assert 404 == visitor.get("/parts/XYZ-999/").status_code

    @pytest.mark.parametrize(
        ("path", "file"),
        [
            ("/static/parts/style.css", PROJECT / "parts/static/parts/style.css"),
            ("/static/admin/css/base.css", Path(django.__file__).parent / "contrib/admin/static/admin/css/base.css"),
        ],
    )
    def test_static_file(self, visitor: httpx.Client, path: str, file: Path) -> None:
        """The style sheets of the site and of the admin arrive to the byte."""
        style = visitor.get(path)

        assert "text/css" == style.headers["content-type"].partition(";")[0]
        assert file.read_bytes() == style.content

    def test_static_file_is_not_sent_twice(self, visitor: httpx.Client) -> None:
        """A browser that has the style sheet gets 304 without a body."""
        modified = visitor.get("/static/parts/style.css").headers["last-modified"]
        again = visitor.get("/static/parts/style.css", headers={"If-Modified-Since": modified})

        assert (304, b"") == (again.status_code, again.content)


class TestSession:
    """Logging in and out."""

    def test_login_and_logout(self, visitor: httpx.Client) -> None:
        """A login leads back to where one wanted to go, and lasts until the logout."""
        wall = visitor.get("/move/")
        entered = submit(visitor, wall.headers["location"], username="keeper", password="bolts-and-nuts", next="/move/")
        inside = visitor.get("/move/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', inside.text)
        assert token
        left = visitor.post("/logout/", data={"csrfmiddlewaretoken": token[1]})

        assert "/login/?next=/move/" == wall.headers["location"]
        assert (302, "/move/") == (entered.status_code, entered.headers["location"])
        assert (200, True) == (inside.status_code, "<span>keeper</span>" in inside.text)
        assert (302, "/") == (left.status_code, left.headers["location"])
        assert 302 == visitor.get("/move/").status_code

    def test_wrong_password(self, visitor: httpx.Client) -> None:
        """A wrong password gets the form again."""
        answer = submit(visitor, "/login/", username="keeper", password="nuts-and-bolts")

        assert 200 == answer.status_code
        assert "Please enter a correct username and password" in answer.text

    def test_no_csrf_token(self, visitor: httpx.Client) -> None:
        """A form that comes from elsewhere gets 403."""
        assert 403 == visitor.post("/login/", data={"username": "keeper", "password": "bolts-and-nuts"}).status_code

    def test_admin(self, keeper: httpx.Client) -> None:
        """The admin finds parts."""
        found = keeper.get("/admin/parts/part/?q=M8")

        assert 200 == found.status_code
        assert "BLT-0820" in found.text
        assert "BRG-6204" not in found.text


class TestForms:
    """What the keeper sends in."""

    def test_new_part(self, keeper: httpx.Client) -> None:
        """A new part gets a page, and is said to be there."""
        saved = submit(keeper, "/parts/new/", number="NEW-0001", name="Kühlmittel å", reorder_below="3")
        page = keeper.get(saved.headers["location"])

        assert (302, "/parts/NEW-0001/") == (saved.status_code, saved.headers["location"])
        assert "NEW-0001 is in the catalogue." in page.text
        assert "NEW-0001 Kühlmittel å" in page.text

    def test_bad_part(self, keeper: httpx.Client) -> None:
        """A number of the wrong form is refused, with the reason."""
        answer = submit(keeper, "/parts/new/", number="new-1", name="Coolant", reorder_below="3")

        assert 200 == answer.status_code
        assert "Two to four capitals, a hyphen, three to five digits." in answer.text

    @pytest.mark.parametrize("size", [1, 200_000, 4_000_000], ids=["one byte", "in one piece", "streamed"])
    def test_upload_and_download(self, keeper: httpx.Client, size: int) -> None:
        """A file comes back as it went in, whether or not it fits into what is collected before the app runs."""
        content = os.urandom(size)
        title = f"Drawing of {size} bytes"
        saved = submit(keeper, "/parts/SEA-0032/documents/new/", files={"file": ("drawing.zip", content)}, title=title)
        link = re.search(rf'<a href="([^"]+)">{title}</a>', keeper.get("/parts/SEA-0032/").text)
        assert link, saved.text
        got = keeper.get(link[1])

        assert "/parts/SEA-0032/" == saved.headers["location"]
        assert str(size) == got.headers["content-length"]
        assert got.headers["content-disposition"].startswith("attachment; filename=")
        assert content == got.content

    def test_bad_upload(self, keeper: httpx.Client) -> None:
        """A program is not a document."""
        files = {"file": ("setup.exe", b"MZ")}
        answer = submit(keeper, "/parts/SEA-0032/documents/new/", files=files, title="Setup")

        assert 200 == answer.status_code
        assert "File extension “exe” is not allowed." in answer.text


class TestExport:
    """The CSV export, a generator."""

    def test_every_movement_once(self, visitor: httpx.Client, seeded: Path) -> None:
        """The export has a line for each movement and no length, since nobody knew it when it began."""
        with visitor.stream("GET", "/movements.csv") as export:
            headers = export.headers
            lines = list(csv.reader(export.iter_lines()))
        connection = sqlite3.connect(seeded / "db.sqlite3")
        try:
            ((first, last),) = connection.execute("SELECT min(quantity), max(quantity) FROM parts_movement")
        finally:
            connection.close()

        assert "text/csv; charset=utf-8" == headers["content-type"]
        assert "content-length" not in headers
        assert ["moved_at", "part", "name", "from", "to", "quantity", "moved_by"] == lines[0]
        assert len(lines) > 400
        assert (first, last) == (min(int(line[5]) for line in lines[1:]), max(int(line[5]) for line in lines[1:]))

    def test_reader_who_leaves(self, site: Site) -> None:
        """A reader who leaves after the first line disturbs nobody."""
        for _ in range(12):
            with site.client() as client, client.stream("GET", "/movements.csv") as export:
                assert 200 == export.status_code
                next(export.iter_lines())

        with site.client() as client:
            assert 200 == client.get("/").status_code


class TestTransactions:
    """Moving stock: all or nothing."""

    def test_move(self, keeper: httpx.Client) -> None:
        """What one warehouse loses the other gains."""
        before = stock(keeper, "BRG-6204")
        answer = move(keeper, "BRG-6204", TROMSO, BERGEN, 100)
        page = keeper.get(answer.headers["location"]).text

        assert "/parts/BRG-6204/" == answer.headers["location"]
        assert f"Moved 100 x BRG-6204 Ball bearing 20 x 47 x 14: {TROMSO} to {BERGEN}." in page
        assert before | {TROMSO: before[TROMSO] - 100, BERGEN: before[BERGEN] + 100} == stock(keeper, "BRG-6204")

    @pytest.mark.parametrize(
        ("target", "quantity", "reason"),
        [
            (OSLO, 600, "over its capacity."),
            (BERGEN, 5000, f"{TROMSO} has fewer than 5000 of BRG-6204."),
            (TROMSO, 1, "Choose two different warehouses."),
            (BERGEN, 0, "Ensure this value is greater than or equal to 1."),
        ],
        ids=["target full", "too few", "nowhere to go", "nothing"],
    )
    def test_refused_move(self, keeper: httpx.Client, target: str, quantity: int, reason: str) -> None:
        """A move that cannot be finished changes nothing and says why."""
        before = stock(keeper, "BRG-6204")
        answer = move(keeper, "BRG-6204", TROMSO, target, quantity)

        assert 200 == answer.status_code
        assert reason in answer.text
        assert before == stock(keeper, "BRG-6204")

    def test_moves_at_once(self, keeper: httpx.Client) -> None:
        """Sixteen moves at once lose nothing and invent nothing."""
        before = stock(keeper, "BRG-6204")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: move(keeper, "BRG-6204", TROMSO, BERGEN, 2), range(16)))

        assert [302] * 16 == [answer.status_code for answer in answers]
        assert before | {TROMSO: before[TROMSO] - 32, BERGEN: before[BERGEN] + 32} == stock(keeper, "BRG-6204")


class TestErrors:
    """The view that raises."""

    def test_raising_view(self, visitor: httpx.Client) -> None:
        """It gets Django's own debug page with status 500, and the next request is served."""
        broken = visitor.get("/reports/turnover/")

        assert 500 == broken.status_code
        assert "ZeroDivisionError" in broken.text
        assert 200 == visitor.get("/").status_code

    def test_debug_page_keeps_secrets(self, keeper: httpx.Client) -> None:
        """Django hides cookies and credentials on its debug page; nothing that the adapter adds shows them there."""
        secret = keeper.cookies["sessionid"] + "swordfish-1871"
        page = keeper.get("/reports/turnover/", headers={"Authorization": "Bearer swordfish-1871"}).text

        assert "asgi.scope" in page
        # A page that prints something long breaks it into lines, so parts of the secrets count too.
        assert [] == [secret[at : at + 8] for at in range(len(secret) - 7) if secret[at : at + 8] in page]


class TestRun:
    """What `make run` starts."""

    def test_runs_and_stops(self, tmp_path: Path) -> None:
        """It migrates, seeds, says what to look at and serves; Ctrl-C ends it with status 0 and leaves nothing."""
        port = free_port()
        command = [str(PROJECT / "serve.py"), "--port", str(port)]
        with served(command, tmp_path) as site, site.client() as client:
            assert 200 == client.get("/movements.csv").status_code
            # The browser's connection is still open.
            status = site.stop(signal.SIGINT)
        output = "".join(site.output)

        assert 0 == status, output
        assert not site.leaves_processes()
        assert [] == list(site.temporary.iterdir())
        assert f"http://127.0.0.1:{port}/movements.csv" in output
        assert "keeper, password bolts-and-nuts" in output
        assert "Application shutdown complete." in output
        assert "Traceback" not in output

    def test_port_in_use(self, tmp_path: Path) -> None:
        """A port that is taken is named, and that is the end."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            script = [sys.executable, str(PROJECT / "serve.py"), "--port", str(port)]
            done = subprocess.run(
                script,
                env=os.environ | {"WAREHOUSE_VAR": str(tmp_path)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )

        assert 1 == done.returncode
        assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in done.stderr
        assert "Uvicorn running" not in done.stderr


@pytest.mark.debian("chromium-headless-shell")
class TestNarrow:
    """What a telephone shows, in a real browser."""

    def test_nothing_is_wider_than_the_screen(
        self, site: Site, session: dict[str, str], visitor: httpx.Client, tmp_path: Path
    ) -> None:
        part = re.search(r'href="(/parts/[^/"]+/)"', visitor.get("/parts/").text)
        assert part
        anonymous = ["/", "/parts/", part[1], "/movements/", "/login/"]
        keepers = [*anonymous[:4], "/move/", "/parts/new/", f"{part[1]}documents/new/"]
        with Browser(tmp_path) as browser:
            for path in anonymous:
                browser.open(site.url + path, width=390)
                assert [] == browser.too_wide(), path
                assert [] == browser.unnamed(), path
            for name, value in session.items():
                browser.call("Network.setCookie", name=name, value=value, url=site.url)
            for path in keepers:
                browser.open(site.url + path, width=390)
                assert "Log out" in browser.run("document.body.textContent"), path
                assert [] == browser.too_wide(), path
            assert [] == browser.complaints

    def test_no_link_leads_an_anonymous_user_to_the_login_but_that_one(self, visitor: httpx.Client) -> None:
        """What needs a login is offered to those who have one."""
        part = re.search(r'href="(/parts/[^/"]+/)"', visitor.get("/parts/").text)
        assert part
        for page in ("/", "/parts/", part[1], "/movements/"):
            links = set(re.findall(r'<a[^>]* href="(/[^"#]*)"', visitor.get(page).text))
            assert links
            for link in links - {path for path in links if path.startswith(("/login/", "/reports/turnover/"))}:
                answer = visitor.get(link)
                assert 200 == answer.status_code, (page, link, answer.headers.get("location"))
