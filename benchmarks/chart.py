"""The outcome as an SVG bar chart, written as text.

Two panels: how many times as fast as each peer `bridge` is, with a mark at the target; and, for targets that are
limits, how much of the limit is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from benchmarks import peers
from benchmarks.catalogue import AtLeast, AtMost, label
from benchmarks.report import Outcome, RowOutcome, number

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 1080, 450, 210, 16, 7
_PLOT = _WIDTH - _LEFT - _RIGHT
# A bar beyond this is cut and says so, else one peer that is hundreds of times slower flattens all others.
_LONGEST = 30.0

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .page { fill: #ffffff } .title { font-weight: 600; font-size: 15px } .row { font-weight: 600 } .note { fill: #59636e }
  .met { fill: #2f81c7 } .missed { fill: #d97706 } .plain { fill: #8c959f }
  .axis { stroke: #d0d7de } .target { stroke: #1f2328; stroke-width: 2 } .cut { stroke: #ffffff; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .page { fill: #0d1117 } .note { fill: #9198a1 } .axis { stroke: #3d444d }
    .target { stroke: #e6edf3 } .cut { stroke: #0d1117 }
  }
"""


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    value: float
    target: float | None
    met: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class _Group:
    title: str
    bars: tuple[_Bar, ...]


def svg(results: Sequence[RowOutcome], caption: Sequence[str]) -> str:
    """The chart of a run; the lines of `caption` say when and where it was made."""
    ratios, limits = _ratio_groups(results), _limit_groups(results)
    body: list[str] = []
    top = 44 + 16 * len(caption)
    if ratios:
        top = _panel(
            body, top, "How many times as fast as each peer (longer is better; the line is the target)", ratios, "x"
        )
    if limits:
        top = _panel(
            body, top + 24, "How much of each limit is used (shorter is better; the line is the limit)", limits, "%"
        )
    height = top + 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"',
            f'     width="{_WIDTH}" height="{height}">',
            "<title>bridge beside its peers</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
            _text(20, 24, "bridge beside its peers", "title"),
            *(_text(20, 42 + 16 * line, text, "note") for line, text in enumerate(caption)),
            *body,
            "</svg>\n",
        ]
    )


def _ratio_groups(results: Sequence[RowOutcome]) -> list[_Group]:
    groups = []
    for each in results:
        for outcome in each.outcomes:
            bars = [bar for figure in outcome.figures if (bar := _ratio_bar(outcome, figure.subject)) is not None]
            if any(bar.target is not None for bar in bars):
                groups.append(_Group(_title(each, outcome), tuple(bars)))
    return groups


def _ratio_bar(outcome: Outcome, subject: str) -> _Bar | None:
    ratio = outcome.ratio(subject)
    verdict = next((v for v in outcome.verdicts if isinstance(v.target, AtLeast) and v.target.peer == subject), None)
    if subject == peers.BRIDGE or ratio is None or verdict is None or not isinstance(verdict.target, AtLeast):
        return None
    ours, theirs = outcome.figure(peers.BRIDGE), outcome.figure(subject)
    figures = f"{number(ours.median)} against {number(theirs.median)}" if ours and theirs else ""
    return _Bar(
        label(subject), ratio, verdict.target.times, verdict.met, f"{ratio:.3g}x  ({figures} {_short(outcome)})"
    )


def _limit_groups(results: Sequence[RowOutcome]) -> list[_Group]:
    groups = []
    for each in results:
        for outcome in each.outcomes:
            verdict = next((v for v in outcome.verdicts if isinstance(v.target, AtMost)), None)
            if verdict is None or not isinstance(verdict.target, AtMost):
                continue
            limit = verdict.target.limit
            bars = [
                _Bar(
                    label(figure.subject),
                    figure.median / limit * 100,
                    100.0,
                    verdict.met if figure.subject == peers.BRIDGE else None,
                    f"{number(figure.median)} of {number(limit)} {_short(outcome)}",
                )
                for figure in outcome.figures
            ]
            groups.append(_Group(_title(each, outcome), tuple(bars)))
    return groups


def _title(each: RowOutcome, outcome: Outcome) -> str:
    return f"{each.row.name}: {outcome.case.title}"


def _short(outcome: Outcome) -> str:
    return "/s" if outcome.case.unit.endswith("second") else outcome.case.unit.split()[0]


def _panel(body: list[str], top: int, title: str, groups: Sequence[_Group], unit: str) -> int:
    bars = [bar for group in groups for bar in group.bars]
    longest = max([*(bar.value for bar in bars), *(bar.target or 0 for bar in bars)])
    step = 5.0 if unit == "x" else 50.0
    span = min(ceil(longest * 1.02 / step) * step, _LONGEST if unit == "x" else 250.0)
    body.append(_text(20, top + 14, title, "row"))
    first = top + 40
    bottom = first + sum(len(group.bars) * (_BAR + _GAP) + 12 for group in groups)
    for tick in range(int(span / step) + 1):
        x = _LEFT + tick * step / span * _PLOT
        body.append(f'<line class="axis" x1="{x:.1f}" y1="{first - 6}" x2="{x:.1f}" y2="{bottom - 12}"/>')
        body.append(_text(x, first - 10, f"{tick * step:g}{unit}", "note", "middle"))
    y = first
    for group in groups:
        body.append(_text(20, y + _BAR - 4, group.title))
        for bar in group.bars:
            _draw(body, y, bar, span)
            y += _BAR + _GAP
        y += 12
    return bottom


def _draw(body: list[str], y: int, bar: _Bar, span: float) -> None:
    kind = "plain" if bar.met is None else "met" if bar.met else "missed"
    length = max(min(bar.value, span) / span * _PLOT, 1.5)
    body.append(_text(_LEFT - 8, y + _BAR - 4, bar.name, "", "end"))
    body.append(f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2"/>')
    if bar.value > span:
        cut = _LEFT + _PLOT - 14
        body.append(f'<line class="cut" x1="{cut}" y1="{y + _BAR + 1}" x2="{cut + 6}" y2="{y - 1}"/>')
    if bar.target is not None:
        x = _LEFT + bar.target / span * _PLOT
        body.append(f'<line class="target" x1="{x:.1f}" y1="{y - 2}" x2="{x:.1f}" y2="{y + _BAR + 2}"/>')
    after = max(_LEFT + length, _LEFT + (bar.target or 0) / span * _PLOT)
    missed = "  not met" if bar.met is False else ""
    body.append(_text(after + 6, y + _BAR - 4, bar.text + missed, "note"))


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
