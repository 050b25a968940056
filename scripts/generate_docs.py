"""Writes the pages of docs/ that are printed from code; with `--check` it writes nothing, and exits 1 if one is stale.

docs/order.md is printed from the order tables that the adapters use, docs/conformance.md and
docs/conformance_clauses.md from the table of the clauses, docs/django_deviations.md from what is expected of Django's
own tests, docs/internals.md from the source.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from bridge._translate import events_to_response, lifespan, response_to_events, websocket  # noqa: E402  # needs the path, websocket
from bridge.errors import ProtocolError  # noqa: E402

Table = Mapping[str, Mapping[str, str]]

INTRODUCTION = """\
# Order

<!-- Printed by `python scripts/generate_docs.py`; a test fails when this page is stale. -->

Read this page if an error of `bridge` says that your app did something at the wrong time, or if you change the code. It
shows which steps may follow which, in a response, in a WebSocket and in a lifespan.

The drawings and tables are made from the tables in which the code looks up each step. The states have numbers. In each
table, a row is a step and a column is the state before it. A cell has the number of the state after it. A dash means
that the step is illegal in this state, or cannot happen. An illegal step raises an error, which says who did what in
which state, what was expected, and which clause of the specification says so.
"""


class Machine(NamedTuple):
    """One table, with what a reader has to know beside it. `sin` commits an illegal step."""

    title: str
    text: str
    order: Table
    sin: Callable[[], object]


def _wsgi_sin() -> object:
    return response_to_events.WsgiResponse(head_only=False, write=print).chunk(b"a")


def _asgi_sin() -> object:
    event = {"type": "http.response.body", "body": b"a"}
    return events_to_response.AsgiResponse(head_only=False, extensions={}).feed(event)


def _websocket_sin() -> object:
    return websocket.WebSocketOrder([]).feed({"type": "websocket.send", "text": "a"})


def _lifespan_sin() -> None:
    lifespan.LifespanOrder().answer({"type": "lifespan.shutdown.complete"})


MACHINES = (
    Machine(
        "The response of a WSGI application",
        """\
`WsgiToAsgi` holds the headers back until the first non-empty chunk or the end (PEP 3333, "The start_response()
Callable"), so that an application that fails late can still replace them. Empty chunks change nothing in any state.

- After the headers have been sent, `start_response` with `exc_info` raises the exception in `exc_info`.
- A response that cannot have a body (to HEAD, or with status 204 or 304) is treated as if its Content-Length were 0.
- Bytes beyond Content-Length are cut off (PEP 3333, "Handling the Content-Length Header"). If the response ends before
  Content-Length is reached, this is an error too, so that the client never takes a part for the whole.""",
        response_to_events.ORDER,
        _wsgi_sin,
    ),
    Machine(
        "The response of an ASGI application",
        """\
`AsgiToWsgi` holds the head back until the first body event, so that a small response is handed over in one piece. If no
body event comes soon, it sends the head alone. The application does not notice this.

- `http.response.pathsend` and `http.response.early_hint` are illegal if the scope does not offer them.
- A hint after the head has been sent is ignored, as the extension allows.
- After the end, events of any type are ignored (ASGI HTTP, "Response Body").
- Bytes beyond Content-Length are cut off. If the last body event comes before Content-Length is reached, this is an
  error, so that the client never takes a part for the whole.
- An event that raises an error has no effect.""",
        events_to_response.ORDER,
        _asgi_sin,
    ),
    Machine(
        "A WebSocket of an ASGI application",
        """\
What the application behind `AsgiToWsgi` sends on a [WebSocket](websockets.md). The application can answer the handshake
with a response instead of accepting it, as the denial extension says. `websocket.close` in place of the accept is a
403.

- Events after a denial are ignored, as after a response.
- If the application returns while the connection is open, the connection is closed with 1000. If it raises, it is
  closed with 1011.
- After the client has left, legal steps raise `ClientDisconnected`.""",
        websocket.ORDER,
        _websocket_sin,
    ),
    Machine(
        "Lifespan",
        """\
The lifespan of the application behind `AsgiToWsgi`, which begins with the event `lifespan.startup`. The adapter sends
the event `lifespan.shutdown`. The other events are the answers of the application.

- An application that raises or returns while its lifespan is starting does not support lifespan, and is served without
  it (unless `lifespan="on"`).""",
        lifespan.ORDER,
        _lifespan_sin,
    ),
)


def order_page() -> str:
    """The text of docs/order.md."""
    return "\n".join([INTRODUCTION, *(line for machine in MACHINES for line in _machine(machine))])


def _machine(machine: Machine) -> Iterator[str]:
    try:
        machine.sin()
    except ProtocolError as error:
        sentence = str(error)
    else:
        raise AssertionError(f"the example of {machine.title!r} is legal")
    yield from (f"## {machine.title}", "", machine.text, "", "```mermaid", *_diagram(machine.order), "```", "")
    yield from (*_states(machine.order), "", *_rows(machine.order), "")
    yield from ("An illegal step, for example:", "", f"> {sentence}", "")


def _numbers(order: Table) -> dict[str, int]:
    return {state: number for number, state in enumerate(order, 1)}


def _diagram(order: Table) -> Iterator[str]:
    numbers = _numbers(order)
    yield "stateDiagram-v2"
    for state, number in numbers.items():
        yield f'    state "{state} ({number})" as s{number}'
    yield "    [*] --> s1"
    for state, steps in order.items():
        for following in dict.fromkeys(steps.values()):
            labels = (step for step, target in steps.items() if target == following)
            yield f"    s{numbers[state]} --> s{numbers[following]} : {', '.join(labels)}"
        if set(steps.values()) <= {state}:
            yield f"    s{numbers[state]} --> [*]"


def _states(order: Table) -> Iterator[str]:
    for state, number in _numbers(order).items():
        yield f"{number}. {state}"


def _rows(order: Table) -> Iterator[str]:
    numbers = _numbers(order)
    yield f"| step | {' | '.join(str(number) for number in numbers.values())} |"
    yield f"|---|{'---|' * len(order)}"
    for step in dict.fromkeys(step for row in order.values() for step in row):
        following = (row.get(step) for row in order.values())
        yield f"| {step} | {' | '.join('-' if state is None else str(numbers[state]) for state in following)} |"


def conformance_page() -> str:
    """The text of docs/conformance.md."""
    conformance: Any = importlib.import_module("spec.conformance")
    return str(conformance.page())


def clauses_page() -> str:
    """The text of docs/conformance_clauses.md."""
    conformance: Any = importlib.import_module("spec.conformance")
    return str(conformance.clauses_page())


def django_page() -> str:
    """The text of docs/django_deviations.md."""
    deviations: Any = importlib.import_module("django_suite.deviations")
    return str(deviations.page())


@cache  # reads the whole source, which takes a second
def internals_page() -> str:
    """The text of docs/internals.md."""
    internals: Any = importlib.import_module("internals")
    return str(internals.page())


PAGES: dict[str, Callable[[], str]] = {
    "docs/order.md": order_page,
    "docs/conformance.md": conformance_page,
    "docs/conformance_clauses.md": clauses_page,
    "docs/django_deviations.md": django_page,
    "docs/internals.md": internals_page,
}


def stale(root: Path) -> list[str]:
    """The pages below `root` that are not what is printed now, or not there."""
    return [name for name, page in PAGES.items() if _read(root / name) != page()]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write the pages that are stale; with `--check`, only name them and return 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and exit 1 if a page is stale")
    check = parser.parse_args(arguments).check
    names = stale(root)
    for name in names:
        if not check:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"{name} {'is stale: make docs writes it anew' if check else 'written'}")
    return int(check and bool(names))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
