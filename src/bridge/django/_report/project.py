"""The parts of a project that decide what a request costs: middleware, views, signals and entry points."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core import signals
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.dispatch import Signal
from django.urls import get_resolver
from django.utils.module_loading import import_string

from bridge.django import _modes, _settings
from bridge.django._report import entry_points
from bridge.django._signals import only_django_listens


@dataclass(frozen=True, slots=True, kw_only=True)
class Middleware:
    """One of `settings.MIDDLEWARE`.

    `can_sync`, `can_async`: the modes that it says it has; `mixin_hooks`: the hooks that `MiddlewareMixin` runs in a
    thread in the async mode; `view_hook`, `template_hook`: whether `process_view` and `process_template_response` are
    async, or None if it has no such hook; `native`: whether it can do without a thread in an async chain; `used`: False
    after `MiddlewareNotUsed`.
    """

    path: str
    can_sync: bool
    can_async: bool
    mixin_hooks: tuple[str, ...] = ()
    view_hook: bool | None = None
    template_hook: bool | None = None
    native: bool = False
    used: bool = True

    @property
    def thread_hooks(self) -> tuple[str, ...]:
        """The hooks that need a thread in an async chain."""
        own = {"process_view": self.view_hook, "process_template_response": self.template_hook}
        return (*self.mixin_hooks, *(name for name, is_async in own.items() if is_async is False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One URL pattern: its text, its name with namespaces, and the view.

    `path`: the dotted path of the project's own function or class behind the view; `names`: all paths by
    which `BRIDGE["ON_LOOP"]` can name it; `is_admin`: whether it belongs to Django's admin.
    """

    route: str
    name: str
    view: Callable[..., Any]
    path: str
    names: frozenset[str] = frozenset()
    is_admin: bool = False
    is_async: bool
    on_loop: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """The receivers of `request_started` or `request_finished`: whether some are the project's, and some are async."""

    project: bool = False
    is_async: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """All that a report needs to know."""

    middleware: tuple[Middleware, ...]
    routes: tuple[Route, ...]
    started: Listeners = Listeners()
    finished: Listeners = Listeners()
    asgi: entry_points.Entry = None
    wsgi: entry_points.Entry = None

    @property
    def native(self) -> bool:
        """Whether no middleware needs a thread in an async chain."""
        return all(one.native for one in self.middleware)


def survey() -> Project:
    """The project of the settings in force. Makes each middleware once, as Django does when it starts to serve.

    Raises `ImproperlyConfigured` if a server could not start either.
    """
    routed = tuple(routes(_settings.read().on_loop))
    return Project(
        middleware=tuple(_made(path) for path in settings.MIDDLEWARE),
        routes=routed,
        started=_listeners(signals.request_started),
        finished=_listeners(signals.request_finished),
        asgi=entry_points.entry(entry_points.asgi_path()),
        wsgi=entry_points.entry(entry_points.wsgi_path()),
    )


def middleware(path: str, made: Any = None) -> Middleware:
    """What the class or factory at the dotted path says about itself, or what it has made, if that is given.

    Raises `ImproperlyConfigured` if there is none.
    """
    factory = _imported(path)
    subject = factory if made is None else made
    kind = subject if isinstance(subject, type) else type(subject)
    can_async = getattr(factory, "async_capable", False)
    hooks = _modes.thread_hooks(kind) if can_async else []
    can_sync = getattr(factory, "sync_capable", True)
    if not (can_sync or can_async):
        raise ImproperlyConfigured(
            f"MIDDLEWARE names {path!r}, which sets neither sync_capable nor async_capable to True"
        )
    return Middleware(
        path=path,
        can_sync=can_sync,
        can_async=can_async,
        mixin_hooks=tuple(name for name in hooks if name in ("process_request", "process_response")),
        view_hook=_is_async_hook(subject, "process_view"),
        template_hook=_is_async_hook(subject, "process_template_response"),
        native=_modes.is_native(path),
    )


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"MIDDLEWARE names {path!r}, which cannot be imported: {error}") from error


def _is_async_hook(subject: Any, name: str) -> bool | None:
    hook = getattr(subject, name, None)
    return None if hook is None else iscoroutinefunction(hook)


def _made(path: str) -> Middleware:
    described = middleware(path)
    try:
        made = _imported(path)(_sync_response if described.can_sync else _async_response)
    except MiddlewareNotUsed:
        return Middleware(
            path=path,
            can_sync=described.can_sync,
            can_async=described.can_async,
            native=described.native,
            used=False,
        )
    if made is None:
        raise ImproperlyConfigured(f"MIDDLEWARE names {path!r}, a factory that returned None instead of a middleware")
    return middleware(path, made)


def _sync_response(_request: object) -> Any:
    raise AssertionError("a middleware called get_response while it was made")


async def _async_response(_request: object) -> Any:
    raise AssertionError("a middleware called get_response while it was made")


def routes(on_loop: frozenset[str]) -> Iterator[Route]:
    """Each URL pattern of `ROOT_URLCONF`, in Django's order. `on_loop`: the paths in `BRIDGE["ON_LOOP"]`."""
    if not getattr(settings, "ROOT_URLCONF", None):
        said = "ROOT_URLCONF is not set: write the module of the URL patterns, such as 'mysite.urls'"
        raise ImproperlyConfigured(said)
    for pattern, route, name, apps in _modes.patterns(get_resolver()):
        view = pattern.callback
        is_async = iscoroutinefunction(view)
        yield Route(
            route=route,
            name=name,
            view=view,
            path=_modes.path_of(view),
            names=_modes.names(view),
            is_admin="admin" in apps,
            is_async=is_async,
            on_loop=is_async and _modes.is_on_loop(view, on_loop),
        )


def _listeners(signal: Signal) -> Listeners:
    # In all versions of Django, the last item of an entry says whether the receiver is async.
    return Listeners(
        project=not only_django_listens(signal), is_async=any(receiver[-1] for receiver in signal.receivers)
    )
