"""The kind of a stream, as far as the source of a view shows it."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from django import http
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.views import View

from bridge.django._report import streams


async def ticks() -> AsyncIterator[bytes]:
    yield b"tick"


def lines() -> Iterator[bytes]:
    yield b"line"


class Parts:
    @staticmethod
    def known() -> Iterator[bytes]:
        yield b"part"


def decorated(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def wrapper(request: Any) -> Any:
        return view(request)

    return wrapper


def of_async_generator(request: Any) -> Any:
    return StreamingHttpResponse(ticks())


def by_keyword(request: Any) -> Any:
    return http.StreamingHttpResponse(content_type="text/plain", streaming_content=lines())


def of_expression(request: Any) -> Any:
    return StreamingHttpResponse(str(number) for number in range(3))


def of_async_expression(request: Any) -> Any:
    return StreamingHttpResponse(tick async for tick in ticks())


def of_list(request: Any) -> Any:
    return StreamingHttpResponse([b"a", b"b"])


def of_own_generator(request: Any) -> Any:
    async def events() -> AsyncIterator[bytes]:
        yield request.body

    return StreamingHttpResponse(events())


def of_own_delegating_generator(request: Any) -> Any:
    def delegating() -> Iterator[bytes]:
        yield from lines()

    return StreamingHttpResponse(delegating())


def of_either(request: Any) -> Any:
    if request.GET:
        return StreamingHttpResponse(ticks())
    return StreamingHttpResponse(lines())


def a_file(request: Any) -> Any:
    return FileResponse(open(__file__, "rb"))


@decorated
def with_a_decorator(request: Any) -> Any:
    return StreamingHttpResponse(ticks())


class Feed(View):
    async def get(self, request: Any) -> Any:
        return StreamingHttpResponse(ticks())


def none_at_all(request: Any) -> Any:
    return HttpResponse(lines())


def of_somebody(request: Any) -> Any:
    return StreamingHttpResponse(request.parts)


def of_a_method(request: Any) -> Any:
    return StreamingHttpResponse(request.parts())


def of_a_function_that_only_contains_one(request: Any) -> Any:
    def makes_one() -> Any:
        def inner() -> Iterator[bytes]:
            yield b"of another"

        return inner

    return StreamingHttpResponse(makes_one())


def of_unknown_class(request: Any) -> Any:
    return request.Response(lines())


def _maker() -> Any:
    def in_a_function(request: Any) -> Any:
        if request.GET:
            return StreamingHttpResponse(later())
        return StreamingHttpResponse(given())

    given = ticks
    if not given:
        later: Any = lines
    return in_a_function


in_a_function = _maker()


class Foreign:
    """What a framework of its own may call the class of a view."""


def of_a_foreign_class(request: Any) -> Any:
    return StreamingHttpResponse(ticks())


of_a_foreign_class.view_class = Foreign  # type: ignore[attr-defined]

EXPECTED = {
    in_a_function: {"async"},
    of_a_foreign_class: {"async"},
    of_async_generator: {"async"},
    by_keyword: {"sync"},
    of_expression: {"sync"},
    of_async_expression: {"async"},
    of_list: {"sync"},
    of_own_generator: {"async"},
    of_own_delegating_generator: {"sync"},
    of_either: {"sync", "async"},
    a_file: {"sync"},
    with_a_decorator: {"async"},
    Feed.as_view(): {"async"},
    none_at_all: set(),
    of_somebody: set(),
    of_a_method: set(),
    of_a_function_that_only_contains_one: set(),
    of_unknown_class: set(),
}


class TestStreams:
    @pytest.mark.parametrize("view", list(EXPECTED), ids=lambda view: view.__name__)
    def test_what_the_source_shows(self, view: Callable[..., Any]) -> None:
        """And nothing where it does not."""
        assert streams.streams(view) == EXPECTED[view]

    def test_without_a_source(self) -> None:
        """A function made by exec(), a built-in one, an object."""
        made: dict[str, Any] = {}
        exec("def view(request): return StreamingHttpResponse(lines())", made)
        assert [streams.streams(view) for view in (made["view"], print, Parts())] == [set(), set(), set()]  # type: ignore[arg-type]
