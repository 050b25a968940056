"""The system checks `bridge.E001` and so on. docs/django_report.md has a row for each."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Info
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from bridge.django import _modes, _settings
from bridge.django._agents import UNUSED
from bridge.django._middleware import BridgeMiddleware
from bridge.django._report import entry_points, streams
from bridge.django._report.project import Middleware, Route, middleware, routes

_FIRST: Final = "Put 'bridge.django.BridgeMiddleware' first in MIDDLEWARE"
_HERE: Final = "bridge.django.get_{0}_application in place of django.core.{0}.get_{0}_application"


def settings_are_right(app_configs: object, **_options: object) -> list[CheckMessage]:  # noqa: ARG001
    """E002, E005, E006: what the other checks need."""
    found: list[CheckMessage] = []
    try:
        _settings.read()
    except ImproperlyConfigured as error:
        found.append(Error(str(error), id="bridge.E002"))
    if not getattr(settings, "ROOT_URLCONF", None):
        hint = "Write the module of the URL patterns: ROOT_URLCONF = 'mysite.urls'."
        found.append(Error("ROOT_URLCONF is not set, so no request finds a view.", hint=hint, id="bridge.E005"))
    for path in settings.MIDDLEWARE:
        try:
            middleware(path)
        except ImproperlyConfigured as error:
            hint = "Write the dotted path of a middleware class or factory, or install what it belongs to."
            found.append(Error(f"{error}.", hint=hint, id="bridge.E006"))
    return found


def views_are_not_atomic(app_configs: object, **_options: object) -> list[CheckMessage]:  # noqa: ARG001
    """E001: Django refuses each request to such a view."""
    atomic = {alias for alias, options in connections.settings.items() if options["ATOMIC_REQUESTS"]}
    found: list[CheckMessage] = []
    for route in _async_views():
        aliases = sorted(atomic - getattr(route.view, "_non_atomic_requests", set()))
        if aliases:
            named = ", ".join(map(repr, aliases))
            message = f"The async view {route.path} has ATOMIC_REQUESTS (of {named}), which Django refuses."
            hint = (
                "Decorate it with @transaction.non_atomic_requests, and put what belongs in one transaction into a "
                "sync function: `with transaction.atomic(): ...`, called with sync_to_async. Or make the view sync."
            )
            found.append(Error(message, hint=hint, obj=route.path, id="bridge.E001"))
    return found


def on_loop_names_views(app_configs: object, **_options: object) -> list[CheckMessage]:  # noqa: ARG001
    """E003, E004, W005: names that are not async views have no effect, silently. Neither has a lost decorator."""
    chosen = _chosen()
    if chosen is None or not (chosen.on_loop or _modes.marked):
        return []
    routed = {name: route for route in _routes() for name in (*route.names, route.path)}
    found = [_named(path, routed.get(path)) for path in sorted(chosen.on_loop)]
    found += [_marked(path, routed[path]) for path in sorted(_modes.marked & routed.keys())]
    return [message for message in found if message is not None]


def _marked(path: str, route: Route) -> CheckMessage | None:
    """W007: a sync wrapper around an async view. Django sees only the wrapper."""
    if route.is_async:
        return None
    message = f"{path} is marked with on_loop, but the view that {route.route!r} leads to is sync."
    hint = "Make the wrapper async (`async def`), or remove on_loop."
    return checks.Warning(message, hint=hint, obj=path, id="bridge.W007")


def _named(path: str, route: Route | None) -> CheckMessage | None:
    where = f"BRIDGE['ON_LOOP'] names {path!r}"
    take_out = "Remove it from BRIDGE['ON_LOOP'], or make it `async def`: only async views can run on the loop."
    if route is not None:
        return None if route.is_async else Error(f"{where}, a sync view.", hint=take_out, id="bridge.E004")
    try:
        view = import_string(path)
    except (ImportError, ValueError) as error:
        hint = "Write the dotted path of the view: its module, a dot, and its name or the name of its class."
        return Error(f"{where}, which does not exist: {error}.", hint=hint, id="bridge.E003")
    if not _modes.is_async(view):
        return Error(f"{where}, which is not an async view.", hint=take_out, id="bridge.E004")
    own = _modes.path_of(view)
    hint = f"Write {own!r}, where it is defined." if own != path else "Remove it, or give it a URL pattern."
    return checks.Warning(f"{where}, but no URL pattern leads to a view with this path.", hint=hint, id="bridge.W005")


def streams_fit(app_configs: object, **_options: object) -> list[CheckMessage]:  # noqa: ARG001
    """W001: Django reads the other kind of stream to its end before it sends anything."""
    if _places():
        return []
    wsgi, asgi = _django_serves()
    given = hasattr(settings, "ASGI_APPLICATION")
    found: list[CheckMessage] = []
    for route in {route.path: route for route in _routes()}.values():
        wrong = {"async": wsgi, "sync": asgi if given or route.is_async else None}
        for kind in sorted(streams.streams(route.view)):
            path = wrong[kind]
            if path is not None:
                message = (
                    f"The view {route.path} returns a stream with {'an' if kind == 'async' else 'a'} {kind} iterator. "
                    f"Behind {path}, Django reads it to its end before it sends anything."
                )
                hint = f"{_FIRST}, or use {_HERE.format('wsgi' if kind == 'async' else 'asgi')}."
                found.append(checks.Warning(message, hint=hint, obj=route.path, id="bridge.W001"))
    return found


def middleware_lets_views_be_async(app_configs: object, **_options: object) -> list[CheckMessage]:  # noqa: ARG001
    """W002, I001: middleware that takes async views to a thread."""
    views = list(_async_views())
    if not views:
        return []
    known = _middleware()
    found: list[CheckMessage] = []
    for one in known:
        if not one.can_async:
            message = (
                f"The middleware {one.path} is only sync, around {_count(views)}: on an ASGI server, each request to "
                "them holds a thread while the view waits, and goes to the thread and back."
            )
            hint = "Write it for both modes, with django.utils.decorators.sync_and_async_middleware; or remove it."
            found.append(checks.Warning(message, hint=hint, obj=one.path, id="bridge.W002"))
    hooks = {one.path: one.thread_hooks for one in known if one.thread_hooks}
    django_serves = _django_serves()[1] is not None
    if hooks and (django_serves or any(route.on_loop for route in views)):
        listed = "; ".join(f"{path} ({', '.join(names)})" for path, names in hooks.items())
        cost = 2 * sum(name != "process_template_response" for names in hooks.values() for name in names)
        message = f"Hooks that run in a thread, one by one, cost an async request {cost} hops: {listed}."
        hint = (
            f"Use {_HERE.format('asgi')}, which runs them all in one thread."
            if django_serves
            else "Write `async def __acall__` and async hooks, or remove on_loop from views that do not wait for long."
        )
        found.append(Info(message, hint=f"{hint} `manage.py bridge_report` has the numbers.", id="bridge.I001"))
    return found


def bridge_middleware_is_first(app_configs: object, **_options: object) -> list[CheckMessage]:  # noqa: ARG001
    """W003, W004: whether it is first, and whether it is missing."""
    places = _places()
    if places and places != [0]:
        before = ", ".join(path for at, path in enumerate(settings.MIDDLEWARE[: places[-1]]) if at not in places)
        message = f"{settings.MIDDLEWARE[places[-1]]} is not first in MIDDLEWARE, or is listed twice." + (
            f" It sees neither the streams nor the hops of {before}, which have no request.bridge." if before else ""
        )
        hint = f"Put {settings.MIDDLEWARE[places[-1]]!r} first in MIDDLEWARE, once."
        return [checks.Warning(message, hint=hint, id="bridge.W003")]
    if places:
        return []
    found: list[CheckMessage] = []
    given = getattr(settings, "BRIDGE", None)
    if isinstance(given, dict) and given.get("SERVER_TIMING") is True:
        message = "BRIDGE['SERVER_TIMING'] is True, but no middleware adds the header."
        found.append(checks.Warning(message, hint=f"{_FIRST}.", id="bridge.W004"))
    views, path = list(_async_views()), _django_serves()[0]
    if views and path:
        message = f"Behind {path}, Django makes an event loop and a thread for each request to {_count(views)}."
        hint = f"{_FIRST}, or use {_HERE.format('wsgi')}."
        found.append(checks.Warning(message, hint=hint, id="bridge.W004"))
    return found


def hooks_are_called(app_configs: object, **_options: object) -> list[CheckMessage]:  # noqa: ARG001
    """W006: functions that an agent or other code has replaced, but that are not called for requests."""
    path = entry_points.asgi_path()
    if entry_points.entry(path) != "bridge":
        return []
    hint = (
        "Hook ASGIHandler.__call__ or BaseHandler.get_response_async, which are called for each request, or use a "
        "middleware. docs/observability.md says how the known agents do it."
    )
    return [
        checks.Warning(
            f"{hook} was replaced (by {hook.replaced_by()}), and {path} does not call it: "
            "the replacement has no effect.",
            hint=hint,
            obj=str(hook),
            id="bridge.W006",
        )
        for hook in UNUSED
        if not hook.is_own()
    ]


def _places() -> list[int]:
    """The places of `BridgeMiddleware`, or of a subclass, in MIDDLEWARE."""
    return [index for index, path in enumerate(settings.MIDDLEWARE) if _is_ours(path)]


def _is_ours(path: str) -> bool:
    try:
        kind = import_string(path)
    except ImportError:
        return False  # E006
    return isinstance(kind, type) and issubclass(kind, BridgeMiddleware)


def _count(views: Sequence[Route]) -> str:
    named = sorted({route.path for route in views})
    return f"the async view {named[0]}" if len(named) == 1 else f"{len(named)} async views ({named[0]}, ...)"


def _django_serves() -> tuple[str | None, str | None]:
    """The paths of the WSGI and the ASGI application, if they are Django's own."""
    paths = entry_points.wsgi_path(), entry_points.asgi_path()
    wsgi, asgi = (path if entry_points.entry(path) == "django" else None for path in paths)
    return wsgi, asgi


def _chosen() -> _settings.Settings | None:
    try:
        return _settings.read()
    except ImproperlyConfigured:
        return None  # E002


def _routes() -> list[Route]:
    """The URL patterns. None if there is no ROOT_URLCONF, which E005 reports."""
    chosen = _chosen()
    on_loop: frozenset[str] = chosen.on_loop if chosen is not None else frozenset()
    return list(routes(on_loop)) if getattr(settings, "ROOT_URLCONF", None) else []


def _async_views() -> Iterator[Route]:
    """The URL patterns of async views, with each view once."""
    yield from {route.path: route for route in _routes() if route.is_async}.values()


def _middleware() -> list[Middleware]:
    """The middleware that can be imported. E006 reports the rest."""
    found = []
    for path in settings.MIDDLEWARE:
        try:
            found.append(middleware(path))
        except ImproperlyConfigured:
            continue
    return found


CHECKS: Final[tuple[Any, ...]] = (
    settings_are_right,
    views_are_not_atomic,
    on_loop_names_views,
    streams_fit,
    middleware_lets_views_be_async,
    bridge_middleware_is_first,
    hooks_are_called,
)
