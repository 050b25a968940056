"""docs/conformance.md, its table, and the tests that it names."""

import re

from spec import conformance
from spec.clauses import Clause
from support.paths import ROOT


class TestConformancePage:
    """docs/conformance.md: each clause, and the test that holds us to it."""

    def test_each_test_is_named_in_the_table(self) -> None:
        """Each test of this directory belongs to a clause, and each test that the table names exists."""
        assert conformance.tests_in_files() == conformance.tests_in_table()

    def test_each_clause_has_a_test_or_a_reason(self) -> None:
        """A clause without a test says why there is none, and no identifier is used twice."""
        clauses = conformance.clauses()

        assert [clause.id for clause in clauses if not clause.tests and not clause.note] == []
        assert len(clauses) == len({clause.id for clause in clauses})

    def test_the_page_is_what_the_table_prints(self) -> None:
        """Both pages are generated; a change of the table without the pages is noticed."""
        pages = {"conformance.md": conformance.page(), "conformance_clauses.md": conformance.clauses_page()}

        assert pages == {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in pages}

    def test_each_note_is_read(self) -> None:
        """The first page has the clauses with a note and no other, and folds those that do not deviate; the second
        has every clause and every test.
        """
        noted = [clause for clause in conformance.clauses() if clause.note]
        shown = re.sub(r"<details.*?</details>", "", conformance.page(), flags=re.DOTALL)

        assert sorted(_row(clause) for clause in noted) == sorted(_rows(conformance.page()))
        assert [_row(clause) for clause in noted if clause.deviates] == _rows(shown)
        assert [] == [clause.id for clause in conformance.clauses() if clause.deviates and not clause.note]
        everything = conformance.clauses_page()
        for clause in conformance.clauses():
            assert f"| {clause.id}{' *' if clause.note else ''} | {clause.text} |\n" in everything
            assert all(f"`{test}`" in everything for test in clause.tests)


def _row(clause: Clause) -> str:
    return f"- **{clause.id}**: *{clause.text}* {clause.note}"


def _rows(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("- ")]
