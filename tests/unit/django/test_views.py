"""What is found behind a view, whatever has been put around it."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.views import View

from bridge.django import _modes, _views, on_loop
from support import (
    django_project,  # noqa: F401  # sets Django up
    view_wrappers,
)
from support.view_wrappers import WRAPPERS, Path, ViewSet

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

        assert expected == _views.path_of(WRAPPERS[wrapper](view_wrappers.plain))


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

    assert f"{__name__}.Shelf.list" == _views.path_of(view)
    assert _modes.is_on_loop(view, {f"{__name__}.Shelf.list"})
    assert _modes.is_on_loop(view, {f"{__name__}.Shelf"})
    assert not _modes.is_on_loop(view, {f"{__name__}.Shelf.retrieve"})
    both = Shelf.as_viewset({"get": "list", "put": "retrieve"})
    assert f"{__name__}.Shelf.list, {__name__}.Shelf.retrieve" == _views.path_of(both)


def test_a_path_with_a_view_for_each_method_has_all_their_names() -> None:
    view = Path(get=view_wrappers.plain, post=other).get_view()

    assert f"{PLAIN}, {__name__}.other" == _views.path_of(view)
    assert _modes.is_on_loop(view, {f"{__name__}.other"})


def test_a_class_based_view_has_the_name_of_its_class() -> None:
    assert f"{__name__}.Feed" == _views.path_of(Feed.as_view())
    assert _modes.is_on_loop(Feed.as_view(), {f"{__name__}.Feed"})


def test_a_view_that_encloses_a_helper_keeps_its_own_name() -> None:
    """Only what takes whatever comes is taken for a decorator."""

    def maker(helper: Callable[[], str]) -> Callable[..., Any]:
        async def page(request: Any) -> HttpResponse:
            return HttpResponse(helper())

        return page

    assert _views.path_of(maker(lambda: "x")).endswith(".page")


def test_odd_callables_break_nothing() -> None:
    class Slotted:
        __slots__ = ()

        def __call__(self, request: Any) -> HttpResponse:
            return HttpResponse("odd\n")

    round_about: Any = functools.partial(other)
    round_about.__wrapped__ = functools.partial(round_about)

    assert _views.path_of(Slotted()).endswith("Slotted")
    assert not _modes.is_on_loop(Slotted(), {"a.b"})
    assert not _modes.is_on_loop(round_about.__wrapped__, {"a.b"})
    assert not _modes.is_on_loop(len, {"a.b"})
