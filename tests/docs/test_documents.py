"""What the documents claim is run, generated, or there.

A code block is what the words behind its fence say:

    ```python               a fragment: it compiles
    ```python file=NAME     a file of that name, in a directory of the page's own: it is imported. Blocks are done in
                            their order. Where `django-admin startproject` has run before, Django is set up first
    ```python append=NAME   goes to the end of a file that is there
    ```python run           a program: it is run in that directory, and must neither fail nor warn
    ```text output          what the program above it prints, to the letter
    ```console run          commands after "$ ", each with what it prints. One that ends in "&" is a server, which is
                            stopped at the end of the block, or by `kill %1` (the first) or `kill %%` (the newest);
                            `curl [-s] [-d DATA] URL` is done by the test itself; a free port stands in place of 8000.
                            One that ends in "&" and has no 8000 in it is no server, and nobody waits for it
    ```console server=NAME  how a server of tests/servers is run, or a file that it needs

In the text, each relative link leads to something, each `name=value` is an option of ours (or a word of FOREIGN), each
`bridge.…` is a name, a key of an environ or a logger of ours, and each `make …` is a verb of the Makefile.
"""

import argparse
import ast
import contextlib
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import bridge
from servers.pages import read_pages
from support import processes
from support.markdown import section
from support.paths import ROOT
from support.patience import PROCESS_PATIENCE

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/*/*.md"))]

ADAPTERS = {"WsgiToAsgi": bridge.WsgiToAsgi, "AsgiToWsgi": bridge.AsgiToWsgi}
OPTIONS = {name: set(inspect.signature(adapter).parameters) - {"app"} for name, adapter in ADAPTERS.items()}
# Keywords of somebody else's that the documents speak of.
FOREIGN = {"more_body", "exc_info", "executor", "root_path", "charset"}


class Block(NamedTuple):
    """A fenced code block: the line it begins at, the words behind the fence, and the text."""

    line: int
    info: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.fullmatch(r"python (?:file|append)=([\w/]+\.py)", self.info)
        return found[1] if found else None

    def write(self, directory: Path) -> None:
        """Make, or lengthen, the file that it is, and import that."""
        assert self.file
        path = directory / self.file
        path.parent.mkdir(exist_ok=True)
        with path.open("a" if self.info.startswith("python append") else "w", encoding="utf-8") as file:
            file.write(self.text)
        manage = directory / "manage.py"
        settings = re.findall(r"['\"](\w+\.settings)['\"]", manage.read_text()) if manage.exists() else []
        setup = f"import os; os.environ['DJANGO_SETTINGS_MODULE'] = {settings[0]!r}\n" if settings else ""
        setup += "import django; django.setup()\n" if settings else ""
        run(f"{setup}import {self.file.removesuffix('.py').replace('/', '.')}", directory)


def blocks_of(page: Path) -> list[Block]:
    found = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        opened = re.match(r"( *)(`{3,})(.*)$", line)
        if opened:
            indent, fence, info = opened.groups()
            inside = []
            for _, text in lines:
                if text.strip() == fence:
                    break
                inside.append(text.removeprefix(indent))
            else:
                raise AssertionError(f"{page.name}:{number}: the code block has no end")
            found.append(Block(number, info.strip(), "".join(f"{text}\n" for text in inside)))
    return found


def text_of(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^( *)(`{3,}).*?^\1\2$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def spans_of(page: Path) -> set[str]:
    """What stands between backticks in the text."""
    return {" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text_of(page))}


# --- code blocks --------------------------------------------------------------------------------------------------


def check_code(page: Path, directory: Path) -> None:
    """Do with each block of a page what it says."""
    blocks = blocks_of(page)
    for block in blocks:
        kind, _, how = block.info.partition(" ")
        known = not how or block.file or block.info in ("python run", "text output", "console run")
        known = known or re.fullmatch(r"\w+ server=[\w,]+( file=\S+)?", block.info)
        assert known, f"{page.name}:{block.line}: {block.info!r}?"
        if kind == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for block, after in zip_longest(blocks, blocks[1:]):
        if block.file:
            block.write(directory)
        elif block.info == "python run":
            printed = run(block.text, directory)
            if after is not None and after.info == "text output":
                assert after.text == printed, f"{page.name}:{after.line}"
        elif block.info == "console run":
            check_console(f"{page.name}:{block.line}", block.text, directory)


def run(program: str, directory: Path) -> str:
    """What a program prints; it must not fail, and a warning is a failure."""
    return shell([sys.executable, "-W", "error", "-c", program], directory)


def shell(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, env=os.environ | environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    return done.stdout


def environment() -> dict[str, str]:
    """So that commands are those of this Python, and `bridge` is this one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {"PATH": path, "PYTHONPATH": str(ROOT / "src")}


def check_console(place: str, text: str, directory: Path) -> None:
    """Run the commands of one block, and compare what they print."""
    port = str(processes.free_port())
    first, *commands = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not first, f"{place}: a command begins with '$ '"
    with contextlib.ExitStack() as servers:
        jobs: list[contextlib.ExitStack] = []
        for number, command in enumerate(commands):
            line, _, expected = command.partition("\n")
            words = shlex.split(line.replace("8000", port))
            if words[-1] == "&":
                jobs.append(servers.enter_context(contextlib.ExitStack()))
                waits_for = port if "8000" in line else None
                log = directory / f"server-{number}.log"
                jobs[-1].enter_context(serving(words[:-1], directory, waits_for, log))
                continue
            if words[0] == "kill":
                printed = ""
                jobs[-1 if words[1] == "%%" else int(words[1].removeprefix("%")) - 1].close()
            else:
                printed = curl(words[1:]) if words[0] == "curl" else shell(words, directory)
            assert expected.rstrip("\n") == printed.replace(port, "8000").rstrip("\n"), f"{place}: {line}"


def curl(words: list[str]) -> str:
    """What curl shows; spaces at the end of a line are not seen."""
    parser = argparse.ArgumentParser("curl")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-d", "--json", dest="data", type=str.encode)
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("url")
    given, unknown = parser.parse_known_args(words)
    assert not unknown, f"{words}: of curl's options, only -s, -d, --json and -H are understood"
    json = {"Content-Type": "application/json", "Accept": "application/json"} if "--json" in words else {}
    headers = json | dict(header.split(": ", 1) for header in given.H)
    request = urllib.request.Request(given.url, given.data, headers)
    try:
        response = urllib.request.urlopen(request, timeout=PROCESS_PATIENCE)
    except urllib.error.HTTPError as error:  # curl prints the page of an error as any other
        response = error
    with response:
        return re.sub(r"[ \r]+$", "", response.read().decode(), flags=re.MULTILINE)


@contextlib.contextmanager
def serving(command: list[str], directory: Path, port: str | None, log: Path) -> Iterator[None]:
    """A server that listens on `port`, or a program that listens nowhere, until the block is over."""
    # Jobs of one page are one user's, but servers that run beside each other would share what Gunicorn keeps for him.
    process = processes.start_logging(command, log.with_suffix(""), environment(), cwd=directory, log=log)
    try:
        if port is not None:
            processes.wait_until_it_listens(process, int(port), log)
        yield
    finally:
        processes.end(process)


# --- names --------------------------------------------------------------------------------------------------------


def wrong_options(page: Path) -> list[str]:
    """Each option that a page gives an adapter, or speaks of as `name=value`, and that there is not."""
    wrong = []
    codes = [block.text for block in blocks_of(page) if block.info.startswith("python")]
    for code in [*codes, *(span for span in spans_of(page) if "ToAsgi(" in span or "ToWsgi(" in span)]:
        for node in ast.walk(_parsed(code)):
            if isinstance(node, ast.Call) and (name := getattr(node.func, "id", "")) in OPTIONS:
                wrong += [f"{name}({word.arg}=)" for word in node.keywords if word.arg not in OPTIONS[name]]
    known = FOREIGN.union(*OPTIONS.values())
    assignments = (re.match(r"([a-z_]{3,})=[^=]", span) for span in spans_of(page))
    return wrong + [found[0] for found in assignments if found and found[1] not in known]


def _parsed(code: str) -> ast.AST:
    try:
        return ast.parse(code)
    except SyntaxError:
        return ast.Module([], [])  # a span may be a signature or have dots in it; blocks are compiled elsewhere


def wrong_names(page: Path) -> list[str]:
    """Each `bridge.…` in a page that is nothing of ours."""
    code = "\n".join(block.text for block in blocks_of(page) if not block.info.startswith("mermaid"))
    text = "\n".join([code, *spans_of(page)])
    return [name for name in re.findall(r"(?<![\w./-])bridge(?:\.[A-Za-z_]\w*)+", text) if not _is_ours(name)]


SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "bridge").rglob("*.py"))


def _is_ours(name: str) -> bool:
    if f'"{name}"' in SOURCE:
        return True  # a key of the environ
    found: Any = bridge
    for part in name.split(".")[1:]:
        with contextlib.suppress(ImportError):
            if isinstance(found, types.ModuleType):
                importlib.import_module(f"{found.__name__}.{part}")
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def wrong_verbs(page: Path) -> list[str]:
    """Each `make …` in a page that the Makefile does not have."""
    verbs = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join([*(block.text for block in blocks_of(page) if block.info.startswith("console")), *spans_of(page)])
    return [verb for verb in re.findall(r"^(?:\$ )?make ([a-z0-9-]+)", text, re.MULTILINE) if verb not in verbs]


# --- links --------------------------------------------------------------------------------------------------------


def dead_links(page: Path) -> list[str]:
    """Each relative link of a page that leads nowhere: to no file, or to no heading."""
    text = re.sub(r"(?<!`)`[^`]+`(?!`)", "code", text_of(page))
    inline = re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", text)
    named = re.findall(r"^\[[^\]]+\]: *<?(\S+?)>?$", text, re.MULTILINE)
    images = re.findall(r"<(?:img|source)[^>]+(?:src|srcset)=\"([^\"]+)\"", text)
    return [target for target in [*inline, *named, *images] if not _leads_somewhere(page, target)]


def _leads_somewhere(page: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True  # somebody else's
    path, _, heading = target.partition("#")
    there = page.parent / path if path else page
    return there.exists() and (not heading or (there.suffix == ".md" and heading in _anchors(there)))


def _anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have where it is rendered."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text_of(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        anchor = slug
        while anchor in anchors:
            number += 1
            anchor = f"{slug}-{number}"
        anchors.add(anchor)
    return anchors


# --- the documents ------------------------------------------------------------------------------------------------

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
# Their code needs what only the group `hosts` installs.
WITH_HOSTS = {f"docs/howto/{name}.md" for name in ("celery", "channels", "debug_toolbar", "django_ninja")}
WITH_HOSTS |= {f"docs/howto/{name}.md" for name in ("django_rest_framework", "graphql", "metrics", "tracing")}
CODE_PAGES = [
    pytest.param(page, id=name, marks=[pytest.mark.hosts] if name in WITH_HOSTS else [])
    for page, name in ((page, str(page.relative_to(ROOT))) for page in PAGES)
]


class TestDocuments:
    @each_page
    def test_each_server_is_stopped_where_it_is_started(self, page: Path) -> None:
        """A reader types one block after the other, and two servers cannot have the same port."""
        left = []
        for block in blocks_of(page):
            if block.info.startswith("console run"):
                commands = re.findall(r"^\$ (.+)$", block.text, re.MULTILINE)
                started = [command for command in commands if command.endswith("&")]
                if len(started) > len([command for command in commands if command.startswith("kill ")]):
                    left += started
        assert [] == left

    @pytest.mark.parametrize("page", CODE_PAGES)
    @pytest.mark.timeout(300)  # some start six servers, one after the other
    def test_its_code_is_run(self, page: Path, tmp_path: Path) -> None:
        """As its info string says, or at least compiled."""
        check_code(page, tmp_path)

    def test_what_a_page_has_one_install_is_what_the_tests_install(self) -> None:
        """Each package of a `pip install` is one of `pyproject.toml`."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        wanted = [*project["project"]["dependencies"], "wsgi-asgi-bridge"]
        wanted += [name for group in project["dependency-groups"].values() for name in group if isinstance(name, str)]
        wanted += [name for extra in project["project"]["optional-dependencies"].values() for name in extra]
        known = {re.split(r"[\[<>=]", name)[0] for name in wanted}
        lines = [
            line.partition("pip install ")[2]
            for page in PAGES
            for block in blocks_of(page)
            if block.info in ("sh", "console")
            for line in block.text.splitlines()
        ]
        words = [word for line in lines for word in shlex.split(line, comments=True)]
        # What begins otherwise is an option or a folder.
        named = {re.split(r"[\[<>=]", word)[0] for word in words if word[0].isalpha() and not word.endswith(".txt")}
        assert len(named) > 5
        assert set() == named - known

    def test_the_reference_has_each_public_name(self) -> None:
        """What a module exports is shown by its name, or with all of its module."""
        page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
        shown: set[int] = set()
        for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
            found: Any = bridge
            for part in name.split(".")[1:]:
                if isinstance(found, types.ModuleType):
                    with contextlib.suppress(ImportError):
                        importlib.import_module(f"{found.__name__}.{part}")
                found = getattr(found, part)
            whole = isinstance(found, types.ModuleType)
            shown |= {id(getattr(found, each)) for each in found.__all__} if whole else {id(found)}
        modules = [
            importlib.import_module(f"bridge{part}") for part in ("", ".errors", ".django", ".gunicorn", ".mounts")
        ]
        public = {f"{module.__name__}.{name}": getattr(module, name) for module in modules for name in module.__all__}
        assert [] == [name for name, found in public.items() if id(found) not in shown]

    @each_page
    def test_its_links_lead_somewhere(self, page: Path) -> None:
        """To a file that is there, and a heading in it."""
        assert [] == dead_links(page)

    @each_page
    def test_its_names_exist(self, page: Path) -> None:
        """Options, names, keys of the environ, verbs."""
        assert ([], [], []) == (wrong_options(page), wrong_names(page), wrong_verbs(page))

    def test_the_pages_are_found(self) -> None:
        """At least these."""
        names = {str(page.relative_to(ROOT)) for page in PAGES}
        assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/order.md"} <= names


@pytest.fixture(name="generate_docs")
def generate_docs_fixture(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that prints pages, as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setattr(sys, "path", [*sys.path])  # it puts directories there
    return importlib.import_module("generate_docs")


class TestGenerated:
    def test_no_generated_page_is_stale(self, generate_docs: Any) -> None:
        """`make docs` writes what is printed from code."""
        assert [] == generate_docs.stale(ROOT)

    def test_a_stale_page_is_named_and_written(self, generate_docs: Any, tmp_path: Path, capsys: Any) -> None:
        """`--check` exits 1 and writes nothing; without it the page is written, and then it is no longer stale."""
        page = tmp_path / "docs" / "order.md"
        names = list(generate_docs.PAGES)
        assert names == generate_docs.stale(tmp_path)
        assert (1, False) == (generate_docs.main(["--check"], tmp_path), page.exists())
        assert (0, True) == (generate_docs.main([], tmp_path), page.exists())
        assert 0 == generate_docs.main(["--check"], tmp_path)
        page.write_text(page.read_text(encoding="utf-8").replace("held back", "sent"), encoding="utf-8")
        assert (1, ["docs/order.md"]) == (generate_docs.main(["--check"], tmp_path), generate_docs.stale(tmp_path))
        assert "docs/order.md is stale" in capsys.readouterr().out

    def test_a_drawing_names_only_what_is_there(self, generate_docs: Any) -> None:
        """A function that is renamed has to be drawn anew; it is no arrow that leads nowhere."""
        internals = importlib.import_module("internals")
        assert "Call.write" == internals._checked("_concurrency.calls.Call.write")
        with pytest.raises(LookupError, match=r"names _concurrency\.calls\.Call\.scribble"):
            internals._checked("_concurrency.calls.Call.scribble")

    def test_each_state_and_step_is_drawn(self, generate_docs: Any) -> None:
        """In the diagram and in the table."""
        page = generate_docs.order_page()
        for machine in generate_docs.MACHINES:
            numbers = {state: number for number, state in enumerate(machine.order, 1)}
            part = section(page, f"## {machine.title}")
            for state, steps in machine.order.items():
                assert f'state "{state} ({numbers[state]})" as s{numbers[state]}\n' in part
                assert f"\n{numbers[state]}. {state}\n" in part
                for step, following in steps.items():
                    arrow = rf"s{numbers[state]} --> s{numbers[following]} : .*{re.escape(step)}(,|$)"
                    assert re.search(arrow, part, re.MULTILINE)
                    [cells] = re.findall(rf"^\| {re.escape(step)} \| (.+) \|$", part, re.MULTILINE)
                    assert cells.split(" | ")[numbers[state] - 1] == str(numbers[following])


# --- and that all of this can fail --------------------------------------------------------------------------------

GOOD = """\
# A page

See [the other](other.md), [below](#how-it-ends), <https://example.com/> and [ours](https://example.com/).

```python file=hello.py
from bridge import WsgiToAsgi

def legacy(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello\\n"]

application = WsgiToAsgi(legacy, threads=2)
```

```console run
$ uvicorn hello:application --port 8000 --log-level warning &
$ curl http://127.0.0.1:8000/
Hello
$ python -c "print(8000)"
8000
```

```python run
import hello
print(hello.application.stats().served)
```

```text output
0
```

```python
await application(scope, receive, send)
```

## How it ends

With `max_body=2**20`, `WsgiToAsgi(app, lifespan)` and `environ["bridge.client_disconnected"]()`, `bridge.errors`,
`bridge.ClientDisconnected`, `make test`, `http.response.start`, `more_body=False`.
"""


class TestServerPages:
    """docs/servers/, beyond what the tests of each server run of it."""

    def test_each_set_up_is_run(self) -> None:
        """A command line that no test starts is a claim."""
        names = set(read_pages())
        sources = [*(ROOT / "tests" / "servers").glob("*.py"), *(ROOT / "tests" / "real_servers").glob("*.py")]
        run = "".join(path.read_text(encoding="utf-8") for path in sources)
        assert set() == {name for name in names if f'"{name}"' not in run}

    def test_each_promise_is_shown(self) -> None:
        """The tests that docs/guarantees.md names are there."""
        page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", page)
        assert len(named) > 20
        promises = re.findall(r"^- (\*\*.+?)(?=\n- |\n\n)", page, re.MULTILINE | re.DOTALL)
        assert len(promises) > 20
        assert [] == [promise for promise in promises if not re.search(r"\*\*\s+`tests/\S+\.py::\w+`", promise)]
        missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")]
        assert [] == missing


class TestTheseTests:
    """Each of the checks finds what it is there for, whatever the documents are today."""

    @pytest.fixture
    def page(self, tmp_path: Path) -> Path:
        """A page with one of everything, and the page that it links to."""
        (tmp_path / "other.md").write_text("# Other\n", encoding="utf-8")
        page = tmp_path / "page.md"
        page.write_text(GOOD, encoding="utf-8")
        return page

    def changed(self, page: Path, old: str, new: str) -> Path:
        assert old in GOOD
        page.write_text(GOOD.replace(old, new), encoding="utf-8")
        return page

    def test_a_page_where_all_is_well(self, page: Path) -> None:
        """It passes, and all of it was run."""
        check_code(page, page.parent)
        assert ([], [], [], []) == (dead_links(page), wrong_options(page), wrong_names(page), wrong_verbs(page))
        assert (page.parent / "hello.py").exists()

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("application = Wsgi", "application = Whiskey"),
            ("threads=2", "threads=0"),
            ("```text output\n0", "```text output\n1"),
            ("import hello\nprint", "import warnings; warnings.warn('x')\nprint"),
            ("import hello\nprint", "import good_bye\nprint"),
            ("/\nHello", "/\nGood bye"),
            ('print(8000)"\n8000', 'print(8000)"\n8001'),
            ("curl http", "curl -v http"),
            ("uvicorn hello:application", "uvicorn hello:app"),
            ("```console run\n$ uvicorn", "```console run\nuvicorn"),
            ("file=hello.py", "file=hello"),
            ("```python\nawait application", "```python\nawait = application"),
            ("```python run", "```python runs"),
            ("```text output", "```text input"),
            ("send)\n```", "send)\n``"),
        ],
    )
    def test_code_that_does_not_do_what_the_page_says(self, page: Path, old: str, new: str) -> None:
        """Each kind of block can fail."""
        with pytest.raises((AssertionError, SyntaxError)):
            check_code(self.changed(page, old, new), page.parent)

    @pytest.mark.parametrize(
        ("old", "new", "dead"),
        [
            ("other.md", "another.md", ["another.md"]),
            ("other.md", "other.md#where", ["other.md#where"]),
            ("#how-it-ends", "#how-it-began", ["#how-it-began"]),
            ("other.md", "./other.md#other", []),
            (
                "[the other](other.md)",
                '<source srcset="dark.svg"><img alt="" src="light.svg">',
                ["dark.svg", "light.svg"],
            ),
        ],
    )
    def test_a_link_that_leads_nowhere(self, page: Path, old: str, new: str, dead: list[str]) -> None:
        """No file, or no heading."""
        assert dead == dead_links(self.changed(page, old, new))

    @pytest.mark.parametrize(
        ("old", "new", "wrong"),
        [
            ("threads=2", "thread=2", ["WsgiToAsgi(thread=)"]),
            ("(app, lifespan)", "(app, lifespan='on')", ["WsgiToAsgi(lifespan=)"]),
            ("max_body=2", "max_size=2", ["max_size=2"]),
            ("bridge.client_disconnected", "bridge.client_left", ["bridge.client_left"]),
            ("bridge.errors", "bridge.error", ["bridge.error"]),
            ("make test", "make tests", ["tests"]),
        ],
    )
    def test_a_name_that_there_is_not(self, page: Path, old: str, new: str, wrong: list[str]) -> None:
        """Options in code and in the text, names, keys, verbs."""
        self.changed(page, old, new)
        assert wrong == [*wrong_options(page), *wrong_names(page), *wrong_verbs(page)]
