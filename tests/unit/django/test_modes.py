"""Which code needs a thread."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from django.views import View

from bridge.django import _modes, on_loop
from support import django_project, view_wrappers
from support.view_wrappers import WRAPPERS, Path, ViewSet


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
    assert _modes.is_on_loop(other, frozenset([_modes.path_of(other)]))


def test_a_sync_view_cannot_run_on_the_loop() -> None:
    """It would block it."""
    with pytest.raises(TypeError, match=r"on_loop is for async views, but .*hello is sync; make it `async def`"):
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
    with pytest.raises(TypeError, match="Sync is sync; make it `async def`"):
        on_loop(Sync)


# --- what is behind a view

PLAIN = "support.view_wrappers.plain"


async def other(request: Any) -> HttpResponse:
    return HttpResponse("other\n")


def fresh() -> Callable[..., Any]:
    """A view of its own for each test, with the name of `plain`."""

    async def plain(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("plain\n")

    plain.__qualname__, plain.__module__ = "plain", "support.view_wrappers"
    return plain


@pytest.mark.parametrize("wrapper", WRAPPERS)
class TestWrapped:
    def test_the_decorator_reaches_through(self, wrapper: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_modes, "marked", set())

        assert _modes.is_on_loop(WRAPPERS[wrapper](on_loop(fresh())), ())
        assert not _modes.is_on_loop(WRAPPERS[wrapper](fresh()), ())

    def test_the_name_reaches_through(self, wrapper: str) -> None:
        assert _modes.is_on_loop(WRAPPERS[wrapper](view_wrappers.plain), frozenset([PLAIN]))
        assert not _modes.is_on_loop(WRAPPERS[wrapper](view_wrappers.plain), frozenset([PLAIN + "er"]))

    def test_the_report_shows_the_own_function(self, wrapper: str) -> None:
        expected = "support.view_wrappers.Holder" if wrapper == "object" else PLAIN

        assert expected == _modes.path_of(WRAPPERS[wrapper](view_wrappers.plain))


class Shelf(ViewSet):
    async def list(self, request: Any) -> HttpResponse:
        return HttpResponse("list\n")

    async def retrieve(self, request: Any) -> HttpResponse:
        return HttpResponse("retrieve\n")


class Feed(View):
    async def get(self, request: Any) -> HttpResponse:
        return HttpResponse("feed\n")


def test_a_viewset_is_named_by_its_actions() -> None:
    view = Shelf.as_viewset({"get": "list", "post": "list"})

    assert f"{__name__}.Shelf.list" == _modes.path_of(view)
    assert _modes.is_on_loop(view, {f"{__name__}.Shelf.list"})
    assert _modes.is_on_loop(view, {f"{__name__}.Shelf"})
    assert not _modes.is_on_loop(view, {f"{__name__}.Shelf.retrieve"})
    both = Shelf.as_viewset({"get": "list", "put": "retrieve"})
    assert f"{__name__}.Shelf.list, {__name__}.Shelf.retrieve" == _modes.path_of(both)


def test_a_path_with_a_view_for_each_method_has_all_their_names() -> None:
    view = Path(get=view_wrappers.plain, post=other).get_view()

    assert f"{PLAIN}, {__name__}.other" == _modes.path_of(view)
    assert _modes.is_on_loop(view, {f"{__name__}.other"})


def test_a_class_based_view_has_the_name_of_its_class() -> None:
    assert f"{__name__}.Feed" == _modes.path_of(Feed.as_view())
    assert _modes.is_on_loop(Feed.as_view(), {f"{__name__}.Feed"})


def test_a_view_that_encloses_a_helper_keeps_its_own_name() -> None:
    """Only what takes whatever comes is taken for a decorator."""

    def maker(helper: Callable[[], str]) -> Callable[..., Any]:
        async def page(request: Any) -> HttpResponse:
            return HttpResponse(helper())

        return page

    assert _modes.path_of(maker(lambda: "x")).endswith(".page")


def test_odd_callables_break_nothing() -> None:
    class Slotted:
        __slots__ = ()

        def __call__(self, request: Any) -> HttpResponse:
            return HttpResponse("odd\n")

    round_about: Any = functools.partial(other)
    round_about.__wrapped__ = functools.partial(round_about)

    assert _modes.path_of(Slotted()).endswith("Slotted")
    assert not _modes.is_on_loop(Slotted(), {"a.b"})
    assert not _modes.is_on_loop(round_about.__wrapped__, {"a.b"})
    assert not _modes.is_on_loop(len, {"a.b"})
