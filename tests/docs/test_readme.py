"""What README and docs/ claim beyond the Python of their code blocks, which `test_documents` runs: commands and what
they print, changed imports, tables of options, counts, modules, log lines and dependencies, and the comparison with
other adapters.

A `python` block of the README begins with its file's name. In a `console` block a line with `$` is a command, and the
lines below it are what it prints; a free port stands in place of 8000.
"""

import ast
import asyncio
import dataclasses
import http.client
import inspect
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import a2wsgi
import asgiref.wsgi
import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge._stats import LoopStats, ThreadStats
from support import processes
from support.markdown import blocks, rows, section
from support.moving_asgi import a_loop
from support.paths import ROOT
from support.patience import PATIENCE
from support.plain_servers import body_events, environ_for, scope_for
from support.source import MODULES

README = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


# --- the commands ----------------------------------------------------------------------------------------------------


def write_apps(directory: Path) -> None:
    for block in blocks(README, "python"):
        (directory / block.split()[1]).write_text(block)


@contextmanager
def serving(command: str, directory: Path, written: str = "8000") -> Iterator[int]:
    """Run a command line of the documents, with a free port in place of the `written` one; gives it once it is open."""
    port = processes.free_port()
    words = shlex.split(command.removesuffix("&").replace(written, str(port)))
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(directory)]),
    }
    log_path = directory / "log"
    process = processes.start_logging(words, directory, environment, log=log_path)
    try:
        processes.wait_until_it_listens(process, port, log_path)
        yield port
    finally:
        processes.end(process)


def get(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    """Both apps, each started by its command, one after the other; while both serve, each `curl` prints what is below.

    The files have the names that their first lines say, and the two ports differ; free ones stand in for them.
    """
    write_apps(tmp_path)
    ports = []
    with ExitStack() as stack:
        for block in blocks(README, "console"):
            server, client, *printed = block.splitlines()
            port = re.search(r"127\.0\.0\.1:(\d+)/$", client)
            assert port, client
            ports.append(port[1])
            command = server.removeprefix("$ ")
            assert command.endswith(" &")
            assert port[1] in command
            serves = stack.enter_context(serving(command, tmp_path, port[1]))
            assert f"$ curl http://127.0.0.1:{port[1]}/" == client
            assert "\n".join(printed) + "\n" == get(serves)
    assert 2 == len(set(ports))


def test_one_line_installs_what_the_readme_runs(tmp_path: Path) -> None:
    """What its apps import and its commands start, and this package from the clone: there is no release."""
    (install,) = blocks(README, "sh")
    make, line = install.splitlines()
    assert "python3 -m venv .venv && . .venv/bin/activate" == make
    words = shlex.split(line)
    assert ["pip", "install", "."] == words[:3]
    imported = {
        node.module.partition(".")[0]
        for block in blocks(README, "python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    started = {block.split()[1] for block in blocks(README, "console")}
    assert (imported - {"bridge"}) | started == set(words[3:])
    assert "There is no release yet" in section(README, "## Install")


COMMANDS = [line.removeprefix("$ ") for block in blocks(page("deploying.md"), "console") for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_the_commands_for_deploying_serve(command: str, tmp_path: Path) -> None:
    """Each command line starts its server, which serves the app that it names."""
    write_apps(tmp_path)
    with serving(command, tmp_path) as port:
        assert f"an {'WSGI' if 'hello_wsgi' in command else 'ASGI'} app\n".removeprefix("an ") in get(port)


def test_the_code_of_the_readme_is_short() -> None:
    """At most six lines a block, and the README is not longer than two screens."""
    assert 2 == len(blocks(README, "python")) == len(blocks(README, "console"))
    for block in blocks(README, "python"):
        assert len([line for line in block.splitlines() if line and line[0] != "#"]) <= 6
    assert len(README.splitlines()) <= 130


# --- docs/ -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", range(6), ids=["a2wsgi-wsgi", "a2wsgi-asgi", "asgiref", "uvicorn", "starlette", "hypercorn"]
)
@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")
@pytest.mark.parametrize("side", ["-", "+"], ids=["before", "after"])
def test_both_sides_of_a_changed_import_run(number: int, side: str) -> None:
    """The lines before the change make an application, and so do those after it."""

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None: ...

    lines = [line[1:] for line in blocks(page("migrating.md"), "diff")[number].splitlines() if line[0] == side]
    with a_loop() as loop:
        names: dict[str, Any] = {"wsgi_app": wsgi_app, "asgi_app": asgi_app, "loop": loop}
        exec("\n".join(lines).replace("ASGIMiddleware(asgi_app)", "ASGIMiddleware(asgi_app, loop=loop)"), names)

    assert callable(names["application"])


@pytest.mark.parametrize("adapter", [WsgiToAsgi, AsgiToWsgi])
def test_each_option_is_listed_with_its_default(adapter: type) -> None:
    """The table has the options of the signature, in their order, and says each again below."""
    text = section(page("options.md"), f"## {adapter.__name__}")
    parameters = [each for each in inspect.signature(adapter).parameters.values() if each.kind is each.KEYWORD_ONLY]
    listed = {row[0].strip("`"): ast.literal_eval(row[2].strip("`")) for row in rows(text)}

    assert {each.name: each.default for each in parameters} == listed
    assert [each.name for each in parameters] == list(listed)
    explained = {name for line in re.findall(r"^### (.*)", text, re.MULTILINE) for name in line.split(", ")}
    assert {f"`{name}`" for name in listed} == explained


@pytest.mark.parametrize(("title", "stats"), [("WsgiToAsgi", ThreadStats), ("AsgiToWsgi", LoopStats)])
def test_each_count_is_listed(title: str, stats: type) -> None:
    """Both tables of counts have the fields of their dataclass, in their order."""
    table = page("observability.md").split(f"| `{title}.stats()` | what it is |\n")[1].split("\n\n")[0]

    assert [f"`{field.name}`" for field in dataclasses.fields(stats)] == [row[0] for row in rows("| x | y |\n" + table)]


def test_each_log_line_is_listed() -> None:
    """Every line that the package can log is in the tables, with its level, and no other one."""
    text = section(page("observability.md"), "## What each line means")
    logged = set()
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or name == "bridge._log_once":
                continue
            if isinstance(node.func, ast.Attribute) and is_logger(node.func.value):
                level, line = node.func.attr.replace("exception", "error"), node.args[0]
            elif isinstance(node.func, ast.Name) and node.func.id == "warn_once":
                level, line = "warning", node.args[1]
            else:
                continue
            logged.add((level, re.sub(r"%(\.\d)?[sdf]", "…", ast.literal_eval(line))))

    assert logged == {(row[0], row[1].strip("`")) for row in rows(text)}


def test_the_warnings_of_troubleshooting_are_log_lines() -> None:
    """Each is one that the tables of the log lines have."""
    known = {row[1].strip("`") for row in rows(section(page("observability.md"), "## What each line means"))}
    named = [row[0].strip("`") for row in rows(section(page("troubleshooting.md"), "## What our warnings mean"))]

    assert len(named) > 8
    assert [] == [line for line in named if line not in known]


def is_logger(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "_log"


@pytest.mark.parametrize(
    "title", ["To run", "To test", "To build", "To fuzz", "To try agents", "To build the site", "To check"]
)
def test_each_dependency_has_its_reason(title: str) -> None:
    """The tables name what `pyproject.toml` names, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    wanted = {"To run": project["project"]["dependencies"], "To test": groups["test"], "To check": groups["check"]}
    wanted |= {"To try agents": groups["agents"], "To build": groups["dist"], "To fuzz": groups["fuzz"]}
    wanted |= {"To build the site": groups["docs"]}
    names = {re.split(r"[\[<>=]", each)[0] for each in wanted[title] if isinstance(each, str)}

    assert names == {row[0].strip("`") for row in rows(section(page("dependencies.md"), f"## {title}"))}


def test_each_package_of_a_recipe_is_installed_for_its_test() -> None:
    """The table names packages of the group `hosts`, and a page of docs/howto installs each of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hosts = {re.split(r"[\[<>=]", each)[0] for each in project["dependency-groups"]["hosts"] if isinstance(each, str)}
    recipes = [row[0].strip("`") for row in rows(section(page("dependencies.md"), "## To test recipes"))]
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "howto").glob("*.md"))
    installed = {word for line in re.findall(r"^pip install (.*)$", pages, re.MULTILINE) for word in line.split()}

    assert len(recipes) > 5
    assert [] == [name for name in recipes if name not in hosts or name not in installed]


# --- the comparison --------------------------------------------------------------------------------------------------

TABLE = {row[0]: row[1:] for row in rows(section(README, "## Beside asgiref and a2wsgi"))}
WSGI_ADAPTERS: list[Callable[..., Any]] = [WsgiToAsgi, asgiref.wsgi.WsgiToAsgi, a2wsgi.WSGIMiddleware]


def the_three(row: str, see: Callable[[Callable[..., Any]], str]) -> None:
    """`see` each WSGI adapter do what the row of the README says of it."""
    assert TABLE[row] == [see(adapter) for adapter in WSGI_ADAPTERS]


def ask(make: Callable[..., Any], app: Any, scope: Any, events: list[Any], *, times: int = 1) -> Exception | None:
    """Send one request, or several at once, through an adapter of its own; returns what that raised."""
    adapter = make(app)

    async def one() -> None:
        left = iter(events)

        async def receive() -> Any:
            event = next(left, None)
            if event is None:
                await asyncio.Event().wait()  # the client stays
            return event

        async def send(event: Any) -> None: ...

        await adapter(dict(scope), receive, send)

    async def all_of_them() -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(one() for _ in range(times)))

    try:
        asyncio.run(all_of_them())
    except Exception as error:
        return error
    finally:
        with suppress(AttributeError):
            adapter.close()
        with suppress(AttributeError):
            adapter.executor.shutdown()
    return None


def answer(start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]


def test_each_row_is_tested() -> None:
    """The table has no row that is not looked up here."""
    words = {node.value for node in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(node, ast.Constant)}

    assert set(TABLE) <= words


def test_the_two_directions() -> None:
    """Which of the two each package has."""
    packages = [
        ("bridge", "WsgiToAsgi", "AsgiToWsgi"),
        ("asgiref.wsgi", "WsgiToAsgi", "AsgiToWsgi"),
        ("a2wsgi", "WSGIMiddleware", "ASGIMiddleware"),
    ]
    for row, number in (("WSGI app on an ASGI server", 1), ("ASGI app on a WSGI server", 2)):
        assert TABLE[row] == ["yes" if hasattr(sys.modules[each[0]], each[number]) else "no" for each in packages]


def test_requests_at_once() -> None:
    """How many of 50 requests are in the app at the same time, with each adapter's defaults."""

    def see(make: Callable[..., Any]) -> str:
        claim = TABLE["WSGI requests that run at once"][WSGI_ADAPTERS.index(make)]
        number = claim.split(",")[0]
        changed, now, most, settled = threading.Condition(), [0], [0], threading.Event()

        def app(environ: Any, start_response: Any) -> list[bytes]:
            with changed:
                now[0] += 1
                most[0] = max(most[0], now[0])
                changed.notify_all()
                changed.wait_for(lambda: most[0] >= int(number), PATIENCE)
                if not settled.is_set():
                    changed.wait_for(lambda: most[0] > int(number), 0.5)  # where more can come, they do
                    settled.set()
                now[0] -= 1
            return answer(start_response)

        assert ask(make, app, scope_for("GET", "/"), body_events(b""), times=50) is None
        return f"{most[0]}{claim.removeprefix(number)}"

    the_three("WSGI requests that run at once", see)


def test_a_large_upload() -> None:
    """Whether the app is called before the last event of a body of 4 MiB has been received."""

    def see(make: Callable[..., Any]) -> str:
        size, taken, seen = 4 * 2**20, list[int](), list[int]()

        def app(environ: Any, start_response: Any) -> list[bytes]:
            seen.append(len(taken))
            assert size == len(environ["wsgi.input"].read(size))
            return answer(start_response)

        class Events(list[Any]):
            def __iter__(self) -> Iterator[Any]:
                for event in super().__iter__():
                    taken.append(1)
                    yield event

        events = Events(body_events(*[bytes(2**16)] * 64))
        assert ask(make, app, scope_for("POST", "/", [(b"content-length", b"%d" % size)]), events) is None
        return "when it is whole" if seen == [len(events)] else "as it comes"

    the_three("A 4 MiB upload reaches the WSGI app", see)


def test_an_upload_that_breaks_off() -> None:
    """What the app sees of a body of which two bytes came."""

    def see(make: Callable[..., Any]) -> str:
        seen = ["app is not called"]

        def app(environ: Any, start_response: Any) -> list[bytes]:
            try:
                assert environ["wsgi.input"].read() == b"ab"
                seen[0] = "looks like the end"
            except OSError:
                seen[0] = "`read()` raises"
            return answer(start_response)

        half = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
        ask(make, app, scope_for("POST", "/", [(b"content-length", b"9")]), half)
        return seen[0]

    the_three("An upload that breaks off, to a WSGI app", see)


def test_close() -> None:
    """Whether the `close()` of an iterable is called at its end."""

    def see(make: Callable[..., Any]) -> str:
        class Body:
            closed = "not called"

            def __iter__(self) -> Iterator[bytes]:
                return iter([b"x"])

            def close(self) -> None:
                self.closed = "called"

        body = Body()

        def app(environ: Any, start_response: Any) -> Body:
            answer(start_response)
            return body

        assert ask(make, app, scope_for("GET", "/"), body_events(b"")) is None
        return body.closed

    the_three("`close()` of the WSGI app's iterable", see)


def test_cookies() -> None:
    """What HTTP_COOKIE is for two headers (RFC 9113 8.2.3)."""

    def see(make: Callable[..., Any]) -> str:
        seen = []

        def app(environ: Any, start_response: Any) -> list[bytes]:
            seen.append(environ["HTTP_COOKIE"])
            return answer(start_response)

        ask(make, app, scope_for("GET", "/", [(b"cookie", b"a"), (b"cookie", b"b")]), body_events(b""))
        return f"`{seen[0][1:-1]}`"

    assert TABLE["Two `Cookie` headers are joined with"] == [see(make) for make in WSGI_ADAPTERS]


def test_exc_info() -> None:
    """An app that replaces its headers before the first byte of its body, as PEP 3333 has it."""

    def see(make: Callable[..., Any]) -> str:
        done = []

        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b""
            try:
                raise LookupError
            except LookupError:
                start_response("500 Oops", [], sys.exc_info())
            done.append(True)
            yield b"oops"

        failed = ask(make, app, scope_for("GET", "/"), body_events(b"")) is not None
        return "replaces the headers" if not failed else "raises at the end" if done else "raises"

    the_three("A WSGI app's `start_response(..., exc_info)` before the first byte", see)


def both_asgi(app: Any, see: Callable[[Any], str]) -> list[str]:
    """What is seen of `app` through us, of asgiref (nothing), and through a2wsgi."""
    with AsgiToWsgi(app) as ours, a_loop() as loop:
        return [see(ours), "n/a", see(a2wsgi.ASGIMiddleware(app, loop=loop))]


async def reply(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


def test_the_lifespan_of_an_asgi_app() -> None:
    """Whether the app is asked to start up."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
        else:
            await reply(send)

    def see(adapter: Any) -> str:
        seen.clear()
        assert b"x" == b"".join(adapter(environ_for("GET", "/"), lambda *_: None))
        return "run" if "lifespan" in seen else "not run"

    assert TABLE["Lifespan of an ASGI app"] == both_asgi(app, see)


def test_work_after_the_response() -> None:
    """Whether the response ends while the app still works; the work ends when the test says so."""
    release: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        loops.append(asyncio.get_running_loop())
        release.append(asyncio.Event())
        await reply(send)
        await release[-1].wait()

    def see(adapter: Any) -> str:
        over = threading.Event()

        def request() -> None:
            assert b"x" == b"".join(adapter(environ_for("GET", "/"), lambda *_: None))
            over.set()

        thread = threading.Thread(target=request)
        thread.start()
        # One that delays the end does so for as long as one waits.
        ended = over.wait(PATIENCE if type(adapter) is AsgiToWsgi else 0.5)
        loops[-1].call_soon_threadsafe(release[-1].set)
        thread.join(PATIENCE)
        return "does not delay the end" if ended else "delays the end"

    assert TABLE["An ASGI app's work after its response"] == both_asgi(app, see)


FORK = """
import os, sys
from {module} import {name}

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"x"}})

adapter = {name}(app)
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.path.insert(0, {tests!r})
from support.plain_servers import environ_for
assert b"".join(adapter(environ_for("GET", "/"), lambda *_: None)) == b"x"
os._exit(0)
"""


def test_a_fork() -> None:
    """An adapter that is made in the parent, as with Gunicorn's `--preload`, and used in the child."""

    def see(module: str, name: str) -> str:
        code = FORK.format(module=module, name=name, tests=str(ROOT / "tests"))
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        try:
            # One that hangs does so for as long as one waits.
            return {0: "serves in the child"}[process.wait(PATIENCE if module == "bridge" else 3.0)]
        except subprocess.TimeoutExpired:
            return "hangs in the child"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()

    seen = [see("bridge", "AsgiToWsgi"), "n/a", see("a2wsgi", "ASGIMiddleware")]
    assert TABLE["Adapter of an ASGI app, made before a fork"] == seen
