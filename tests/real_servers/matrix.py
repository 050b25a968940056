"""docs/servers/matrix.md: what each server does with each case, as the tests have seen it."""

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from real_servers.http2_kinds import HTTP2_ASGI, HTTP2_WSGI
from real_servers.kinds import ASGI, WSGI, Kind
from support.paths import ROOT

PAGE = ROOT / "docs" / "servers" / "matrix.md"

# What the first word of a kind's name is installed as; the programs say their version themselves.
PACKAGES = {
    "uvicorn": "uvicorn",
    "hypercorn": "hypercorn",
    "daphne": "daphne",
    "granian": "granian",
    "gunicorn": "gunicorn",
    "waitress": "waitress",
    "uwsgi": "uwsgi",
    "cheroot": "cheroot",
    "werkzeug": "werkzeug",
    "django": "django",
    "gevent": "gevent",
    "bjoern": "bjoern",
}
INTRODUCTION = """# Servers and cases

Written by `make test-servers`: each server, set up as its page says, with each of the
[cases](../../tests/real_servers/cases.py), the [hard ones](../../tests/real_servers/hard_cases.py), those of
[stops](../../tests/real_servers/stop_cases.py) and those of [HTTP/2](../../tests/real_servers/test_http2.py). A `+`
works. A letter does not, for the reason below the table: the case was run, and failed as expected; in brackets, it was
not run. Slow and stalled clients are 50, on servers with 60 threads where each holds one; but one where there are two
processes without threads (uwsgi prefork, uwsgi lazy apps).
"""
TABLES: dict[str, Sequence[Kind]] = {
    "A WSGI app on ASGI servers": ASGI,
    "An ASGI app on WSGI servers": WSGI,
    "A WSGI app on ASGI servers, over HTTP/2": HTTP2_ASGI,
    "An ASGI app on WSGI servers, over HTTP/2": HTTP2_WSGI,
}


@dataclass
class Seen:
    """The outcomes of one case on one server, of which there are several where it has parameters."""

    works: int = 0
    broken: list[str] = field(default_factory=list)
    reasons: dict[str, bool] = field(default_factory=dict)


class Matrix:
    """Collects what the reports of pytest say, and writes the page."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], Seen] = {}

    def add(self, server: str, case: str, outcome: str, reason: str | None) -> None:
        seen = self.seen.setdefault((server, case), Seen())
        if reason is not None:
            seen.reasons[reason.removeprefix("[NOTRUN] ")] = not reason.startswith("[NOTRUN] ")
        elif outcome == "passed":
            seen.works += 1
        else:
            seen.broken.append(outcome)

    def page(self) -> str:
        lines = [INTRODUCTION]
        for title, kinds in TABLES.items():
            servers = [str(kind) for kind in kinds if any(server == str(kind) for server, _ in self.seen)]
            if servers:
                lines += [f"## {title}\n", *self._table(servers), ""]
        return "\n".join(lines)

    def _table(self, servers: list[str]) -> Iterator[str]:
        cases = list(dict.fromkeys(case for server, case in self.seen if server in servers))
        letters: dict[str, str] = {}
        yield "| | " + " | ".join(str(number) for number in range(1, len(cases) + 1)) + " |"
        yield "|---|" + "---|" * len(cases)
        for server in servers:
            cells = [_cell(self.seen.get((server, case)), letters) for case in cases]
            yield f"| {server.replace('_', ' ')} {version(server)} | {' | '.join(cells)} |"
        yield "\nThe cases:\n"
        yield from (f"{number}. {case.replace('_', ' ')}" for number, case in enumerate(cases, 1))
        yield "\nThe reasons:\n"
        yield from (f"- {letter}: {reason}" for reason, letter in letters.items())


def _cell(seen: Seen | None, letters: dict[str, str]) -> str:
    if seen is None:
        return ""
    if seen.broken:
        return "**broken**"
    found = []
    for reason, run in seen.reasons.items():
        letter = letters.setdefault(reason, _letter(len(letters)))
        found.append(letter if run else f"({letter})")
    return " ".join(["+"] * bool(seen.works) + found)


def _letter(number: int) -> str:
    return chr(ord("a") + number % 26) * (1 + number // 26)


def version(server: str) -> str:
    """The version of what a kind runs."""
    first = server.split("_", maxsplit=1)[0]
    if first == "wsgiref":
        return ""
    if first in ("apache", "nginx"):
        program = "/usr/sbin/apache2" if first == "apache" else "/usr/sbin/nginx"
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
        return re.findall(r"/([\d.]+)", said.stdout + said.stderr)[0]
    return importlib.metadata.version(PACKAGES[first])
