"""Decides where a request runs: whether its view runs on the loop, and which middleware needs a thread there.

Decorators and frameworks put layers around the project's own functions. To look through them, this module follows
`__wrapped__` (functools.wraps), `functools.partial`, the class of a class-based view, the actions of a viewset of
Django REST framework, the operations of a path of django-ninja, and the functions that a wrapper encloses or has as
attributes.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string
from django.utils.translation import activate, get_language_from_path

_View = TypeVar("_View", bound=Callable[..., Any])
_MARK = "bridge_on_loop"
# Whether any view was marked in this process. Until then there is no need to look for one.
marked: set[str] = set()
# If there are more, this is not a view.
_MOST_LAYERS: Final = 100


def on_loop(view: _View) -> _View:
    """Decorator for an async view that waits for a long time: its requests do not hold a thread while they wait.

    On an ASGI server, they run through Django's own async chain, on the event loop. Sync middleware then costs hops. On
    a WSGI server, this changes nothing. `view` is a function, the class of a class-based view, or one of its methods
    (then the whole view runs on the loop). Other decorators may be above or below this one, and the views that
    django-ninja and Django REST framework make of it are recognized. Raises `TypeError` for a sync view.
    """
    if not is_async(view):
        raise TypeError(f"on_loop is for async views, but {path_of(view)} is sync; make it `async def`")
    setattr(view, _MARK, True)
    marked.add(path_of(view))
    return view


def is_async(view: Any) -> bool:
    """Whether a view, or the class of one, is async."""
    if isinstance(view, type):
        return getattr(view, "view_is_async", False) is True
    return iscoroutinefunction(view)


def is_on_loop(view: Callable[..., Any], named: Collection[str]) -> bool:
    """Whether a view or what it wraps is marked, or named in `BRIDGE["ON_LOOP"]`."""
    if any(getattr(layer, _MARK, False) is True for layer in layers(view)):
        return True
    return bool(named) and not names(view).isdisjoint(named)


def unfit(named: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is marked or named, but does not run on the loop, with the reason. Imports the URLconf.

    A view that is marked and has no URL pattern is not a mistake: a project may have several URLconfs.
    """
    wanted = {*named, *marked}
    sync: set[str] = set()
    found: set[str] = set()
    for pattern, *_ in patterns(get_resolver()):
        known = names(pattern.callback) | {path_of(pattern.callback)}
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


def is_native(path: str) -> bool:
    """Whether the middleware at the dotted path can do without a thread in an async chain."""
    middleware = import_string(path)
    if not getattr(middleware, "async_capable", False):
        return False
    if not isinstance(middleware, type):
        return True  # a factory, which says that it makes both kinds
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


def layers(view: Any) -> Iterator[Any]:
    """`view`, and each function and class that it is made of, from the outside in, each once."""
    seen: set[int] = set()
    left = [view]
    while left and len(seen) < _MOST_LAYERS:
        layer = left.pop(0)
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            left += _within(layer)


def _within(layer: Any) -> Iterator[Any]:
    if isinstance(layer, functools.partial):
        yield layer.func
    elif inspect.ismethod(layer):
        yield layer.__func__
    elif isinstance(layer, type):
        # The methods that a class-based view handles.
        names = getattr(layer, "http_method_names", ())
        yield from (getattr(layer, name) for name in names if hasattr(layer, name))
    elif callable(layer):
        yield from _named_by(layer)
        if not inspect.isroutine(layer):  # an object that wraps a view has it as an attribute
            yield from filter(_is_code, vars(layer).values() if hasattr(layer, "__dict__") else ())
    if inspect.isfunction(layer):
        for content in enclosed(layer).values():
            yield from operations(content)
            if _is_code(content):
                yield content


def _is_code(content: Any) -> bool:
    return inspect.isroutine(content) or isinstance(content, functools.partial)


def _named_by(layer: Any) -> Iterator[Any]:
    if (wrapped := getattr(layer, "__wrapped__", None)) is not None:
        yield wrapped
    if (kind := class_of(layer)) is not None:
        yield kind
        yield from (getattr(kind, name) for name in actions_of(layer) if hasattr(kind, name))


def enclosed(function: Any) -> dict[str, Any]:
    """The variables of enclosing functions that `function` uses. (`inspect.getclosurevars` raises if one is unset.)"""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def operations(content: Any) -> list[Any]:
    """The views of a path of django-ninja, one for each of its methods. No attribute of the wrapper leads to them."""
    # Statically, because the content may be anything, and inspecting it must not run its code.
    listed = inspect.getattr_static(content, "operations", None)
    if not isinstance(listed, list | tuple):
        return []
    found = (inspect.getattr_static(one, "view_func", None) for one in listed)
    return [one for one in found if callable(one)]


def class_of(view: Any) -> type | None:
    """The class of a class-based view: of Django's, or of one of Django REST framework's."""
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    return kind if isinstance(kind, type) else None


def actions_of(view: Any) -> list[str]:
    """The methods of a viewset that a URL pattern leads to. Empty if it is not a viewset."""
    actions = getattr(view, "actions", None)
    return list(dict.fromkeys(map(str, actions.values()))) if isinstance(actions, dict) else []


def dotted(named: Any) -> str:
    """The dotted path of a function or a class, by its own attributes."""
    name = getattr(named, "__qualname__", type(named).__qualname__)
    own = getattr(named, "__name__", name)
    if isinstance(named, type) and own != name.rpartition(".")[2]:
        name = own  # a decorator has made this class from a function, and named it after that
    return f"{getattr(named, '__module__', '')}.{name}"


def names(view: Any) -> frozenset[str]:
    """Each dotted path by which `BRIDGE["ON_LOOP"]` can name the view."""
    found = {dotted(layer) for layer in layers(view) if not isinstance(layer, functools.partial)}
    return frozenset(found | set(_action_paths(view)))


def _action_paths(view: Any) -> Iterable[str]:
    kind = class_of(view)
    return (f"{dotted(kind)}.{action}" for action in actions_of(view)) if kind is not None else ()


def path_of(view: Any) -> str:
    """The dotted path of the project's own function or class behind a view, or several paths with commas."""
    if paths := list(_action_paths(view)):
        return ", ".join(paths)
    if (kind := class_of(view)) is not None:
        return dotted(kind)
    own = inspect.unwrap(view)
    if isinstance(own, functools.partial):
        return path_of(own.func)
    if inspect.isfunction(own):
        contents = enclosed(own).values()
        if found := [one for content in contents for one in operations(content)]:
            return ", ".join(dict.fromkeys(map(path_of, found)))
        inner = [content for content in contents if inspect.isfunction(content)]
        if len(inner) == 1 and own.__code__.co_flags & inspect.CO_VARARGS:
            return path_of(inner[0])  # a decorator without functools.wraps
    return dotted(own)


def own_functions(view: Any) -> Iterator[Any]:
    """The functions and methods that make up a view, without those that only wrap another one."""
    for layer in layers(view):
        if inspect.isfunction(layer) and not hasattr(layer, "__wrapped__"):
            yield layer


def patterns(
    resolver: URLResolver, before: str = "", spaces: str = "", apps: tuple[str, ...] = ()
) -> Iterator[tuple[URLPattern, str, str, tuple[str, ...]]]:
    """Each URL pattern below `resolver`, with its whole route, its name with namespaces, and its apps."""
    for pattern in resolver.url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{spaces}{pattern.namespace}:" if pattern.namespace else spaces
            yield from patterns(pattern, route, inner, (*apps, pattern.app_name or ""))
        else:
            yield pattern, route, spaces + pattern.name if pattern.name else "", apps
