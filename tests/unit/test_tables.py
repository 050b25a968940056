"""Rows of cells become aligned lines."""

import pytest

from bridge._tables import aligned


@pytest.mark.parametrize(
    ("rows", "numbers", "lines"),
    [
        ([("a", "bb"), ("ccc", "d")], 0, ["a    bb", "ccc  d"]),
        ([("a", "bb"), ("ccc", "")], 1, ["  a  bb", "ccc"]),
        ([("sync", "2"), ("x", "10")], 2, ["sync   2", "   x  10"]),
        ([], 0, []),
    ],
)
def test_columns_are_as_wide_as_they_need_to_be(rows: list[tuple[str, ...]], numbers: int, lines: list[str]) -> None:
    assert lines == list(aligned(iter(rows), numbers=numbers))


def test_rows_of_different_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(aligned([("a",), ("b", "c")]))
