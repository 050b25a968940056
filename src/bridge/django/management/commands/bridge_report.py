"""`manage.py bridge_report`: thread hops a request, for each middleware and URL pattern, and what to change first."""

import json
from argparse import ArgumentTypeError
from dataclasses import replace
from typing import Any, Literal

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from bridge.django._report.cost import HANDLERS, Report, above, report
from bridge.django._report.project import survey
from bridge.django._report.selection import select
from bridge.django._report.tables import as_json, as_text

_SERVED = ("bridge-wsgi", "bridge-asgi")
_SHOWN_LINES = 10


class Command(BaseCommand):
    """The report, and with `--max-hops` an exit code for CI."""

    help = "Shows what a request costs in hops between threads and event loops, and what to change first."
    # The checks report what they find. A report is possible anyway.
    requires_system_checks: list[str] | tuple[str, ...] | Literal["__all__"] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--json", action="store_true", help="JSON for machines instead of tables.")
        parser.add_argument(
            "--path",
            type=_path,
            action="append",
            default=[],
            help="Show only URL patterns that begin with this path, or that handle a request to it; may be repeated. "
            "Default: all except those of Django's admin.",
        )
        parser.add_argument(
            "--exclude",
            type=_path,
            action="append",
            default=[],
            metavar="PATH",
            help="Leave out such URL patterns; may be repeated.",
        )
        parser.add_argument(
            "--max-hops",
            type=_count,
            metavar="N",
            help="End with exit code 1 if a request to a URL pattern costs more than N hops.",
        )
        parser.add_argument(
            "--handler",
            action="append",
            choices=HANDLERS,
            help=f"The handler for which --max-hops counts; may be repeated. Default: {' and '.join(_SERVED)}.",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print the report. Raises `CommandError` above `--max-hops`, and if no server could start."""
        if options["handler"] and options["max_hops"] is None:
            raise CommandError("--handler says for which handler --max-hops counts: use --max-hops N as well")
        try:
            project = survey()
            routes, hidden = select(project.routes, options["path"], options["exclude"])
        except (ImproperlyConfigured, LookupError) as error:
            raise CommandError(str(error)) from error
        made = report(replace(project, routes=routes))
        text = json.dumps(as_json(made, hidden), indent=2) if options["json"] else as_text(made, hidden)
        self.stdout.write(text)
        if options["max_hops"] is not None:
            _judge(made, options["max_hops"], options["handler"] or _SERVED)


def _path(value: str) -> str:
    if value.startswith("/"):
        return value
    raise ArgumentTypeError(f"a path starts with a slash, got {value!r}")


def _count(value: str) -> int:
    if value.isdecimal():
        return int(value)
    raise ArgumentTypeError(f"expected a number of hops, 0 or more, got {value!r}")


def _judge(made: Report, most: int, handlers: Any) -> None:
    found = above(made, most, handlers)
    if found:
        lines = [f"  {hops} under {handler}: {route.path}, {route.route!r}" for route, handler, hops in found]
        more = [f"  and {len(lines) - _SHOWN_LINES} more"] if len(lines) > _SHOWN_LINES else []
        raise CommandError("\n".join([f"more than {most} hops a request:", *lines[:_SHOWN_LINES], *more]))
