"""Decides where a request runs: whether its view runs on the loop, and which middleware needs a thread there."""

from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.urls import get_resolver
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string
from django.utils.translation import activate, get_language_from_path

_View = TypeVar("_View", bound=Callable[..., Any])
_MARK = "bridge_on_loop"
# Whether any view was marked in this process. Until then there is no need to look for one.
marked: set[str] = set()


def on_loop(view: _View) -> _View:
    """Decorator for an async view that waits for long: its requests hold no thread while they wait.

    On an ASGI server, they run through Django's own async chain, on the event loop. Sync middleware then costs its
    hops. On a WSGI server, the decorator changes nothing. Raises `TypeError` for a sync view.
    """
    if not iscoroutinefunction(view):
        raise TypeError(f"on_loop is for async views, but {dotted(view)} is sync; make it `async def`")
    setattr(view, _MARK, True)
    marked.add(dotted(view))
    return view


def is_on_loop(view: Callable[..., Any], named: Iterable[str]) -> bool:
    """Whether a view is marked, or named in `BRIDGE["ON_LOOP"]`."""
    return getattr(view, _MARK, False) or (bool(named) and dotted(view) in named)


def view_at(path_info: str) -> Callable[..., Any]:
    """The view that the URLconf leads to, before any middleware has seen the request.

    Raises `Resolver404`, and whatever else an URLconf raises.
    """
    if is_language_prefix_patterns_used(settings.ROOT_URLCONF)[0]:
        # The language that LocaleMiddleware will find in the path, in a separate context, because it is not the
        # language of any request yet.
        language = get_language_from_path(path_info) or settings.LANGUAGE_CODE
        return copy_context().run(_view_in, language, path_info)
    view: Callable[..., Any] = get_resolver().resolve(path_info).func
    return view


def _view_in(language: str, path_info: str) -> Callable[..., Any]:
    activate(language)
    view: Callable[..., Any] = get_resolver().resolve(path_info).func
    return view


def dotted(view: Callable[..., Any]) -> str:
    """The dotted path of a view. For a class-based view, the path of the class."""
    named = getattr(view, "view_class", view)
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(named).__qualname__)}"


def is_native(path: str) -> bool:
    """Whether the middleware at the dotted path needs no thread in an async chain."""
    middleware = import_string(path)
    if not getattr(middleware, "async_capable", False):
        return False
    if not isinstance(middleware, type):
        return True  # a factory that says that it makes both kinds
    return not thread_hooks(middleware)


def thread_hooks(middleware: type) -> list[str]:
    """The hooks of an async-capable middleware class that Django still runs in a thread."""
    hooks = []
    if issubclass(middleware, MiddlewareMixin) and middleware.__acall__ is MiddlewareMixin.__acall__:
        hooks = [name for name in ("process_request", "process_response") if hasattr(middleware, name)]
    for name in ("process_view", "process_template_response"):
        hook = getattr(middleware, name, None)
        if hook is not None and not iscoroutinefunction(hook):
            hooks.append(name)
    return hooks
