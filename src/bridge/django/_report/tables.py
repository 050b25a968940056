"""A report as text for people, and as JSON for machines."""

from collections.abc import Iterator, Sequence
from typing import Any

import django

from bridge._tables import aligned
from bridge.django._report.cost import HANDLERS, Report
from bridge.django._report.project import Middleware, Route
from bridge.django._report.selection import Hidden

_ENTRIES = {
    "django": "Django's own",
    "bridge": "bridge.django",
    "other": "neither Django's nor bridge.django",
    None: "not found",
}


def as_text(report: Report, hidden: Hidden) -> str:
    """Tables of the middleware and the URL patterns, and what to change first."""
    return "\n".join(_lines(report, hidden)) + "\n"


def as_json(report: Report, hidden: Hidden) -> dict[str, Any]:
    """The same for JSON. docs/django_report.md explains the keys."""
    project = report.project
    listed = zip(project.middleware, report.thread, report.loop, strict=True)
    return {
        "django": django.get_version(),
        "entry_points": {"asgi": project.asgi, "wsgi": project.wsgi},
        "middleware": [
            {
                "path": one.path,
                "kind": _kind(one),
                "used": one.used,
                "thread_hooks": list(one.thread_hooks),
                "hops": {"sync_chain": thread, "async_chain": loop},
            }
            for one, thread, loop in listed
        ],
        "url_patterns": [
            {
                "route": route.route,
                "name": route.name,
                "view": route.path,
                "kind": "async" if route.is_async else "sync",
                "on_loop": route.on_loop,
                "hops": dict(cost),
            }
            for route, cost in zip(project.routes, report.hops, strict=True)
        ],
        "left_out": {"admin": hidden.admin, "others": hidden.others},
        "template_response": {"sync_chain": report.template[0], "async_chain": report.template[1]},
        "changes": [
            {"change": one.text, "most": one.most, "total": one.total, "url_patterns": one.routes}
            for one in report.changes
        ],
    }


def _lines(report: Report, hidden: Hidden) -> Iterator[str]:
    project = report.project
    yield f"ASGI application: {_ENTRIES[project.asgi]}. WSGI application: {_ENTRIES[project.wsgi]}."
    yield "A hop is one crossing between a thread and an event loop, in one direction."
    yield ""
    yield "MIDDLEWARE: hops in a sync chain (Django on WSGI; bridge) and in an async chain (Django on ASGI; on_loop)"
    rows = [
        (str(thread), str(loop), _kind(one), f"{one.path}{_remark(one)}")
        for one, thread, loop in zip(project.middleware, report.thread, report.loop, strict=True)
    ]
    yield from _table(("sync", "async", "kind", "middleware"), rows, numbers=2)
    yield ""
    yield "URL PATTERNS: hops a request"
    patterns = zip(project.routes, report.hops, strict=True)
    costs = [(*(str(cost[handler]) for handler in HANDLERS), *_named(route)) for route, cost in patterns]
    yield from _table((*HANDLERS, "kind", "view", "URL pattern"), costs, numbers=len(HANDLERS))
    yield from hidden.lines()
    sync, through = report.template
    yield f"A TemplateResponse costs {sync} more in a sync chain, {through} in an async one."
    listening = [
        name
        for name, listeners in (("request_started", project.started), ("request_finished", project.finished))
        if listeners.project
    ]
    if listening:
        yield f"The project's own receivers of {' and '.join(listening)} are counted."
    yield ""
    yield "WHAT TO CHANGE FIRST: each change assumes those before it"
    yield from _changes(report)


def _changes(report: Report) -> Iterator[str]:
    if not report.changes:
        yield "Nothing: with these entry points, no change to them or to the middleware saves a hop."
    for number, one in enumerate(report.changes, 1):
        yield f"{number}. {one.text}"
        yield f"   saves up to {one.most} hops a request, on {one.routes} of {len(report.hops)} URL patterns"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> Iterator[str]:
    return (f"  {line}" for line in aligned((head, *rows), numbers=numbers))


def _kind(one: Middleware) -> str:
    return {(True, True): "both", (False, True): "async", (True, False): "sync"}[one.can_sync, one.can_async]


def _remark(one: Middleware) -> str:
    if not one.used:
        return "  (not used: MiddlewareNotUsed)"
    return f"  (in a thread: {', '.join(one.thread_hooks)})" if one.can_async and one.thread_hooks else ""


def _named(route: Route) -> tuple[str, str, str]:
    kind = "async, on_loop" if route.on_loop else "async" if route.is_async else "sync"
    name = f"  [{route.name}]" if route.name else ""
    return kind, route.path, f"/{route.route}{name}"
