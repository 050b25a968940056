"""Writes a saved run into the documentation: its charts into docs/images, its figures as tables into a page.

A run on a Python without a lock has a place of its own on that page, and no charts.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers, report
from benchmarks.catalogue import ROWS, Row, label
from benchmarks.report import Figure, Outcome, RowOutcome, number
from benchmarks.rounds import Samples

_DOCS = Path(__file__).parent.parent / "docs"
PAGE = _DOCS / "performance.md"
IMAGES = _DOCS / "images"
_BEGIN = '<!-- figures: written by `make bench ARGS="--publish JSON"` -->\n'
_BEGIN_WITHOUT_A_LOCK = '<!-- figures without a lock: written by `make bench ARGS="--publish JSON"` -->\n'
_END = "<!-- end of the figures -->\n"


def publish(path: Path) -> None:
    """Write the run that `path` holds into the page and its charts. Raises `ValueError` if the page has no place."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    results = read(facts)
    PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), facts, results), encoding="utf-8")
    if _with_a_lock(facts):
        # The group "bench" has what draws; what is above can do without.
        from benchmarks import chart

        chart.draw(results, report.summary(facts), IMAGES, prefix="bench-", kinds=("overview", "curves"))


def put(page: str, facts: dict[str, Any], results: Sequence[RowOutcome]) -> str:
    """The text of the page with the figures of a run at their place. Raises `ValueError` if there is none."""
    mark = _BEGIN if _with_a_lock(facts) else _BEGIN_WITHOUT_A_LOCK
    before, begin, rest = page.partition(mark)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"the page has no place for the figures, between {mark.strip()} and {_END.strip()}")
    return "".join([before, begin, "\n", *_page(facts, results), end, after])


def _with_a_lock(facts: dict[str, Any]) -> bool:
    return bool(facts.get("lock", True))


def read(facts: dict[str, Any]) -> list[RowOutcome]:
    """The outcomes of a saved run, of the rows that there still are."""
    rows: list[Row] = []
    samples: Samples = {}
    saved = {row["name"]: row for row in facts["rows"]}
    for row in ROWS:
        if row.name not in saved:
            continue
        rows.append(row)
        figures = {(case["title"], case["unit"]): case["subjects"] for case in saved[row.name]["cases"]}
        for case in row.cases:
            for subject, figure in figures.get((case.title, case.unit), {}).items():
                taken = samples.setdefault((case.measure, subject), [{} for _ in figure["samples"]])
                for sample, value in zip(taken, figure["samples"], strict=True):
                    sample[case.metric] = value
    return report.judge(rows, samples)


def _page(facts: dict[str, Any], results: Sequence[RowOutcome]) -> Iterator[str]:
    yield f"{report.summary(facts)[0]}. Versions: {report.summary(facts)[1]}.\n\n"
    for each in results:
        if each.row.axis is None and each.outcomes:
            yield from _table(each)


def _table(each: RowOutcome) -> Iterator[str]:
    """A line for each subject, so that the table is as narrow as a phone."""
    yield f"**{each.row.title}** (`{each.row.name}`)\n\n"
    yield "| | | bridge is |\n|---|---:|---:|\n"
    for outcome in each.outcomes:
        if outcome.figures:
            yield f"| **{outcome.case.title}, {outcome.case.unit}** | | |\n"
            yield from (_line(outcome, figure) for figure in outcome.figures)
    yield "\n"


def _line(outcome: Outcome, figure: Figure) -> str:
    ratio = None if figure.subject == peers.BRIDGE else outcome.ratio(figure.subject)
    times = "" if ratio is None else f"{number(ratio)}x "
    return f"| {label(figure.subject)} | {number(figure.median)} | {times}|\n"
