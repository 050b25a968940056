"""Streams of either kind, on servers of either kind."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import override_settings
from django.urls import path

from bridge.django import on_loop
from support import django_project
from support.django_clients import Asgi, Wsgi
from support.waiting import until

BOTH = pytest.mark.parametrize("prefix", ["", "async_"])

pytestmark = pytest.mark.usefixtures("bridged")


class OwnKind(HttpResponseBase):
    """A stream that is no `StreamingHttpResponse`: Django's WSGI handler iterates over whatever it gets."""

    streaming = True

    def __iter__(self) -> Iterator[bytes]:
        yield from (b"one\n", b"two\n")


class OwnIterator(HttpResponseBase):
    """Its own iterator, whose `close` ends the request."""

    streaming = True

    def __init__(self) -> None:
        super().__init__()
        self._left = [b"two\n", b"one\n"]

    def __iter__(self) -> Iterator[bytes]:
        return self  # type: ignore[return-value]  # the class says it by its methods

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        return self._left.pop()

    def close(self) -> None:
        django_project.events.append(("response closed", None))
        super().close()


class OwnEndlessKind(HttpResponseBase):
    """Its parts end on the loop, or in a thread."""

    streaming = True

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                yield b"part\n"
        finally:
            with suppress(RuntimeError):
                asyncio.get_running_loop()
                django_project.events.append(("closed on the loop", None))
            django_project.events.append(("closed", None))


class OwnAsyncKind(HttpResponseBase):
    """The same for Django's ASGI handler."""

    streaming = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            yield b"one\n"
            yield b"two\n"
        finally:
            django_project.events.append(("closed", None))


class SaysThatItIsAsync(OwnAsyncKind):
    is_async = True


class InBrackets(StreamingHttpResponse):
    """Django's ASGI handler iterates over the response, and not over its `streaming_content`."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self.streaming_content:
            yield b"[%s]" % part


async def own_iterator(_request: HttpRequest) -> OwnIterator:
    return OwnIterator()


async def own_endless_kind(_request: HttpRequest) -> OwnEndlessKind:
    return OwnEndlessKind()


async def own_async_kind(_request: HttpRequest) -> OwnAsyncKind:
    return OwnAsyncKind()


@on_loop
async def says_that_it_is_async(_request: HttpRequest) -> OwnAsyncKind:
    return SaysThatItIsAsync()


async def in_brackets(_request: HttpRequest) -> InBrackets:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    return InBrackets(parts())


async def async_own_kind(_request: HttpRequest) -> OwnKind:
    return OwnKind()


@on_loop
async def own_kind_on_loop(_request: HttpRequest) -> OwnKind:
    return OwnKind()


class InParentheses(StreamingHttpResponse):
    """The same for Django's WSGI handler."""

    def __iter__(self) -> Iterator[bytes]:
        for part in self.streaming_content:
            yield b"(%s)" % part


class InBoth(InBrackets, InParentheses):
    """For both of them."""


def in_parentheses(_request: HttpRequest) -> InParentheses:
    return InParentheses(iter([b"one", b"two"]))


async def async_in_both(request: HttpRequest) -> InBoth:
    return InBoth((await in_brackets(request))._iterator)


def in_both(_request: HttpRequest) -> InBoth:
    return InBoth(iter([b"one", b"two"]))


OWN_WAYS = ["in_brackets", "in_parentheses", "in_both", "async_in_both"]
urlpatterns = [
    path("in_parentheses", in_parentheses),
    path("in_both", in_both),
    path("async_in_both", async_in_both),
    path("own_kind", lambda _request: OwnKind()),
    path("async_own_kind", async_own_kind),
    path("own_kind_on_loop", own_kind_on_loop),
    path("own_iterator", own_iterator),
    path("own_iterator_on_loop", on_loop(own_iterator)),
    path("own_endless_kind", own_endless_kind),
    path("own_endless_kind_on_loop", on_loop(own_endless_kind)),
    path("own_async_kind", own_async_kind),
    path("says_that_it_is_async", says_that_it_is_async),
    path("in_brackets", in_brackets),
]


class TestStreams:
    @BOTH
    def test_parts_come_one_by_one(self, face: Asgi | Wsgi, prefix: str) -> None:
        """From an iterator of either kind, which is closed when the client leaves."""
        with face.open(f"/{prefix}endless") as opened:
            assert opened.next()
            opened.leave()
            until(lambda: "closed" in dict(django_project.events))

    @BOTH
    def test_whole_streams(self, face: Asgi | Wsgi, prefix: str) -> None:
        """Nothing is lost, and Django warns of nothing."""
        assert b"".join(b"%d\n" % number for number in range(300)) == face.ask(f"/{prefix}stream?parts=300").body

    @BOTH
    def test_files(self, face: Asgi | Wsgi, prefix: str) -> None:
        """A `FileResponse` is not read into memory first."""
        with open(django_project.__file__, "rb") as source:
            assert source.read() == face.ask(f"/{prefix}file").body

    @pytest.mark.parametrize("view", ["own_kind", "async_own_kind", "own_kind_on_loop"])
    @pytest.mark.parametrize("face", ["django wsgi", "WsgiToAsgi", "bridge wsgi", "bridge asgi"], indirect=True)
    def test_responses_of_a_projects_own_kind(self, face: Asgi | Wsgi, view: str) -> None:
        """They stream, as with Django's own handler."""
        with override_settings(ROOT_URLCONF=__name__):
            assert b"one\ntwo\n" == face.ask(f"/{view}").body

    @pytest.mark.parametrize("view", ["own_iterator", "own_iterator_on_loop"])
    @pytest.mark.parametrize("face", ["django wsgi", "bridge wsgi", "bridge asgi"], indirect=True)
    def test_responses_that_are_iterators(self, face: Asgi | Wsgi, view: str) -> None:
        """They are closed once, like any other."""
        with override_settings(ROOT_URLCONF=__name__):
            assert b"one\ntwo\n" == face.ask(f"/{view}").body
            until(lambda: ("response closed", None) in django_project.events)
            face.ask("/own_kind")
        assert django_project.events.count(("response closed", None)) == 1

    @pytest.mark.parametrize("view", ["own_endless_kind", "own_endless_kind_on_loop"])
    @pytest.mark.parametrize("face", ["bridge asgi"], indirect=True)
    def test_the_end_of_a_response_of_a_projects_own_kind(self, face: Asgi | Wsgi, view: str) -> None:
        """Sync code does not run on the loop when the client has left."""
        with override_settings(ROOT_URLCONF=__name__), face.open(f"/{view}") as opened:
            assert opened.next()
            opened.leave()
            until(lambda: "closed" in dict(django_project.events))
        assert "closed on the loop" not in dict(django_project.events)

    @pytest.mark.parametrize("view", ["own_async_kind", "says_that_it_is_async", "in_brackets"])
    @pytest.mark.parametrize("face", ["django asgi", "bridge wsgi", "bridge asgi"], indirect=True)
    def test_async_responses_of_a_projects_own_kind(self, face: Asgi | Wsgi, view: str) -> None:
        with override_settings(ROOT_URLCONF=__name__):
            body = face.ask(f"/{view}").body
        if view == "in_brackets":
            assert b"[one][two]" == body
        else:
            assert b"one\ntwo\n" == body
            until(lambda: "closed" in dict(django_project.events))

    @pytest.mark.parametrize("face", ["django asgi", "django wsgi", "WsgiToAsgi"], indirect=True)
    def test_own_ways_to_iterate_with_djangos_handlers(self, face: Asgi | Wsgi, request: pytest.FixtureRequest) -> None:
        """`BridgeMiddleware` replaces the content that the handler gives to them, and not what they make of it."""
        with override_settings(ROOT_URLCONF=__name__):
            bodies = {view: face.ask(f"/{view}").body for view in OWN_WAYS}
        for view, body in bodies.items():  # parts that have piled up come as one
            bodies[view] = body.replace(b"][", b"").replace(b")(", b"")
        plain, brackets, parentheses = b"onetwo", b"[onetwo]", b"(onetwo)"
        if request.node.callspec.params["face"] == "django asgi":
            expected = [brackets, plain, brackets, brackets]
        else:
            expected = [plain, parentheses, parentheses, parentheses]
        assert dict(zip(OWN_WAYS, expected, strict=True)) == bodies
