"""`interface_of`, `as_asgi`, `as_wsgi`: by tables of callables, and with each framework's own app."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.gzip import GZipMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi, as_asgi, as_wsgi, interface_of
from support import frameworks


def wsgi(environ: Any, start_response: Any) -> Any:
    return []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    pass


def asgi_by_hand(scope: Any, receive: Any, send: Any) -> Any:
    return asgi(scope, receive, send)


def wsgi_with_an_option(environ: Any, start_response: Any, debug: bool = False) -> Any:
    return []


def wsgi_of_falcon(env: Any, start_response: Any, *more: Any) -> Any:
    return []


def asgi_with_defaults(scope: Any, receive: Any = None, send: Any = None) -> Any:
    return asgi(scope, receive, send)


def with_an_option_before(debug: bool, environ: Any, start_response: Any) -> Any:
    return []


def wrapped(app: Any) -> Any:
    @functools.wraps(app)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return app(*args, **kwargs)

    return decorated


def wrapped_async(*args: Any, **kwargs: Any) -> Any:
    return asgi(*args, **kwargs)


async def really_async(*args: Any) -> None:
    await asgi(*args)


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> Any:
        return []

    def method(self, environ: Any, start_response: Any) -> Any:
        return []

    @classmethod
    def of_class(cls, environ: Any, start_response: Any) -> Any:
        return []

    @staticmethod
    async def static(scope: Any, receive: Any, send: Any) -> None:
        pass


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        pass


class SlotsItsCall:
    """An object whose `__call__` is a slot that is set on it, as Sentry's ASGI middleware has it."""

    __slots__ = ("__call__",)

    def __init__(self, call: Any) -> None:
        self.__call__ = call


class ReadsItsCall:
    """Its class has a `__call__` that looks it up."""

    @property
    def __call__(self) -> Any:
        return self.method

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        pass


@functools.wraps(wsgi)
async def asgi_that_wraps_wsgi(scope: Any, receive: Any, send: Any) -> None:
    pass


@functools.wraps(asgi)
def wsgi_that_wraps_asgi(environ: Any, start_response: Any) -> Any:
    return []


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None:
        pass

    def __iter__(self) -> Iterator[bytes]:
        return iter([])


class WsgiMiddleware:
    def __init__(self, app: Any, option: int = 0) -> None:
        pass

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return []


class Asgi2:
    def __init__(self, scope: Any) -> None:
        pass

    async def __call__(self, receive: Any, send: Any) -> None:
        pass


def asgi2(scope: Any) -> Any:
    async def run(receive: Any, send: Any) -> None:
        pass

    return run


async def async_of_two(receive: Any, send: Any) -> None:
    pass


SPEAKS_WSGI = {
    "function": wsgi,
    "lambda": lambda environ, start_response: [],
    "object": WsgiObject(),
    "bound method": WsgiObject().method,
    "class method": WsgiObject.of_class,
    "class": WsgiClass,
    "partial": functools.partial(with_an_option_before, True),
    "partial of an object": functools.partial(WsgiObject()),
    "wrapped": wrapped(wsgi),
    "wraps an app of the other kind": wsgi_that_wraps_asgi,
    "its call is a slot": SlotsItsCall(wsgi),
    "more arguments, with defaults": wsgi_with_an_option,
    "any number of arguments, by their names": wsgi_of_falcon,
    "middleware": ProxyFix(wsgi),
    "adapter": AsgiToWsgi(asgi),
    "Django": WSGIHandler.__new__(WSGIHandler),
}
SPEAKS_ASGI = {
    "function": asgi,
    "function that returns what is awaited": asgi_by_hand,
    "object": AsgiObject(),
    "bound method": AsgiObject().method,
    "static method": WsgiObject.static,
    "class": HTTPEndpoint,
    "partial": functools.partial(asgi),
    "wrapped": wrapped(asgi),
    "wraps an app of the other kind": asgi_that_wraps_wsgi,
    "its call is a slot": SlotsItsCall(asgi),
    "its call is looked up": ReadsItsCall(),
    "async, with any arguments": really_async,
    "defaults, by their names": asgi_with_defaults,
    "marked as a coroutine function": markcoroutinefunction(lambda *args: asgi(*args)),
    "middleware": GZipMiddleware(asgi),
    "adapter": WsgiToAsgi(wsgi),
    "Django": ASGIHandler.__new__(ASGIHandler),
}
NEITHER = {
    "None": (None, "None, which cannot be called"),
    "a module's name": ("app", "'app', which cannot be called"),
    "too few arguments": (lambda: None, "lambda"),
    "too many": (lambda a, b, c, d: None, "lambda"),
    "async function of two": (async_of_two, "two arguments of a WSGI application, but is async"),
    "ASGI 2 class": (Asgi2, "one argument, as ASGI 2 did (asgiref.compatibility adapts that)"),
    "ASGI 2 function": (asgi2, "one argument, as ASGI 2 did (asgiref.compatibility adapts that)"),
    "class of ASGI apps": (AsgiObject, "did you mean an instance of it?"),
    "class of WSGI apps": (WsgiObject, "did you mean an instance of it?"),
    "class of middleware": (WsgiMiddleware, "did you mean an instance of it?"),
    "class of ASGI middleware": (GZipMiddleware, "did you mean an instance of it?"),
}


class TestInterfaceOf:
    @pytest.mark.parametrize("kind", SPEAKS_WSGI)
    def test_wsgi(self, kind: str) -> None:
        assert "wsgi" == interface_of(SPEAKS_WSGI[kind])

    @pytest.mark.parametrize("kind", SPEAKS_ASGI)
    def test_asgi(self, kind: str) -> None:
        assert "asgi" == interface_of(SPEAKS_ASGI[kind])

    @pytest.mark.parametrize("name", frameworks.WSGI)
    def test_frameworks_of_wsgi(self, name: str) -> None:
        assert "wsgi" == interface_of(frameworks.MAKE[name]())

    @pytest.mark.parametrize("name", frameworks.ASGI)
    def test_frameworks_of_asgi(self, name: str) -> None:
        assert "asgi" == interface_of(frameworks.MAKE[name]())

    def test_mounts_speak_both_and_each_side_one(self) -> None:
        site = Mounts({"/": wsgi})

        assert ["both", "asgi", "wsgi"] == [interface_of(app) for app in (site, site.asgi, site.wsgi)]

    @pytest.mark.parametrize("kind", NEITHER)
    @pytest.mark.parametrize("function", [interface_of, as_asgi, as_wsgi])
    def test_what_is_neither_is_named(self, kind: str, function: Any) -> None:
        app, seen = NEITHER[kind]

        with pytest.raises(TypeError, match="expected an application, either WSGI") as raised:
            function(app)

        assert seen in str(raised.value)

    @pytest.mark.parametrize("app", [wrapped_async, lambda a, b, c=None: None])
    def test_what_may_be_either_is_refused(self, app: Any) -> None:
        """Whoever guesses wrong here has an app that fails at its first request."""
        with pytest.raises(TypeError, match=r"may be a WSGI or an ASGI application.*functools.wraps"):
            interface_of(app)

    def test_nothing_is_called(self) -> None:
        """An app has side effects."""

        def app(environ: Any, start_response: Any) -> Any:
            raise AssertionError("called")

        assert "wsgi" == interface_of(app)
        as_asgi(app)


class TestAdapting:
    @pytest.mark.parametrize("kind", [kind for kind in SPEAKS_ASGI if kind != "adapter"])
    def test_an_asgi_app_is_itself_or_adapted(self, kind: str) -> None:
        app = SPEAKS_ASGI[kind]
        adapter = as_wsgi(app)

        assert as_asgi(app) is app
        assert isinstance(adapter, AsgiToWsgi)
        assert adapter.app is app

    @pytest.mark.parametrize("kind", [kind for kind in SPEAKS_WSGI if kind != "adapter"])
    def test_a_wsgi_app_is_itself_or_adapted(self, kind: str) -> None:
        app = SPEAKS_WSGI[kind]
        adapter = as_asgi(app)

        assert as_wsgi(app) is app
        assert isinstance(adapter, WsgiToAsgi)
        assert adapter.app is app

    def test_our_own_adapter_comes_off(self) -> None:
        """Two that would cancel out are none."""
        assert as_wsgi(WsgiToAsgi(wsgi)) is wsgi
        assert as_asgi(AsgiToWsgi(asgi)) is asgi

    def test_our_own_adapter_stays_where_it_is_needed(self) -> None:
        one, other = WsgiToAsgi(wsgi), AsgiToWsgi(asgi)

        assert as_asgi(one) is one
        assert as_wsgi(other) is other

    def test_only_the_outer_layer_comes_off(self) -> None:
        inner = WsgiToAsgi(wsgi)

        assert as_asgi(AsgiToWsgi(inner)) is inner

    def test_an_adapter_that_does_more_stays(self) -> None:
        """A subclass has its reasons."""

        class Counting(WsgiToAsgi):
            pass

        assert isinstance(as_wsgi(Counting(wsgi)), AsgiToWsgi)

    def test_each_side_of_mounts_leads_to_the_other(self) -> None:
        site = Mounts({"/": wsgi})

        for app in (site, site.asgi, site.wsgi):
            assert (as_asgi(app), as_wsgi(app)) == (site.asgi, site.wsgi)
