"""The table of all clauses, and the pages that are printed from it: docs/conformance.md and conformance_clauses.md.

A test fails when a page is not what this prints, when a test of this directory belongs to no clause, and when the table
names a test that does not exist.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from spec.clauses import Clause, Section, c
from spec.clauses_of_asgi import ASGI_EXTENSIONS, HTTP_FORMAT, LIFESPAN_PROTOCOL, MAIN_SPECIFICATION
from spec.clauses_of_pep3333 import PEP_3333

HERE = Path(__file__).parent
CONFORMANCE = "test_conformance.py"

TABLE: dict[str, tuple[Section, ...]] = {
    "PEP 3333": PEP_3333,
    "ASGI": MAIN_SPECIFICATION,
    "ASGI HTTP": HTTP_FORMAT,
    "ASGI Extensions": ASGI_EXTENSIONS,
    "ASGI Lifespan": LIFESPAN_PROTOCOL,
    "This page": (
        Section(
            "Table and tests",
            (CONFORMANCE,),
            (
                c(
                    "page-1",
                    "The table, the tests and the pages agree.",
                    """TestConformancePage each_test_is_named_in_the_table each_clause_has_a_test_or_a_reason
                    the_page_is_what_the_table_prints each_note_is_read""",
                ),
            ),
        ),
    ),
}

INTRODUCTION = """\
# Conformance

<!-- Printed by `python scripts/generate_docs.py`; a test fails when this page is stale. -->

This page is for people who want to know how closely `bridge` follows
[PEP 3333](https://peps.python.org/pep-3333/) and the
[ASGI specifications](https://asgi.readthedocs.io/en/latest/specs/). {clauses} of their clauses concern an adapter, and
{tests} tests check them. [All clauses](conformance_clauses.md) lists each clause with its tests.

The lists show the {deviations} clauses where `bridge` deviates: first what the clause says, then what `bridge` does.
Remarks on other clauses are folded away: what `bridge` does where the specification leaves a choice or says nothing,
and what it leaves to the server.
"""


CLAUSES_INTRODUCTION = """\
# All clauses

<!-- Printed by `python scripts/generate_docs.py`; a test fails when this page is stale. -->

This page lists each clause that concerns an adapter, in our own words, and the tests that check it. A star means that
[Conformance](conformance.md) says more about it: how and why `bridge` deviates, or what it chose.

An adapter has two sides: to the application it is a server, and to the server it is an application. Test classes called
`...Server` check the first, classes called `...Application` the second. In PEP 3333 the server is `WsgiToAsgi` and the
application is `AsgiToWsgi`. In ASGI it is the other way round.
"""


def sections() -> Iterator[tuple[str, Section]]:
    """Each section with the specification it is of."""
    for specification, parts in TABLE.items():
        for section in parts:
            yield specification, section


def clauses() -> list[Clause]:
    """All clauses, in order."""
    return [clause for _, section in sections() for clause in section.clauses]


def tests_in_table() -> set[str]:
    """The tests that the table names, as `file::class::test`."""
    return {
        f"{_file_of(test, section)}::{test}"
        for _, section in sections()
        for clause in section.clauses
        for test in clause.tests
    }


def _file_of(test: str, section: Section) -> str:
    """Which of the files of a section has the class that a test is in."""
    group = test.partition("::")[0]
    return next((name for name in section.files if group in _classes()[name]), "no file of its section")


@cache
def _classes() -> dict[str, set[str]]:
    """The classes of each file with tests."""
    return {
        path.name: {
            node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
        }
        for path in HERE.glob("test_*.py")
    }


def tests_in_files() -> set[str]:
    """The tests that there are, found without importing them."""
    found: set[str] = set()
    for path in HERE.glob("test_*.py"):
        for group in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(group, ast.ClassDef):
                names = [node.name for node in group.body if isinstance(node, ast.FunctionDef)]
                found.update(f"{path.name}::{group.name}::{name}" for name in names if name.startswith("test_"))
            elif isinstance(group, ast.FunctionDef) and group.name.startswith("test_"):
                found.add(f"{path.name}::{group.name}")
    return found


def page() -> str:
    """The text of docs/conformance.md: the clauses with a note. The deviations come first, other notes are folded."""
    deviations = sum(clause.deviates for clause in clauses())
    lines = [INTRODUCTION.format(clauses=len(clauses()), tests=len(tests_in_table()), deviations=deviations)]
    for name, parts in TABLE.items():
        noted = [clause for section in parts for clause in section.clauses if clause.note]
        if not noted:
            continue
        lines += [f"## {name}\n", *_notes(clause for clause in noted if clause.deviates), ""]
        lines += ['<details markdown="1">', f"<summary>Remarks on other clauses of {name}</summary>\n"]
        lines += [*_notes(clause for clause in noted if not clause.deviates), "", "</details>", ""]
    return "\n".join(lines)


def _notes(noted: Iterable[Clause]) -> Iterator[str]:
    for clause in noted:
        yield f"- **{clause.id}**: *{clause.text}* {clause.note}"


def clauses_page() -> str:
    """The text of docs/conformance_clauses.md: every clause, and below each section its tests."""
    lines = [CLAUSES_INTRODUCTION]
    for name, parts in TABLE.items():
        lines.append(f"## {name}\n")
        for section in parts:
            lines += [f"### {section.title}\n", "| clause | what it says |", "|---|---|"]
            lines += [f"| {clause.id}{' *' if clause.note else ''} | {clause.text} |" for clause in section.clauses]
            lines += ["", *_tests_of(section), ""]
    return "\n".join(lines)


def _tests_of(section: Section) -> Iterator[str]:
    files = ", ".join(f"[{name}](../tests/spec/{name})" for name in section.files)
    yield '<details markdown="1">'
    yield f"<summary>Tests of {section.title}</summary>\n"
    yield f"In {files}:\n"
    for clause in section.clauses:
        yield f"- {clause.id}: {', '.join(f'`{test}`' for test in clause.tests) or 'none'}"
    yield "\n</details>"
