"""`bridge check`: loads the application, sends requests to it, and reports."""

import contextlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence

from bridge._check.findings import Finding, Outcome
from bridge._check.probe import probe_asgi, probe_wsgi
from bridge._check.requests import requests_for
from bridge._tables import aligned
from bridge.cli._load import describe, load
from bridge.interfaces import Interface, as_asgi, as_wsgi


def check(spec: str, *, paths: Sequence[str], safe: bool, as_json: bool) -> int:
    """Print what was found; returns the exit status."""
    for path in paths:
        if not path.startswith("/"):
            raise SystemExit(f"bridge: a path starts with a slash, got {path!r}")
    # Keep the output of the application out of the report.
    with contextlib.redirect_stdout(sys.stderr):
        app, interface = load(spec)
        # The report says what the adapters would log.
        logging.getLogger("bridge").addHandler(logging.NullHandler())
        logging.getLogger("bridge").propagate = False
        requests = [request for path in paths for request in requests_for(path, safe=safe)]
        outcomes = []
        if interface != "asgi":
            outcomes += probe_wsgi(as_wsgi(app), requests)
        if interface != "wsgi":
            outcomes += probe_asgi(as_asgi(app), requests)
    broken: dict[Finding, list[str]] = {}
    for outcome in outcomes:
        for finding in outcome.findings:
            broken.setdefault(finding, []).append(outcome.asked)
    if as_json:
        asked = [outcome.as_dict() for outcome in outcomes]
        told = {"app": spec, "interface": interface, "broken": len(broken), "asked": asked}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.write(_report(f"{spec} ({describe(app)})", interface, outcomes, broken))
    return int(bool(broken))


def _report(
    app: str, interface: Interface, outcomes: Sequence[Outcome], broken: Mapping[Finding, Sequence[str]]
) -> str:
    speaks = "WSGI and ASGI" if interface == "both" else interface.upper()
    rows = [("ok" if not each.findings else "BROKEN", each.asked, each.ended) for each in outcomes]
    lines = [f"{app} speaks {speaks}", "", *aligned(rows), ""]
    for finding, asked in broken.items():
        more = f" and {len(asked) - 1} more" if len(asked) > 1 else ""
        lines += [f"the application {finding}", f"    asked for: {asked[0]}{more}"]
    lines.append(f"{len(broken)} broken" if broken else "nothing is broken")
    return "\n".join(lines) + "\n"
