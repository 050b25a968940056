"""What the samples say: medians, ratios, met or not met; as values, as a table for people and as JSON."""

import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers, pythons
from benchmarks.catalogue import AtLeast, Case, Row, Target, label
from benchmarks.rounds import Samples
from benchmarks.settings import Settings


@dataclass(frozen=True, slots=True)
class Figure:
    """What one subject reached in one case: the median and the best of its samples."""

    subject: str
    samples: tuple[float, ...]
    median: float
    best: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, the value that is held against it (a ratio, or the figure of `bridge`), and whether it is met."""

    target: Target
    value: float
    met: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case: a figure for each subject that was measured, and a verdict for each target that could be judged."""

    case: Case
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]

    def figure(self, subject: str) -> Figure | None:
        return next((each for each in self.figures if each.subject == subject), None)

    def ratio(self, subject: str) -> float | None:
        """How many times as good as `subject` `bridge` is; None where one of the two is missing or zero."""
        ours, theirs = self.figure(peers.BRIDGE), self.figure(subject)
        if ours is None or theirs is None or not ours.median or not theirs.median:
            return None
        return ours.median / theirs.median if self.case.more_is_better else theirs.median / ours.median


@dataclass(frozen=True, slots=True)
class RowOutcome:
    row: Row
    outcomes: tuple[Outcome, ...]


def judge(rows: Sequence[Row], samples: Samples) -> list[RowOutcome]:
    """The outcome of each row."""
    return [RowOutcome(row, tuple(_outcome(case, samples) for case in row.cases)) for row in rows]


def _outcome(case: Case, samples: Samples) -> Outcome:
    best = max if case.more_is_better else min
    figures: list[Figure] = []
    others = (subject for measure, subject in samples if measure == case.measure)
    for subject in dict.fromkeys((*case.measure.subjects, *others)):
        values = tuple(sample[case.metric] for sample in samples.get((case.measure, subject), ()))
        if values:
            figures.append(Figure(subject, values, statistics.median(values), best(values)))
    outcome = Outcome(case, tuple(figures), ())
    verdicts = [verdict for target in case.targets if (verdict := _verdict(outcome, target)) is not None]
    return Outcome(case, outcome.figures, tuple(verdicts))


def _verdict(outcome: Outcome, target: Target) -> Verdict | None:
    if isinstance(target, AtLeast):
        ratio = outcome.ratio(target.peer)
        if ratio is None:
            return None
        return Verdict(target, ratio, ratio > target.times if target.above else ratio >= target.times)
    ours = outcome.figure(peers.BRIDGE)
    return None if ours is None else Verdict(target, ours.median, ours.median <= target.limit)


def circumstances(settings: Settings, rounds: int, *, quick: bool) -> dict[str, Any]:
    """When, where and with what: the facts without which the figures mean nothing."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": pythons.description(),
        "lock": not pythons.WITHOUT_A_LOCK,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "load_average_at_start": [round(each, 2) for each in os.getloadavg()],
        "versions": peers.versions(),
        "rounds": rounds,
        "quick": quick,
        "settings": asdict(settings),
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def as_json(facts: dict[str, Any], results: Sequence[RowOutcome]) -> dict[str, Any]:
    """The whole run as plain values; figures as measured, not rounded."""
    rows = [
        {"name": each.row.name, "title": each.row.title, "cases": [_case_json(outcome) for outcome in each.outcomes]}
        for each in results
    ]
    return {**facts, "rows": rows}


def _case_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "title": outcome.case.title,
        "unit": outcome.case.unit,
        "more_is_better": outcome.case.more_is_better,
        "subjects": {
            each.subject: {
                "median": each.median,
                "best": each.best,
                "samples": list(each.samples),
                "bridge_is_times_as_good": outcome.ratio(each.subject),
            }
            for each in outcome.figures
        },
        "targets": [{**asdict(each.target), "value": each.value, "met": each.met} for each in outcome.verdicts],
    }


def summary(facts: dict[str, Any]) -> list[str]:
    """The circumstances, as lines for people."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    others = facts.get("also_on")
    python = facts["python"] + (f" (bridge also on {' and '.join(others)})" if others else "")
    machine = f"{facts['date']}, {python}, {facts['cpu_count']} CPUs ({facts['cpu']})"
    rounds = f"medians of at most {facts['rounds']} interleaved rounds{', quick' if facts['quick'] else ''}"
    return [f"{machine}, {rounds}", packages]


def table(results: Sequence[RowOutcome]) -> str:
    """The outcomes as text of at most 120 columns: a block for each case, a line for each subject."""
    lines: list[str] = []
    for each in results:
        lines += [f"{each.row.name}: {each.row.title}", ""]
        for outcome in each.outcomes:
            if outcome.figures:
                lines += [*_block(outcome), ""]
    lines.append(_score(results))
    return "\n".join(lines)


def _block(outcome: Outcome) -> list[str]:
    case = outcome.case
    lines = [f"  {case.title + ', ' + case.unit:<62}{'median':>10}{'best':>10}{'bridge is':>11}   target"]
    for figure in outcome.figures:
        ratio = None if figure.subject == peers.BRIDGE else outcome.ratio(figure.subject)
        times = "" if ratio is None else f"{ratio:.3g}x"
        verdict = next((each for each in outcome.verdicts if _concerns(each.target) == figure.subject), None)
        text = "" if verdict is None else f"{target_text(verdict.target, case)}: {'met' if verdict.met else 'NOT MET'}"
        numbers = f"{number(figure.median):>10}{number(figure.best):>10}{times:>11}"
        lines.append(f"    {label(figure.subject):<60}{numbers}   {text}".rstrip())
    return lines


def _concerns(target: Target) -> str:
    return target.peer if isinstance(target, AtLeast) else peers.BRIDGE


def target_text(target: Target, case: Case) -> str:
    """A target in a few words."""
    if isinstance(target, AtLeast):
        return f"{'more than' if target.above else 'at least'} {target.times:g}x"
    return f"at most {target.limit:g} {case.unit.split()[0].rstrip(',')}"


def number(value: float) -> str:
    """A figure with three significant digits and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _score(results: Sequence[RowOutcome]) -> str:
    judged = [
        (each.row, outcome, verdict) for each in results for outcome in each.outcomes for verdict in outcome.verdicts
    ]
    missed = [each for each in judged if not each[2].met]
    lines = [f"targets met: {len(judged) - len(missed)} of {len(judged)}"]
    for row, outcome, verdict in missed:
        against = f" of {label(verdict.target.peer)}" if isinstance(verdict.target, AtLeast) else ""
        reached = f"{verdict.value:.3g}{'x' if against else ''}"
        wanted = target_text(verdict.target, outcome.case) + against
        lines.append(f"  not met: {row.name}, {outcome.case.title}: {reached}, to reach: {wanted}")
    return "\n".join(lines)
