"""Where a request is to run: whether its view is to be on the loop, and which middleware needs a thread there."""

from collections.abc import Callable, Collection, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.urls import get_resolver
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string
from django.utils.translation import activate, get_language_from_path

from bridge.django import _views

_View = TypeVar("_View", bound=Callable[..., Any])
_MARK = "bridge_on_loop"
# Whether any view was marked in this process: until then there is no need to look for one.
marked: set[str] = set()


def on_loop(view: _View) -> _View:
    """Decorator for an async view that waits for long: its requests hold no thread while they do.

    On an ASGI server they run through Django's own async chain, on the event loop; sync middleware then costs its
    hops. On a WSGI server it changes nothing. `view` is a function, a method of a class-based view (all of the view is
    then on the loop), or the class; decorators may be around it or within, and what django-ninja and Django REST
    framework make of it is known. Raises `TypeError` for a sync view.
    """
    if not is_async(view):
        raise TypeError(f"on_loop is for async views, and {_views.path_of(view)} is not; make it `async def`")
    setattr(view, _MARK, True)
    marked.add(_views.path_of(view))
    return view


def is_async(view: Any) -> bool:
    """Whether a view, or the class of one, is async."""
    if isinstance(view, type):
        return getattr(view, "view_is_async", False) is True
    return iscoroutinefunction(view)


def is_on_loop(view: Callable[..., Any], named: Collection[str]) -> bool:
    """Whether a view or what it wraps is marked, or named in `BRIDGE["ON_LOOP"]`."""
    if any(getattr(layer, _MARK, False) is True for layer in _views.layers(view)):
        return True
    return bool(named) and not _views.names(view).isdisjoint(named)


def unfit(named: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is marked or named, and does not run on the loop, with the reason; imports the URLconf.

    What is marked and has no URL pattern is nobody's mistake: a project may have several URLconfs.
    """
    wanted = {*named, *marked}
    sync: set[str] = set()
    found: set[str] = set()
    for pattern, *_ in _views.patterns(get_resolver()):
        known = _views.names(pattern.callback) | {_views.path_of(pattern.callback)}
        (found if iscoroutinefunction(pattern.callback) else sync).update(wanted & known)
    for name in sorted(wanted - found):
        if name in sync:
            yield name, "the view that its URL pattern leads to is sync"
        elif name in named:
            yield name, "no URL pattern of ROOT_URLCONF leads to it"


def view_at(path_info: str) -> Callable[..., Any]:
    """The view that the URLconf leads to, before any middleware has seen the request.

    Raises `Resolver404`, and whatever else an URLconf raises.
    """
    if is_language_prefix_patterns_used(settings.ROOT_URLCONF)[0]:
        # What LocaleMiddleware will find in the path; in a context of its own, since this is nobody's language yet.
        language = get_language_from_path(path_info) or settings.LANGUAGE_CODE
        return copy_context().run(_view_in, language, path_info)
    view: Callable[..., Any] = get_resolver().resolve(path_info).func
    return view


def _view_in(language: str, path_info: str) -> Callable[..., Any]:
    activate(language)
    view: Callable[..., Any] = get_resolver().resolve(path_info).func
    return view


def is_native(path: str) -> bool:
    """Whether the middleware at the dotted path needs no thread where the chain is async."""
    middleware = import_string(path)
    if not getattr(middleware, "async_capable", False):
        return False
    if not isinstance(middleware, type):
        return True  # a factory that says that it makes both kinds
    return not thread_hooks(middleware)


def thread_hooks(middleware: type) -> list[str]:
    """The hooks of an async-capable middleware class that Django runs in a thread all the same."""
    hooks = []
    if issubclass(middleware, MiddlewareMixin) and middleware.__acall__ is MiddlewareMixin.__acall__:
        hooks = [name for name in ("process_request", "process_response") if hasattr(middleware, name)]
    for name in ("process_view", "process_template_response"):
        hook = getattr(middleware, name, None)
        if hook is not None and not iscoroutinefunction(hook):
            hooks.append(name)
    return hooks
