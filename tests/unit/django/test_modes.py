"""Which code needs a thread."""

from typing import Any

import pytest
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from django.views import View

from bridge.django import _modes, _views, on_loop
from support import django_project


class Hooks(MiddlewareMixin):
    def process_request(self, request: Any) -> None: ...


class Native(MiddlewareMixin):
    async def __acall__(self, request: Any) -> Any:
        return await self.get_response(request)

    def process_request(self, request: Any) -> None: ...


class SyncView:
    sync_capable = async_capable = True

    def process_view(self, *arguments: Any) -> None: ...


class AsyncView:
    sync_capable = async_capable = True

    async def process_view(self, *arguments: Any) -> None: ...


@sync_and_async_middleware
def both(get_response: Any) -> Any:
    return get_response


def sync_only(get_response: Any) -> Any:
    return get_response


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("Hooks", False),
        ("Native", True),
        ("SyncView", False),
        ("AsyncView", True),
        ("both", True),
        ("sync_only", False),
    ],
)
def test_native_middleware(name: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Async-capable, and without a hook that Django runs in a thread all the same."""
    monkeypatch.setattr(django_project, name, globals()[name], raising=False)

    assert native is _modes.is_native(f"support.django_project.{name}")


def test_all_of_startproject_needs_threads_but_bridge_does_not() -> None:
    """Its middleware has sync hooks."""
    assert not any(map(_modes.is_native, django_project.MIDDLEWARE))
    assert _modes.is_native("bridge.django.BridgeMiddleware")


def test_a_marked_view() -> None:
    """By the decorator, or by its name."""

    async def view(request: Any) -> None: ...

    async def other(request: Any) -> None: ...

    assert on_loop(view) is view
    assert _modes.is_on_loop(view, frozenset())
    assert not _modes.is_on_loop(other, frozenset())
    assert _modes.is_on_loop(other, frozenset([_views.path_of(other)]))


def test_a_sync_view_cannot_run_on_the_loop() -> None:
    """It would block it."""
    with pytest.raises(TypeError, match=r"on_loop is for async views, and .*hello is not; make it `async def`"):
        on_loop(django_project.hello)


def test_a_class_and_a_method_can_be_marked() -> None:
    """All of the view is then on the loop; a class whose methods are sync cannot be."""

    @on_loop
    class Feed(View):
        async def get(self, request: Any) -> None: ...

    class Other(View):
        @on_loop
        async def get(self, request: Any) -> None: ...

        async def post(self, request: Any) -> None: ...

    class Sync(View):
        def get(self, request: Any) -> None: ...

    assert _modes.is_on_loop(Feed.as_view(), ())
    assert _modes.is_on_loop(Other.as_view(), ())
    assert not _modes.is_on_loop(Sync.as_view(), ())
    with pytest.raises(TypeError, match="Sync is not; make it `async def`"):
        on_loop(Sync)
