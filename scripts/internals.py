"""The page docs/internals.md: a section a package, a line a class, a drawing of each direction.

The lines are the first sentences of docstrings, and who uses a class and in which thread is read from the source, so
that the page cannot say what the code does not. Nothing is imported for that.
"""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parent.parent / "src" / "bridge"

INTRODUCTION = """\
# Internals

<!-- Printed by `python scripts/generate_docs.py`; a test fails when this page is stale. -->

This page is for people who want to change `src/bridge`. It has a section for each package, from low to high, and a line
for each class. [How it works](how_it_works.md) says what happens to a request and why, [Glossary](glossary.md) explains
the words, and [CONTRIBUTING.md](../CONTRIBUTING.md#where-do-i-change-x) says where a change begins.

Each line is the first sentence of a docstring, which says more. If a class has both ends of a hand-over, *in the
thread* and *on the loop* list what may be called there. *Used by* lists the other modules that name the class.
"""


class Package(NamedTuple):
    """One section: the folder below src/bridge, what a reader has to know first, and the drawing below that."""

    folder: str
    title: str
    text: str
    drawing: tuple[str, ...] = ()


class Step(NamedTuple):
    """One arrow of a drawing: from whom to whom, by which functions of ours, and what that is."""

    giver: str
    taker: str
    names: tuple[str, ...]
    text: str


SERVER, LOOP, THREAD, APP = "server", "eventloop", "thread", "app"

WSGI_APP = (
    Step(SERVER, LOOP, ("_wsgi_to_asgi.adapter.WsgiToAsgi.__call__",), "scope, receive, send"),
    Step(LOOP, LOOP, ("_translate.scope_to_environ.scope_to_environ",), "the scope becomes the environ"),
    Step(LOOP, SERVER, ("_wsgi_to_asgi.adapter.WsgiToAsgi._receive_body",), "receive() until the body is there"),
    Step(
        LOOP,
        THREAD,
        ("_wsgi_to_asgi.responder.WsgiResponder.start", "_concurrency.calls.Dispatcher.submit"),
        "hop 1, into the queue of the pool",
    ),
    Step(THREAD, APP, ("_wsgi_to_asgi.responder.WsgiResponder.work",), "app(environ, start_response)"),
    Step(
        THREAD,
        LOOP,
        ("_concurrency.calls.Call.write", "_concurrency.loops.AsyncioLoop.post"),
        "hop 2, the response, or its next items",
    ),
    Step(LOOP, LOOP, ("_concurrency.calls.Call.run_on_loop",), "wakes the task of the request"),
    Step(
        LOOP,
        SERVER,
        ("_wsgi_to_asgi.adapter.WsgiToAsgi._http", "_wsgi_to_asgi.cycle.RequestResponseCycle"),
        "send() the events",
    ),
    Step(LOOP, THREAD, ("_concurrency.calls.Call.acknowledge",), "of a stream, there is room for more"),
)

ASGI_APP = (
    Step(SERVER, THREAD, ("_asgi_to_wsgi.adapter.AsgiToWsgi.__call__",), "environ, start_response"),
    Step(THREAD, THREAD, ("_translate.environ_to_scope.environ_to_scope",), "the environ becomes the scope"),
    Step(THREAD, SERVER, ("_asgi_to_wsgi.request_events.RequestEvents.read_ahead",), "read what is there of the body"),
    Step(
        THREAD,
        LOOP,
        ("_asgi_to_wsgi.task.Task.start", "_concurrency.loops.AsyncioLoop.post"),
        "hop 1, the task is posted",
    ),
    Step(LOOP, APP, ("_asgi_to_wsgi.responder.AsgiResponder.work",), "app(scope, receive, send)"),
    Step(
        LOOP,
        THREAD,
        ("_asgi_to_wsgi.task.Task.write", "_concurrency.server_thread.ServerThread.notify"),
        "hop 2, the response, or its next items",
    ),
    Step(THREAD, THREAD, ("_asgi_to_wsgi.task.Task.next",), "takes them, and does what else the request needs"),
    Step(
        THREAD,
        SERVER,
        ("_asgi_to_wsgi.responder.AsgiResponder.respond", "_asgi_to_wsgi.responder.ResponseIterator.__next__"),
        "start_response(), and the body",
    ),
    Step(LOOP, THREAD, ("_asgi_to_wsgi.task.Task.next_event",), "of a longer body, asks the thread to read on"),
)

NAMES = {
    "wsgi": {SERVER: "ASGI server", LOOP: "the server's loop", THREAD: "worker thread", APP: "WSGI app"},
    "asgi": {SERVER: "WSGI server", LOOP: "private loop", THREAD: "the server's thread", APP: "ASGI app"},
}


def packages() -> tuple[Package, ...]:
    """The sections, from low to high."""
    return (
        Package(
            "", "The ground", "These modules are not in a package. They import nothing of ours that is above them."
        ),
        Package(
            "_translate",
            "Translation",
            "Functions from values to values, without threads, loops, sockets, clocks, files or logs. The name of a"
            " module says what it turns into what. [Order](order.md) draws the order tables.",
        ),
        Package(
            "_concurrency",
            "Threads and loops",
            "Threads, loops and the way between them, without knowledge of HTTP, WSGI or ASGI. A `Call` is made on a"
            " loop and run in a thread. If two threads touch a class, its docstring says who sets which flag, who looks"
            " at it, and why no wake-up is lost.",
        ),
        Package(
            "_servers",
            "Servers",
            "The only place that knows WSGI servers by name: what they show of the client's connection, and how they"
            " announce the end of the process. It is used in the server's thread.",
        ),
        Package(
            "_wsgi_to_asgi",
            "A WSGI app on an ASGI server",
            "The server's side is the server's loop, and the app's side is a worker thread. Only `adapter.py` and"
            " `cycle.py` await `receive` and `send`.",
            tuple(_drawing(NAMES["wsgi"], WSGI_APP)),
        ),
        Package(
            "_asgi_to_wsgi",
            "An ASGI app on a WSGI server",
            "The server's side is the server's thread, and the app's side is a task on a loop. Only the thread reads"
            " `wsgi.input` and calls `start_response`. A portal does the same without ASGI.",
            tuple(_drawing(NAMES["asgi"], ASGI_APP)),
        ),
        Package(
            "mounts",
            "Mounts",
            "Apps of either kind under path prefixes. It imports only the `__init__` of each direction.",
        ),
        Package(
            "django",
            "Django",
            "A WSGI app of its own for both directions (`_handler.py`), and a second kind of responder, for requests"
            " that hold no thread (`_loop_handler.py`).",
        ),
        Package(
            "django/_report",
            "Django's report",
            "`manage.py bridge_report` and the system checks. Requests do not use it.",
        ),
        Package("django/management", "Django's commands", "Django finds them by their path."),
        Package(
            "_check",
            "bridge check",
            "The requests of `bridge check`, and the code that watches how an app answers them.",
        ),
        Package("cli", "The command line", "`bridge serve`, `bridge check`, `bridge mounts`."),
    )


def page() -> str:
    """The text of docs/internals.md."""
    return "\n".join([INTRODUCTION, *(line for package in packages() for line in _section(package))])


def _section(package: Package) -> Iterator[str]:
    yield from (f"## {package.title}", "", *_wrapped(package.text, ""), "")
    if package.drawing:
        yield from ("```mermaid", *package.drawing, "```", "")
    folder = SOURCE / package.folder
    deep = package.folder == "django/management"
    for path in sorted(folder.glob("**/*.py" if deep else "*.py")):
        if path.name != "__init__.py":
            yield from _module(path)


def _module(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (f"### `{path.relative_to(SOURCE)}`", "", *_wrapped(_paragraph(tree), ""), "")
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and ast.get_docstring(node)]
    for node in classes:
        words = [f"- `{node.name}`: {_sentence(node)}", *_places(node, path), _users(node.name, path)]
        yield from _wrapped(" ".join(word for word in words if word), "  ")
    if classes:
        yield ""


def _paragraph(node: ast.Module | ast.ClassDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def _sentence(node: ast.ClassDef) -> str:
    text = re.split(r"(?<=[a-z`)\"]\.)\s", _paragraph(node))[0]
    return text if text.endswith(".") else f"{text}."


def _places(node: ast.ClassDef, path: Path) -> Iterator[str]:
    """Which of its public methods are called where, by the comments that divide the class."""
    lines = path.read_text(encoding="utf-8").splitlines()
    place, methods = "", defaultdict[str, list[str]](list)
    starts = {each.lineno: each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        if found := re.match(r"    # -- (.+)$", lines[number - 1]):
            place = found[1]
        elif place and number in starts and not starts[number].startswith("_"):
            methods[place].append(f"`{starts[number]}`")
    for each, names in methods.items():
        yield f"*{each[0].upper()}{each[1:]}*: {', '.join(names)}."


def _users(name: str, path: Path) -> str:
    names = {name, f"{path.stem}.{name}"}
    others = (other for other in sorted(SOURCE.rglob("*.py")) if other not in (path, path.parent / "__init__.py"))
    users = [f"`{other.relative_to(SOURCE).with_suffix('')}`" for other in others if names & _named(other)]
    return f"*Used by* {', '.join(users)}." if users else ""


@functools.cache
def _named(path: Path) -> frozenset[str]:
    """What a module imports of ours by name, and what it takes out of a module of ours."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bridge")
        for alias in node.names
    }
    taken = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    }
    return frozenset(imported | taken)


def _wrapped(text: str, indent: str) -> Iterator[str]:
    """Lines of at most 120 characters; what is between backticks is not broken."""
    line = ""
    for word in re.findall(r"(?:`[^`]*`|\S)+", text):
        if line and len(line) + 1 + len(word) > 120:
            yield line
            line = indent + word
        else:
            line = f"{line} {word}" if line.strip() else line + word
    yield line


def _drawing(names: dict[str, str], steps: tuple[Step, ...]) -> Iterator[str]:
    yield "sequenceDiagram"
    for key, name in names.items():
        yield f"    participant {key} as {name}"
    for step in steps:
        called = ", ".join(_checked(name) for name in step.names)
        yield f"    {step.giver}->>{step.taker}: {called}: {step.text}"


def _checked(dotted: str) -> str:
    """The name of a function or class without its module, which has it; else the drawing has to be drawn anew."""
    parts = dotted.split(".")
    names = list(parts)
    path = SOURCE
    while names and not path.with_suffix(".py").is_file():
        path = path / names.pop(0)
    body: list[ast.stmt] = ast.parse(path.with_suffix(".py").read_text(encoding="utf-8")).body
    for name in names:
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        if not found:
            raise LookupError(f"the drawing in docs/internals.md names {dotted}, which is not there")
        body = found[0].body
    return ".".join(names)
