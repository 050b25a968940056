"""Views as decorators and frameworks wrap them: `Path`, `as_viewset` and `api_view` do it as django-ninja and Django
REST framework do, which `make test-hosts` has themselves (tests/hosts/test_django_frameworks.py).
"""

import functools
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.http import HttpResponse
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt


async def plain(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
    return HttpResponse("plain\n")


def with_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    async def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
        return await view(request, *args, **kwargs)

    return wrapper


def without_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await view(*args, **kwargs)

    return wrapper


def made_sync(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return async_to_sync(view)(*args, **kwargs)

    return wrapper


class Holder:
    """A callable object in place of a view."""

    def __init__(self, view: Callable[..., Any]) -> None:
        self.view = view
        if iscoroutinefunction(view):
            markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        return await self.view(request)


class Operation:
    def __init__(self, method: str, view: Callable[..., Any]) -> None:
        self.method = method
        self.view_func = view


class Path:
    """One path of an API, with a view for each method."""

    def __init__(self, **views: Callable[..., Any]) -> None:
        self.operations = [Operation(method, view) for method, view in views.items()]

    async def _answer(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        view = next(one.view_func for one in self.operations if one.method == request.method.lower())
        return await view(request, *args, **kwargs)

    def get_view(self) -> Callable[..., Any]:
        async def async_view_wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await self._answer(request, *args, **kwargs)

        async_view_wrapper.csrf_exempt = True  # type: ignore[attr-defined]
        return async_view_wrapper


class ViewSet(View):
    @classmethod
    def as_viewset(cls, actions: dict[str, str]) -> Any:
        async def view(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await getattr(cls(), actions[request.method.lower()])(request, *args, **kwargs)

        functools.update_wrapper(view, cls, updated=())
        made: Any = view
        made.cls, made.actions = cls, actions
        return csrf_exempt(view)


def api_view(function: Callable[..., Any]) -> Any:
    """A class that is named after the function."""

    async def handler(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    kind: Any = type("WrappedView", (View,), {"get": handler})
    kind.__name__, kind.__module__ = function.__name__, function.__module__
    return kind.as_view()


WRAPPERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "itself": lambda view: view,
    "with_wraps": with_wraps,
    "without_wraps": without_wraps,
    "partial": lambda view: functools.partial(view, colour="red"),
    "of_django": lambda view: never_cache(csrf_exempt(view)),
    "twice": lambda view: with_wraps(without_wraps(view)),
    "object": Holder,
    "as_ninja": lambda view: csrf_exempt(Path(get=view).get_view()),
    "as_api_view": api_view,
}
