"""The page of servers and cases: what is written of the reports of the tests."""

import ast
import re
from pathlib import Path

import pytest

from real_servers import matrix
from support.paths import ROOT

CASES = ROOT / "tests" / "real_servers"


@pytest.fixture(name="seen")
def seen_fixture(monkeypatch: pytest.MonkeyPatch) -> matrix.Matrix:
    """Four servers: one that fails, two alike, one where all works."""
    monkeypatch.setattr(matrix, "version", lambda server: "1.0")
    seen = matrix.Matrix()
    for server in ("uvicorn_h11_asyncio", "hypercorn_asyncio", "hypercorn_uvloop", "daphne"):
        seen.add(server, "hello", "passed", None)
    for server in ("hypercorn_asyncio", "hypercorn_uvloop"):
        seen.add(server, "odd_headers", "skipped", "it is odd itself")
        seen.add(server, "repeated_headers", "skipped", "[NOTRUN] it would hang")
    seen.add("uvicorn_h11_asyncio", "odd_headers", "passed", None)
    seen.add("uvicorn_h11_asyncio", "repeated_headers", "passed", None)
    seen.add("daphne", "odd_headers", "passed", None)
    seen.add("daphne", "odd_headers", "skipped", "some are lost")
    seen.add("daphne", "repeated_headers", "failed", None)
    seen.add("daphne", "of_no_topic", "passed", None)
    return seen


def test_a_table_has_what_does_not_work(seen: matrix.Matrix) -> None:
    """A row for servers that are alike, one for all others, and the reasons below; else one sentence."""
    page = seen.page()

    assert "### Requests and responses\n\nOn all servers: hello.\n" in page
    table = re.search(r"### Headers\n\n(.*?)\n\n### ", page, re.DOTALL)
    assert table
    expected = """\
| server | repeated headers | odd headers |
|---|---|---|
| hypercorn (asyncio, uvloop) | not run (1) | no (2) |
| daphne | **broken** | partly (3) |
| others | yes | yes |

1. it would hang
2. it is odd itself
3. some are lost"""
    assert expected.replace("(asyncio, uvloop)", "(all)") == table[1]


def test_a_case_of_no_topic_is_there(seen: matrix.Matrix) -> None:
    """In a table of its own, where the servers that do not have it are empty."""
    assert "### Other cases\n" in seen.page()
    assert "| uvicorn h11 asyncio; hypercorn (all) |  |\n| others | yes |" in seen.page()


def test_each_topic_names_cases() -> None:
    """A case that is renamed has to be renamed in its topic, and none is in two."""
    named = [case for topic in matrix.TOPICS.values() for case in topic]
    there = {
        node.name.removeprefix("test_")
        for path in CASES.glob("*.py")
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }

    assert len(named) == len(set(named))
    assert set() == set(named) - there


def test_no_case_on_the_page_is_without_topic() -> None:
    """The page as it was last written has no table of other cases, and none that is too wide for a phone."""
    page = matrix.PAGE.read_text(encoding="utf-8")

    assert f"### {matrix.OTHER}" not in page
    assert [] == [line for line in page.splitlines() if line.count("|") > 5]
