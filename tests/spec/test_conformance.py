"""docs/conformance.md, its table, and the tests that it names."""

from spec import conformance
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
        """The page is generated; a change of the table without the page is noticed."""
        page = ROOT / "docs" / "conformance.md"

        assert conformance.page() == page.read_text(encoding="utf-8")
