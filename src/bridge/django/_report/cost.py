"""What a request costs in hops under each handler, and what to change first. Only computes.

A hop is one crossing between a thread and an event loop, in one direction. A request is counted from its start to
`response.close()`. Its response is not a stream, and has a status below 400, and nothing raises. Hops that a view or a
middleware makes itself (`sync_to_async`, the async ORM) come in addition.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from bridge.django._report.project import Middleware, Project, Route

Handler = Literal["django-wsgi", "django-asgi", "bridge-wsgi", "bridge-asgi"]
HANDLERS: Final[tuple[Handler, ...]] = ("django-wsgi", "django-asgi", "bridge-wsgi", "bridge-asgi")
Hops = dict[Handler, int]
# Out and back.
TRIP_HOPS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something to change: what to write, and what that saves with the entry points that the project has.

    `most`: the most hops that one request saves. `total`: the sum over all URL patterns and both kinds of server.
    `routes`: how many URL patterns get better.
    """

    text: str
    most: int
    total: int
    routes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`thread` and `loop`: hops of each middleware in a sync and in an async chain; `hops`: those of each route.

    `template`: what a TemplateResponse adds, in a sync chain and in an async one.
    """

    project: Project
    thread: tuple[int, ...]
    loop: tuple[int, ...]
    hops: tuple[Hops, ...]
    template: tuple[int, int]
    changes: tuple[Change, ...]


def report(project: Project) -> Report:
    """Everything about a project."""
    used = [one for one in project.middleware if one.used]
    return Report(
        project=project,
        thread=chain(project.middleware, is_async=False),
        loop=chain(project.middleware, is_async=True),
        hops=tuple(hops(project, is_async=route.is_async, on_loop=route.on_loop) for route in project.routes),
        template=(
            TRIP_HOPS * sum(one.template_hook is True for one in used),
            TRIP_HOPS * (1 + sum(one.template_hook is False for one in used)),
        ),
        changes=tuple(_changes(project)),
    )


def chain(middleware: Sequence[Middleware], *, is_async: bool) -> tuple[int, ...]:
    """The hops of each middleware when Django builds its chain for sync or for async requests.

    Django goes from the view outwards. A middleware that does not have the mode of the code that it calls gets an
    adapter. The new mode then stays as long as possible. Both adapters of such a run are charged to the middleware that
    began it.
    """
    charged = [0] * len(middleware)
    mode, first = is_async, 0
    for index, one in reversed(list(enumerate(middleware))):
        if not one.used:
            continue
        own = one.can_async and (mode or not one.can_sync)
        if own != mode:
            first = index if mode == is_async else first
            charged[first] += TRIP_HOPS
        if own:
            charged[index] += TRIP_HOPS * len(one.mixin_hooks)
        if one.view_hook not in (None, is_async):
            charged[index] += TRIP_HOPS
        mode = own
    if mode != is_async:
        charged[first] += TRIP_HOPS
    return tuple(charged)


def hops(project: Project, *, is_async: bool, on_loop: bool) -> Hops:
    """What one request to this view costs under each handler."""
    sync = sum(chain(project.middleware, is_async=False)) + (TRIP_HOPS if is_async else 0)
    through = sum(chain(project.middleware, is_async=True)) + (0 if is_async else TRIP_HOPS)
    started, finished = project.started, project.finished
    # Sync code sends the signals, so async receivers cost a trip. But on the loop, async code sends request_started.
    # Then sync receivers cost a trip, and some of Django's own are always there.
    finish = TRIP_HOPS if finished.is_async else 0
    in_thread = sync + (TRIP_HOPS if started.is_async else 0) + finish
    if is_async and (on_loop or project.native):
        begin = TRIP_HOPS if started.project else 0
        close = TRIP_HOPS if through or started.project or finished.project else 0
        bridge_asgi = begin + through + close + finish
    else:
        bridge_asgi = TRIP_HOPS + in_thread
    return {
        "django-wsgi": in_thread,
        "django-asgi": TRIP_HOPS + through + TRIP_HOPS + finish,
        "bridge-wsgi": in_thread,
        "bridge-asgi": bridge_asgi,
    }


def _changes(project: Project) -> Iterator[Change]:
    """The changes in order, each assuming those before it: first the line in asgi.py, then what saves the most."""
    if project.asgi == "django":
        text = "asgi.py: import get_asgi_application from bridge.django instead of django.core.asgi"
        change, better = _change(project, replace(project, asgi="bridge"), text)
        if change.total > 0:  # not if async-only middleware is around everything
            yield change
            project = better
    while project.middleware:
        alone = (
            _change(project, _with_native(project, index), _advice(one)) for index, one in enumerate(project.middleware)
        )
        change, better = max(alone, key=lambda one: one[0].total)
        if change.total <= 0:
            break
        yield change
        project = better
    left = [index for index, one in enumerate(project.middleware) if not one.native]
    if left:
        text = (
            f"{len(left)} middleware that need a thread: write async code in all of them; then async views need no"
            " thread either"
        )
        change, _ = _change(project, _with_native(project, *left), text)
        if change.total > 0:
            yield change


def _with_native(project: Project, *indexes: int) -> Project:
    changed = [_native(one) if index in indexes else one for index, one in enumerate(project.middleware)]
    return replace(project, middleware=tuple(changed))


def _native(one: Middleware) -> Middleware:
    """The same middleware, but written for both modes."""
    if not one.used:
        return replace(one, native=True)
    return replace(
        one,
        can_sync=True,
        can_async=True,
        mixin_hooks=(),
        view_hook=None if one.view_hook is None else True,
        template_hook=None if one.template_hook is None else True,
        native=True,
    )


def _advice(one: Middleware) -> str:
    if not one.used:
        return f"{one.path}: not used (MiddlewareNotUsed); remove it from MIDDLEWARE, where it counts as sync"
    if not one.can_async:
        return f"{one.path}: only sync; write it for both modes (django.utils.decorators.sync_and_async_middleware)"
    if not one.can_sync:
        return f"{one.path}: only async; write it for both modes (django.utils.decorators.sync_and_async_middleware)"
    hooks = " and ".join(one.thread_hooks)
    if one.path.startswith("django."):
        return f"{one.path}: Django's own, with {hooks} in a thread; remove it if nothing needs it"
    return f"{one.path}: {hooks} in a thread; write `async def __acall__` and async hooks"


def _change(project: Project, better: Project, text: str) -> tuple[Change, Project]:
    saved = []
    for (is_async, on_loop), routes in Counter((route.is_async, route.on_loop) for route in project.routes).items():
        before, after = (_present(one, hops(one, is_async=is_async, on_loop=on_loop)) for one in (project, better))
        most = max(was - now for was, now in zip(before, after, strict=True))
        saved.append((most, sum(before) - sum(after), routes))
    change = Change(
        text=text,
        most=max((most for most, _, _ in saved), default=0),
        total=sum(both * routes for _, both, routes in saved),
        routes=sum(routes for _, both, routes in saved if both > 0),
    )
    return change, better


def _present(project: Project, cost: Hops) -> tuple[int, int]:
    """On an ASGI and on a WSGI server, with the project's entry points. Other entry points count as Django's.

    A kind of server without an entry point costs nothing, unless neither has one.
    """
    asgi = cost["bridge-asgi" if project.asgi == "bridge" else "django-asgi"]
    wsgi = cost["bridge-wsgi" if project.wsgi == "bridge" else "django-wsgi"]
    if project.asgi is None and project.wsgi is not None:
        return 0, wsgi
    return asgi, 0 if project.wsgi is None and project.asgi is not None else wsgi


def above(report: Report, most: int, handlers: Sequence[Handler]) -> list[tuple[Route, Handler, int]]:
    """The URL patterns that cost more hops than `most` under one of the handlers."""
    return [
        (route, handler, cost[handler])
        for route, cost in zip(report.project.routes, report.hops, strict=True)
        for handler in handlers
        if cost[handler] > most
    ]
