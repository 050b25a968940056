"""`bridge check`: loads the application, sends requests to it, and reports."""

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from bridge._check.findings import Finding, Outcome
from bridge._check.probe import names, probe_asgi, probe_wsgi
from bridge._check.progress import END_SECONDS, Interrupted, Interruptible, Progress
from bridge._check.requests import CheckRequest, requests_for
from bridge.cli._end import OpenFile, kept_apart, put
from bridge.cli._load import describe, load
from bridge.interfaces import Interface, as_asgi, as_wsgi

# The exit status that a shell gives to a command that Ctrl-C has ended.
_CTRL_C_STATUS: Final = 130


def check(spec: str, *, paths: Sequence[str], safe: bool, as_json: bool, timeout: float | None = None) -> int:
    """Print each finding as soon as it is found. Returns the exit status.

    `timeout`: seconds for the whole check, or None. Raises `SystemExit` like `load`. If the application does not end
    after an interruption, the process ends.
    """
    requests = [request for path in paths for request in requests_for(path, safe=safe)]
    with kept_apart() as out:
        report = _Report(spec, out, as_json=as_json)
        _ask(spec, requests, report, timeout)
        return report.finish()


def _ask(spec: str, requests: Sequence[CheckRequest], report: "_Report", timeout: float | None) -> None:
    with (
        contextlib.suppress(Interrupted),
        Interruptible(timeout, report.progress, report.announce, report.finish),
    ):
        report.progress.begin(f"loading {spec}")
        app, interface = load(spec)
        # The report says what the adapters would log.
        logging.getLogger("bridge").addHandler(logging.NullHandler())
        logging.getLogger("bridge").propagate = False
        report.start(describe(app), interface, names(requests, wsgi=interface != "asgi", asgi=interface != "wsgi"))
        if interface != "asgi":
            probe_wsgi(as_wsgi(app), requests, report.progress)
        if interface != "wsgi":
            probe_asgi(as_asgi(app), requests, report.progress)


class _Report:
    """The report of one check, on `out`: rows as they are found, or JSON at the end."""

    def __init__(self, spec: str, out: OpenFile, *, as_json: bool) -> None:
        self.progress = Progress(self._add)
        self._spec = spec
        self._out = out
        self._as_json = as_json
        self._interface: Interface | None = None
        self._planned: Sequence[str] = ()
        self._width = 0
        self._broken: dict[Finding, list[str]] = {}
        self._finished = False
        # What was running when the check was interrupted, and for how many seconds.
        self._interrupted: tuple[str | None, float] = (None, 0.0)
        # Another thread may give the check up. One thread may get here twice, because a signal can interrupt it.
        self._lock = threading.RLock()

    def start(self, app: str, interface: Interface, planned: Sequence[str]) -> None:
        """Begin the report: the application is loaded, and `planned` is what it will be asked."""
        self.progress.asking = None
        self._interface = interface
        self._planned = planned
        self._width = max(map(len, planned))
        speaks = "WSGI and ASGI" if interface == "both" else interface.upper()
        self._print(f"{self._spec} ({app}) speaks {speaks}", "")

    def _add(self, outcome: Outcome) -> None:
        new = [finding for finding in outcome.findings if finding not in self._broken]
        for finding in outcome.findings:
            self._broken.setdefault(finding, []).append(outcome.asked)
        # What the end of an interrupted check did to it is not a finding.
        if not self.progress.interrupted:
            self._row("BROKEN" if outcome.findings else "ok", outcome.asked, outcome.ended)
            self._print(*(f"        {finding}" for finding in new))

    def _row(self, state: str, asked: str, ended: str) -> None:
        self._print(f"{state:<6}  {asked:<{self._width}}  {ended}".rstrip())

    def _print(self, *lines: str) -> None:
        if not self._as_json:
            put(self._out, "".join(f"{line}\n" for line in lines))

    def announce(self, reason: str) -> None:
        """Say at once that the interruption was noticed. The application may take time to end."""
        self._interrupted = self.progress.asking, self.progress.seconds
        told = f"the application has {END_SECONDS:.0f} seconds to end; Ctrl-C ends it at once"
        # It may be closed, or this signal may have come while the application was writing to it.
        with contextlib.suppress(Exception):
            sys.stderr.write(f"bridge: interrupted {reason}; {told}\n")
            sys.stderr.flush()

    def finish(self) -> int:
        """Print the rest, once. Returns the exit status."""
        # A thread that waits for a reader of the report holds the lock for as long.
        if self._lock.acquire(timeout=END_SECONDS):
            try:
                if not self._finished:
                    self._conclude()
                    self._finished = True
            finally:
                self._lock.release()
        if self.progress.interrupted:
            return _CTRL_C_STATUS if "Ctrl-C" in self.progress.interrupted else 1
        return int(bool(self._broken))

    def _conclude(self) -> None:
        reason, (asked, seconds) = self.progress.interrupted, self._interrupted
        if self._as_json:
            outcomes = [outcome.as_dict() for outcome in self.progress.outcomes]
            told: dict[str, Any] = {
                "app": self._spec,
                "interface": self._interface,
                "broken": len(self._broken),
                "asked": outcomes,
            }
            if reason:
                told["interrupted"] = {"reason": reason, "asking": asked, "seconds": round(seconds, 1)}
            put(self._out, json.dumps(told, indent=2) + "\n")
            return
        if reason and asked:
            self._row("ENDED", asked, f"interrupted after {seconds:.1f} seconds")
        self._print("")
        for finding, requests in self._broken.items():
            more = f" and {len(requests) - 1} more" if len(requests) > 1 else ""
            self._print(f"the application {finding}", f"    request: {requests[0]}{more}")
        found = f"{len(self._broken)} broken" if self._broken else "nothing is broken"
        if reason:
            asked_for = len(self.progress.outcomes)
            found = f"interrupted {reason}, with {asked_for} of {len(self._planned)} done: {found} so far"
        self._print(found)
