"""`python -m benchmarks`: measures, prints the table, and writes JSON and a chart."""

import argparse
import importlib
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks import against, chart, embedding, memory, peers, publish, pythons, report, rounds, servers
from benchmarks.catalogue import ROWS, Row
from benchmarks.child import SampleError
from benchmarks.settings import FULL, QUICK

RESULTS = Path(__file__).parent / "results"
_SUBJECTS = list(dict.fromkeys(subject for row in ROWS for measure in row.measures for subject in measure.subjects))


_WITH_WRK = ("server", "django", "beside-blocked", "beside-computing", "all-cores", "wsgi-servers", "connections")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage that `--help` shows."""
        self.exit(2, f"benchmarks: {message}\n")


def _parser() -> _Parser:
    names = "\n".join(f"  {row.name:<10}{row.title}" for row in ROWS)
    parser = _Parser(
        prog="python -m benchmarks",
        description="Measures both adapters beside their peers: interleaved rounds, medians, verified answers.",
        epilog=f"rows:\n{names}\n\nsubjects:\n  {', '.join(_SUBJECTS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--only", nargs="+", metavar="ROW", help="measure only these rows")
    parser.add_argument("--subject", nargs="+", metavar="NAME", help="measure only these subjects")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and 2 rounds: a few minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds, 1 to 100 (default 5; some rows take fewer)")
    parser.add_argument("--against", metavar="REF", help="measure bridge of this commit as well")
    parser.add_argument("--also-on", nargs="+", metavar="PYTHON", help="measure bridge on these interpreters as well")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw the charts into DIR (default: results/)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the JSON to PATH too")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json, to be kept")
    parser.add_argument("--publish", type=Path, metavar="JSON", help="measure nothing; put a saved run into the docs")
    return parser


def _chosen(parser: _Parser, only: Sequence[str] | None) -> list[Row]:
    unknown = set(only or ()) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no row is called {min(unknown)!r}; the rows are {', '.join(row.name for row in ROWS)}")
    rows = [row for row in ROWS if only is None or row.name in only]
    if any(row.name in _WITH_WRK for row in rows):
        servers.wrk_path()
    if any(row.name == "wsgi-servers" for row in rows):
        embedding.environment()
    if any(row.name in ("memory", "django-streams") for row in rows) and not memory.supported():
        raise SampleError("the memory row reads /proc, which only Linux has; leave it out with --only")
    return rows


def _check(parser: _Parser, arguments: argparse.Namespace) -> None:
    if arguments.rounds is not None and not 1 <= arguments.rounds <= 100:
        parser.error(f"--rounds must be 1 to 100, not {arguments.rounds}")
    if arguments.save is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", arguments.save):
        parser.error(f"--save takes a file name of letters, digits, dots and dashes, not {arguments.save!r}")
    if arguments.json is not None and not arguments.json.resolve().parent.is_dir():
        parser.error(f"--json: there is no directory {arguments.json.resolve().parent}")
    if arguments.publish is not None and not arguments.publish.is_file():
        parser.error(f"--publish: there is no file {arguments.publish}")
    if arguments.charts is not None and not arguments.charts.is_dir():
        parser.error(f"--charts: there is no directory {arguments.charts}")
    unknown = set(arguments.subject or ()) - set(_SUBJECTS)
    if unknown:
        parser.error(f"no subject is called {min(unknown)!r}; the subjects are {', '.join(_SUBJECTS)}")
    if arguments.subject is None or peers.BRIDGE in arguments.subject:
        importlib.import_module("bridge")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 where a sample could not be taken."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        _check(parser, arguments)
        if arguments.publish is not None:
            publish.publish(arguments.publish)
            return 0
        rows = _chosen(parser, arguments.only)
        _run(rows, arguments)
    except SampleError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    return 0


def _run(rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    settings = QUICK if arguments.quick else FULL
    count = arguments.rounds or (2 if arguments.quick else 5)
    facts = report.circumstances(settings, count, quick=arguments.quick)
    if arguments.against is not None:
        facts["versions"]["the other commit"] = against.check_out(arguments.against)
    if any(row.name == "wsgi-servers" for row in rows):
        facts["versions"] |= embedding.versions()
    if arguments.also_on is not None:
        facts["also_on"] = [pythons.add(path) for path in arguments.also_on]
    others = [*map(peers.on, peers.PYTHONS), *([peers.AGAINST] if arguments.against is not None else ())]
    started = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {line}", file=sys.stderr, flush=True)

    samples: rounds.Samples = {}
    try:
        rounds.take(rows, settings, count, samples, subjects=arguments.subject, others=others, progress=progress)
    except SampleError:
        print(f"unfinished, so nothing is written:\n\n{report.table(report.judge(rows, samples))}")
        raise
    facts["seconds"] = round(time.monotonic() - started, 1)
    results = report.judge(rows, samples)
    text = json.dumps(report.as_json(facts, results), indent=2, ensure_ascii=False) + "\n"
    for name in filter(None, ("latest", arguments.save)):
        RESULTS.joinpath(f"{name}.json").write_text(text, encoding="utf-8")
    chart.draw(results, report.summary(facts), arguments.charts or RESULTS)
    if arguments.json is not None:
        arguments.json.write_text(text, encoding="utf-8")
    print("\n".join([*report.summary(facts), "", report.table(results)]))


if __name__ == "__main__":
    sys.exit(main())
