"""docs/servers/matrix.md: what each server does with each case, as the tests have seen it."""

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
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

This page shows what works on which server, and why the rest does not. `make test-servers` writes it: it sets up each
server as its page says, and runs each of these tests on it: the [cases](../../tests/real_servers/cases.py), the
[hard cases](../../tests/real_servers/hard_cases.py), the [stops](../../tests/real_servers/stop_cases.py) and
[HTTP/2](../../tests/real_servers/test_http2.py).

A table has a row for each server on which something does not work. "Others" are all servers without a row. The numbers
are those of the reasons below the table.

- **yes**: all tests of the case pass.
- **no**: the tests are run, and fail as expected.
- **partly**: some tests of the case pass, and others fail as expected or are not run.
- **not run**: the tests mean nothing on this server, or would hang it.

The cases with slow and stalled clients use 50 such clients, and servers with 60 threads if each client holds one. If a
server has two processes without threads (`uwsgi prefork` and `uwsgi lazy apps`), these cases use one such client.
"""
TABLES: dict[str, Sequence[Kind]] = {
    "A WSGI app on ASGI servers": ASGI,
    "An ASGI app on WSGI servers": WSGI,
    "A WSGI app on ASGI servers, over HTTP/2": HTTP2_ASGI,
    "An ASGI app on WSGI servers, over HTTP/2": HTTP2_WSGI,
}
OTHER = "Other cases"
DEFAULT = "default"
# The tables of a page: few enough cases in each that it fits a phone.
TOPICS: dict[str, tuple[str, ...]] = {
    "Requests and responses": (
        "hello",
        "echo",
        "chunked_upload",
        "paths_and_queries",
        "a_post_without_a_body",
        "responses_without_a_body",
        "many_at_once_get_their_own_response",
        "what_the_app_is_told",
    ),
    "Headers": (
        "repeated_headers",
        "repeated_headers_of_a_response",
        "odd_headers",
        "a_name_with_an_underscore",
        "latin_1_in_a_header",
    ),
    "Connections": (
        "the_connection_serves_the_next_request",
        "the_connection_after_a_refused_upload",
        "pipelined_requests_are_answered_in_order",
        "a_client_that_waits_for_100_continue",
        "a_hostile_request",
    ),
    "Streams to the client": (
        "each_chunk_arrives_before_the_next_is_made",
        "a_large_download_waits_for_its_client",
    ),
    "Uploads": (
        "the_app_reads_the_upload_as_it_comes",
        "the_app_answers_while_it_reads",
        "an_answer_does_not_wait_for_the_upload",
        "a_large_upload_takes_little_memory",
        "uploads_that_nobody_reads",
    ),
    "Clients that are slow": (
        "slow_uploads_beside_normal_traffic",
        "stalled_readers_beside_normal_traffic",
        "a_stalled_stream_beside_others",
        "a_stalled_upload_beside_others",
    ),
    "Clients that leave": (
        "clients_that_abort_an_endless_stream_free_its_thread",
        "an_app_that_sends_nothing_is_told_of_the_leave",
        "a_client_that_leaves_early_in_an_upload",
        "a_client_that_leaves_late_in_an_upload",
    ),
    "Streams that are reset": (
        "streams_that_are_reset_free_their_thread",
        "a_stream_that_is_reset_behind_a_shut_window",
        "an_app_that_sends_nothing_is_told_of_the_reset",
        "uploads_that_are_reset",
    ),
    "Connections that are cut": (
        "a_connection_that_is_cut",
        "a_connection_that_is_cut_in_uploads",
    ),
    "Errors": (
        "an_exception_before_the_body_is_a_500",
        "an_exception_in_the_middle_is_a_broken_response",
        "an_exception_in_the_middle_resets_the_stream",
    ),
    "Lifespan and processes": (
        "lifespan_runs_once_a_process",
        "what_the_startup_has_made_is_there",
        "shutdown_runs_though_streams_are_live",
        "background_work_outlives_its_response",
        "a_worker_process_is_not_the_one_that_imported",
    ),
    "Stops": (
        "sigint_ends_the_server",
        "a_stop_ends_live_streams",
        "what_ends_within_the_grace_of_a_stop",
        "what_outlasts_the_grace_of_a_stop",
    ),
}


@dataclass
class Seen:
    """The outcomes of one case on one server, of which there are several where it has parameters."""

    works: int = 0
    broken: list[str] = field(default_factory=list)
    reasons: dict[str, bool] = field(default_factory=dict)  # whether it was run


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
                lines += [f"## {title}\n", *_set_ups(servers), "", *self._topics(servers)]
        return "\n".join(lines)

    def _topics(self, servers: Sequence[str]) -> Iterator[str]:
        cases = list(dict.fromkeys(case for server, case in self.seen if server in servers))
        known = {case for topic in TOPICS.values() for case in topic}
        topics = {**TOPICS, OTHER: tuple(case for case in cases if case not in known)}
        for title, of_topic in topics.items():
            here = [case for case in of_topic if case in cases]
            if here:
                yield f"### {title}\n"
                yield from self._topic(here, servers)
                yield ""

    def _topic(self, cases: Sequence[str], servers: Sequence[str]) -> Iterator[str]:
        """A table of the cases that do not work everywhere, with its reasons, and the names of those that do."""
        odd = [case for case in cases if any(not self._works(server, case) for server in servers)]
        even = [case for case in cases if case not in odd]
        if odd:
            numbers: dict[str, int] = {}
            rows: dict[tuple[str, ...], list[str]] = {}
            for server in servers:
                cells = tuple(_cell(self.seen.get((server, case)), numbers) for case in odd)
                rows.setdefault(cells, []).append(server)
            yield "| server | " + " | ".join(map(_words, odd)) + " |"
            yield "|---|" + "---|" * len(odd)
            all_yes = ("yes",) * len(odd)
            rows = {cells: rows[cells] for cells in sorted(rows, key=all_yes.__eq__)}  # the others come last
            for cells, names in rows.items():
                label = "others" if cells == all_yes else _label(names, servers)
                yield f"| {label} | {' | '.join(cells)} |"
            yield ""
            yield from (f"{number}. {reason}" for reason, number in numbers.items())
        if odd and even:
            yield ""
        if even:
            yield f"On all servers: {'; '.join(map(_words, even))}."

    def _works(self, server: str, case: str) -> bool:
        seen = self.seen.get((server, case))
        return seen is not None and not seen.broken and not seen.reasons


def _set_ups(servers: Sequence[str]) -> Iterator[str]:
    """Which set-ups there are of each server, and its version."""
    yield "| server | version | set-ups |"
    yield "|---|---|---|"
    for name, set_ups in _by_server(servers).items():
        yield f"| {name} | {version(name)} | {', '.join(set_ups) if set_ups != [DEFAULT] else ''} |"


def _by_server(servers: Sequence[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for server in servers:
        name, _, set_up = _words(server.removesuffix("_over_h2")).partition(" ")
        found.setdefault(name, []).append(set_up or DEFAULT)
    return found


def _label(names: Sequence[str], servers: Sequence[str]) -> str:
    """Servers in words: `uwsgi (prefork, threads)`, or `uwsgi (all)`."""
    everywhere = _by_server(servers)
    found = []
    for name, set_ups in _by_server(names).items():
        if len(set_ups) == 1:
            found.append(f"{name} {set_ups[0]}".removesuffix(f" {DEFAULT}"))
        else:
            found.append(f"{name} ({'all' if set_ups == everywhere[name] else ', '.join(set_ups)})")
    return "; ".join(found)


def _cell(seen: Seen | None, numbers: dict[str, int]) -> str:
    if seen is None:
        return ""
    if seen.broken:
        return "**broken**"
    if not seen.reasons:
        return "yes"
    found = ", ".join(str(numbers.setdefault(reason, len(numbers) + 1)) for reason in seen.reasons)
    word = "partly" if seen.works else "no" if any(seen.reasons.values()) else "not run"
    return f"{word} ({found})"


def _words(name: str) -> str:
    return name.replace("_", " ")


def version(server: str) -> str:
    """The version of a server, named by the first word of a kind's name."""
    if server == "wsgiref":
        return ""
    if server in ("apache", "nginx"):
        program = "/usr/sbin/apache2" if server == "apache" else "/usr/sbin/nginx"
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
        return re.findall(r"/([\d.]+)", said.stdout + said.stderr)[0]
    return importlib.metadata.version(PACKAGES[server])
