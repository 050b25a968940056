"""The charts of a run, drawn by matplotlib: bars for what is held against a peer or a limit, curves over a quantity.

Each is written twice, for light and for dark pages: `bars-light.svg`, `bars-dark.svg`, `curves-light.svg` and so on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt  # the drawing library is chosen before

from benchmarks import peers
from benchmarks.catalogue import AtLeast, label
from benchmarks.report import Outcome, RowOutcome, number


@dataclass(frozen=True, slots=True)
class _Theme:
    page: str
    text: str
    grid: str
    met: str
    missed: str
    lines: tuple[str, ...]


THEMES = {
    "light": _Theme(
        "#ffffff", "#1f2328", "#d0d7de", "#2f81c7", "#d97706", ("#2f81c7", "#d97706", "#59636e", "#8250df")
    ),
    "dark": _Theme("#0d1117", "#e6edf3", "#3d444d", "#4493f8", "#e3a008", ("#4493f8", "#e3a008", "#9198a1", "#bc8cff")),
}
# A bar beyond this is cut, and its figure says so: one peer that is hundreds of times slower would flatten all others.
_LONGEST = 20.0
# The rows of the overview, whose first case is drawn, and what it is.
_OVERVIEW = {
    "server": "Hello, 32 connections",
    "django": "Django, a sync view",
    "beside-blocked": "Hello beside requests that block",
    "beside-computing": "Hello beside requests that compute",
}


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    ratio: float
    target: float
    text: str
    met: bool


def draw(
    results: Sequence[RowOutcome],
    caption: Sequence[str],
    folder: Path,
    *,
    prefix: str = "",
    kinds: Sequence[str] = ("bars", "curves", "overview"),
) -> None:
    """Write the charts of a run into `folder`; the lines of `caption` say when and where it was made."""
    bars = [bar for each in results for outcome in each.outcomes for bar in _bars(each, outcome)]
    curves = [each for each in results if each.row.axis is not None and _points(each)]
    overview = [(title, outcome) for title, outcome in _overview(results) if outcome.figures]
    for name, theme in THEMES.items():
        with _drawn_in(theme):
            drawn = {
                "bars": bars and _draw_bars(bars, theme),
                "curves": curves and _draw_curves(curves, theme),
                "overview": overview and _draw_overview(overview, theme),
            }
            for kind, figure in drawn.items():
                if figure and kind in kinds:
                    _save(figure, caption, folder / f"{prefix}{kind}-{name}.svg")


@contextmanager
def _drawn_in(theme: _Theme) -> Iterator[None]:
    options: Any = {"font.size": 10, "svg.fonttype": "none", "axes.edgecolor": theme.grid, "grid.color": theme.grid}
    options |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), theme.text)
    options |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.page)
    # The same figures give the same file, byte for byte.
    with mpl.rc_context(options | {"svg.hashsalt": "bridge"}):
        yield


def _save(figure: Any, caption: Sequence[str], path: Path) -> None:
    figure.text(0.01, 0.004, "\n".join(caption), fontsize=7, va="bottom", wrap=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(each: RowOutcome, outcome: Outcome) -> Iterator[_Bar]:
    """How many times as good as each peer `bridge` is, where a target says how good it has to be."""
    for verdict in outcome.verdicts:
        target = verdict.target
        ours = outcome.figure(peers.BRIDGE)
        theirs = outcome.figure(target.peer) if isinstance(target, AtLeast) else None
        if isinstance(target, AtLeast) and ours is not None and theirs is not None:
            figures = f"{number(ours.median)} against {number(theirs.median)} {outcome.case.unit}"
            name = f"{each.row.name}, {outcome.case.title}: {label(target.peer)}"
            yield _Bar(name, verdict.value, target.times, f"{verdict.value:.3g}x  ({figures})", verdict.met)


def _draw_bars(bars: Sequence[_Bar], theme: _Theme) -> Any:
    height = 1.6 + 0.28 * len(bars)
    figure, axes = plt.subplots(figsize=(11, height))
    places = range(len(bars))
    colours = [theme.met if bar.met else theme.missed for bar in bars]
    axes.barh(places, [min(bar.ratio, _LONGEST) for bar in bars], color=colours, height=0.6)
    for place, bar in zip(places, bars, strict=True):
        axes.plot([min(bar.target, _LONGEST)] * 2, [place - 0.4, place + 0.4], color=theme.text, linewidth=2)
        end = min(max(bar.ratio, bar.target), _LONGEST)
        axes.annotate(bar.text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(places, [bar.name for bar in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, _LONGEST * 1.35)
    axes.set_xlabel("times as good as the peer; the mark is the target")
    axes.set_title("bridge beside its peers")
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    figure.tight_layout(rect=(0, 0.6 / height, 1, 1))
    return figure


def _overview(results: Sequence[RowOutcome]) -> Iterator[tuple[str, Outcome]]:
    """What a reader asks first: requests a second on a server, alone and beside others, and of Django."""
    for each in results:
        if title := _OVERVIEW.get(each.row.name):
            yield title, each.outcomes[0]


def _draw_overview(panels: Sequence[tuple[str, Outcome]], theme: _Theme) -> Any:
    lines = (len(panels) + 1) // 2
    figure, grid = plt.subplots(lines, 2, figsize=(11, 0.6 + 2.2 * lines), squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (title, outcome) in zip(grid.flat, panels, strict=False):
        figures = [each for each in outcome.figures if each.subject not in (peers.NATIVE, peers.AGAINST)]
        places = range(len(figures))
        colours = [theme.met if each.subject == peers.BRIDGE else theme.lines[2] for each in figures]
        axes.barh(places, [each.median for each in figures], color=colours, height=0.62)
        for place, each in zip(places, figures, strict=True):
            axes.annotate(
                number(each.median), (each.median, place), (4, 0), textcoords="offset points", va="center", fontsize=9
            )
        axes.set_yticks(places, [label(each.subject) for each in figures], fontsize=9)
        axes.set_ylim(len(figures) - 0.4, -0.6)
        axes.set_xlim(0, max(each.median for each in figures) * 1.15)
        axes.set_title(f"{title}, {outcome.case.unit}", fontsize=10)
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout(rect=(0, 0.35 / figure.get_figheight(), 1, 1))
    return figure


def _points(each: RowOutcome) -> dict[str, list[tuple[float, float]]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for outcome in each.outcomes:
        for figure in outcome.figures:
            if outcome.case.at is not None:
                points.setdefault(figure.subject, []).append((outcome.case.at, figure.median))
    return points


def _draw_curves(rows: Sequence[RowOutcome], theme: _Theme) -> Any:
    lines = (len(rows) + 1) // 2
    figure, grid = plt.subplots(lines, 2, figsize=(11, 0.8 + 3.6 * lines), squeeze=False)
    for axes in grid.flat[len(rows) :]:
        axes.remove()
    for axes, each in zip(grid.flat, rows, strict=False):
        for colour, (subject, points) in zip(theme.lines, _points(each).items(), strict=False):
            axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=label(subject))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(each.row.axis)
        axes.set_ylabel(each.outcomes[0].case.unit)
        axes.set_title(each.row.title, fontsize=8)
        axes.grid(which="major")
        axes.legend(fontsize=8)
    figure.tight_layout(rect=(0, 0.5 / figure.get_figheight(), 1, 1))
    return figure
