"""The table of all clauses, and docs/conformance.md, which is printed from it.

A test fails when the page is not what this prints, when a test of this directory belongs to no clause, and when the
table names a test that does not exist.
"""

import ast
from collections.abc import Iterator
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
                    "Table, tests and page agree.",
                    """TestConformancePage each_test_is_named_in_the_table each_clause_has_a_test_or_a_reason
                    the_page_is_what_the_table_prints""",
                ),
            ),
        ),
    ),
}

INTRODUCTION = """\
# Conformance

<!-- Printed by `python scripts/generate_docs.py`; a test fails when this page is stale. -->

Each clause of [PEP 3333](https://peps.python.org/pep-3333/) and of the
[ASGI specifications](https://asgi.readthedocs.io/en/latest/specs/) that concerns an adapter, in our own words, with the
tests that check it. An adapter has two faces: to the application it is a server, to the server an application. Tests in
a class `…Server` check the first, those in a class `…Application` the second; in PEP 3333 the server is `WsgiToAsgi`
and the application `AsgiToWsgi`, in ASGI the other way round.

{clauses} clauses, {tests} tests. The last column says where we deviate from a clause, or what we chose where it leaves
a choice or says nothing.
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
    """The text of docs/conformance.md."""
    lines = [INTRODUCTION.format(clauses=len(clauses()), tests=len(tests_in_table()))]
    specification = ""
    for name, section in sections():
        if name != specification:
            specification = name
            lines.append(f"## {name}\n")
        lines.append(f"### {section.title}\n")
        files = ", ".join(f"[{name}](../tests/spec/{name})" for name in section.files)
        lines.append(f"Tests: {files}\n")
        lines.append("| id | clause | tests | deviation or choice |")
        lines.append("|---|---|---|---|")
        lines.extend(row(clause) for clause in section.clauses)
        lines.append("")
    return "\n".join(lines)


def row(clause: Clause) -> str:
    """One line of a table."""
    tests = "<br>".join(f"`{test}`" for test in clause.tests) or "none"
    return f"| {clause.id} | {clause.text} | {tests} | {clause.note} |"
