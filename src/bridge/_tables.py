"""Rows of cells as aligned lines."""

from collections.abc import Iterable, Iterator, Sequence


def aligned(rows: Iterable[Sequence[str]], *, numbers: int = 0) -> Iterator[str]:
    """A line for each row, with aligned columns. The first `numbers` columns are aligned to the right.

    Raises `ValueError` if the rows do not have the same length.
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if index < numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
