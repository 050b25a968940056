"""The command line: `bridge serve`, `bridge check`, `bridge mounts`; `python -m bridge` is the same."""

import argparse
import os
import platform
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import bridge
from bridge.cli._check import check
from bridge.cli._end import leave
from bridge.cli._mounts import show_mounts
from bridge.cli._serve import LOG_LEVELS, SERVER_NAMES, serve

_APP_HELP = """\
MODULE:NAME, as in mysite.wsgi:application. NAME may have dots, and "()" at its end calls it: shop:create_app(). The
module is looked for in the current directory first."""

_DESCRIPTION = """\
Runs WSGI and ASGI applications on servers of either kind.

  bridge serve mysite.wsgi:application     serves an application with Uvicorn
  bridge check shop:app                    sends requests, and names each clause that it breaks
  bridge mounts shop:site                  shows what is mounted where, and what runs natively
"""

_EXIT = """\
exit status: 0 success, 1 a problem with the application or its server, 2 a wrong command line, 130 Ctrl-C
"""

_SERVE = """\
Says which interface the application speaks, adapts it if the server speaks the other one, and becomes the server: from
then on, the output, Ctrl-C and the exit status are the server's own. Options of the server that are not listed here go
after "--", for example:

  bridge serve shop:app --port 8001 -- --proxy-headers
"""

_CHECK = """\
Loads the application and sends requests to it: GET, HEAD, POST with and without Content-Length, many at once, and
clients that leave in the middle. For an ASGI application, it also runs the lifespan, and sends the requests once more
through an adapter, as a WSGI server would.
Reports each clause of PEP 3333, ASGI or HTTP that the application breaks, as soon as it does. Ctrl-C and --timeout end
the check, which then reports what was found so far and what was running.

The requests are real: a POST may change data. --safe sends only GET and HEAD.
"""

_MOUNTS = """\
Shows a `bridge.Mounts` as a table: prefix, application, interface, and how each runs on either kind of server.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status, one of those in `--help`. Raises `SystemExit` if the command ends
    early.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, further = _split(words)
    parser = _parser()
    options, unknown = parser.parse_known_args(words)
    if unknown:
        before = words[: words.index(options.command)]
        at_fault = parser if unknown[0] in before else options.parser
        at_fault.error(f"unrecognized arguments: {' '.join(unknown)}")
    if further and options.command != "serve":
        options.parser.error('only "serve" takes options of a server, after "--"')
    # Like `python -m`, and like every server.
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as it stands there
    if options.command == "check":
        return check(
            options.app, paths=options.path or ["/"], safe=options.safe, as_json=options.json, timeout=options.timeout
        )
    if options.command == "mounts":
        return show_mounts(options.app)
    return serve(options, further)


def run() -> NoReturn:
    """Run the command line, and exit, whatever threads the application has started."""
    status: Any
    try:
        status = main()
    except SystemExit as error:
        status = error.code
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(" ".join(["bridge: interrupted by Ctrl-C", *map(str, interrupt.args)]) + "\n")
        status = 130
    leave(status)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What is before "--", and what is after it."""
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


class _Parser(argparse.ArgumentParser):
    """Says where to read more if the command line is wrong. Commands have parsers of this class too."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="bridge", description=_DESCRIPTION, epilog=_EXIT, formatter_class=raw)
    version = f"bridge {bridge.__version__}, Python {platform.python_version()}"
    parser.add_argument("--version", action="version", version=version, help="print the version, and Python's")
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve|check|mounts")
    serving = commands.add_parser(
        "serve", help="serve an application", description=_SERVE, epilog=_EXIT, formatter_class=raw
    )
    serving.add_argument("app", help=_APP_HELP)
    serving.add_argument("--under", choices=SERVER_NAMES, default="uvicorn", help="the server (default: %(default)s)")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serving.add_argument("--port", type=_port, default=8000, help="TCP port, 0 for any (default: %(default)s)")
    serving.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    serving.add_argument("--workers", type=_count, metavar="N", help="processes (default: the server's)")
    serving.add_argument("--reload", action="store_true", help="restart when a file changes, for development")
    serving.add_argument(
        "--threads", type=_count, metavar="N", help="requests that WSGI code handles at once in a process (default: 40)"
    )
    serving.add_argument(
        "--grace", type=_count, metavar="SECONDS",
        help="time for requests in progress when the server stops (default: 10, with --reload 1)",
    )  # fmt: skip
    serving.add_argument("--log-level", choices=LOG_LEVELS, help="how much the server logs (default: the server's)")
    checking = commands.add_parser(
        "check", help="find the clauses that an application breaks", description=_CHECK, epilog=_EXIT,
        formatter_class=raw,
    )  # fmt: skip
    checking.add_argument("app", help=_APP_HELP)
    checking.add_argument(
        "--path", type=_path, action="append", help='request this path; may be repeated (default: "/")'
    )
    checking.add_argument("--safe", action="store_true", help="only GET and HEAD")
    checking.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS",
        help="end after this time, report what was found so far, and exit with 1 (default: none; a request has 15 s)",
    )  # fmt: skip
    checking.add_argument("--json", action="store_true", help="print JSON, for machines")
    mounting = commands.add_parser(
        "mounts", help="show what is mounted where", description=_MOUNTS, epilog=_EXIT, formatter_class=raw
    )
    mounting.add_argument("app", help=_APP_HELP)
    for command in (serving, checking, mounting):
        command.set_defaults(parser=command)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a TCP port (0 to 65535)")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"a path starts with a slash, got {text!r}")
    if not text.isprintable():  # which the bytes that are not UTF-8 are not, either
        raise argparse.ArgumentTypeError(f"{text!r} has characters that are not printable")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)
