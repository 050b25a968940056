"""What constructors refuse, and what they say about it."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge import AsgiToWsgi, WsgiToAsgi, _arguments
from support.wsgi_apps import hello

# --- applications ---


class WsgiClass:
    """A WSGI app that is a class, as in PEP 3333's own example."""

    def __init__(self, environ: Any, start_response: Any) -> None:
        pass

    def __iter__(self) -> Iterator[bytes]:
        return iter([b""])


class WsgiObject:
    """An app that is an object; its class is none."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return [b""]

    def method(self, environ: Any, start_response: Any) -> Any:
        return [b""]

    @staticmethod
    def static(environ: Any, start_response: Any) -> Any:
        return [b""]


class WithFunc(WsgiObject):
    """An app with an attribute that has the name of one of `functools.partial`."""

    async def func(self) -> None:
        pass


class AsgiObject:
    """An ASGI app that is an object."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass


class Asgi2:
    """An app of ASGI 2: two calls."""

    def __init__(self, scope: Any) -> None:
        pass

    async def __call__(self, receive: Any, send: Any) -> None:
        pass


class Config:
    """A class whose objects are apps, and which takes no argument."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return [b""]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    pass


async def async_two(environ: Any, start_response: Any) -> Any:
    return [b""]


async def async_generator(environ: Any, start_response: Any) -> Any:
    yield b""


def three(environ: Any, start_response: Any, more: Any) -> Any:
    return [b""]


def no_arguments() -> Any:
    return [b""]


def keywords_only(*, environ: Any, start_response: Any) -> Any:
    return [b""]


@pytest.mark.parametrize(
    "app",
    [
        hello,
        WsgiClass,
        WsgiObject(),
        WsgiObject().method,
        WsgiObject.static,
        WithFunc(),
        Config(),
        lambda environ, start_response: [b""],
        lambda *args: [b""],
        lambda environ, start_response=None, **more: [b""],
        functools.partial(three, more=1),
        functools.partial(functools.partial(hello)),
    ],
    ids=[
        "function",
        "class",
        "object",
        "method",
        "static method",
        "object with func",
        "configured object",
        "lambda",
        "any arguments",
        "defaults",
        "partial",
        "partial of partial",
    ],
)
def test_wsgi_apps(app: Any) -> None:
    """Whatever can be called as `app(environ, start_response)` is accepted."""
    assert WsgiToAsgi(app).app is app


@pytest.mark.parametrize(
    ("app", "seen"),
    [
        (5, "got 5, which cannot be called"),
        (None, "got None, which cannot be called"),
        ("module:app", "got 'module:app', which cannot be called"),
        (b"app", "got b'app', which cannot be called"),
        (no_arguments, "got function no_arguments()"),
        (three, "got function three, which takes the three arguments of an ASGI application"),
        (asgi_app, "got function asgi_app, which takes the three arguments of an ASGI application"),
        (AsgiObject(), "got AsgiObject, which takes the three arguments of an ASGI application"),
        (async_two, "got function async_two, which takes the two arguments of a WSGI application, but is async"),
        (functools.partial(async_two), "which is not async"),
        (async_generator, "which is not async"),
        (Asgi2, "got the class Asgi2, which takes one argument, as ASGI 2 did"),
        (keywords_only, "got function keywords_only"),
    ],
    ids=[
        "int",
        "None",
        "str",
        "bytes",
        "no arguments",
        "three arguments",
        "ASGI app",
        "ASGI object",
        "async",
        "async partial",
        "async generator",
        "ASGI 2",
        "keywords only",
    ],
)
def test_what_is_no_wsgi_app(app: Any, seen: str) -> None:
    """A `TypeError` says what was expected, and what was seen instead."""
    with pytest.raises(TypeError) as raised:
        WsgiToAsgi(app)

    assert str(raised.value).startswith("expected a WSGI application")
    assert seen in str(raised.value)


@pytest.mark.parametrize("kind", [Config, AsgiObject])
def test_a_class_in_place_of_its_object(kind: type) -> None:
    """The commonest slip is named, and nothing is said that is not so."""
    with pytest.raises(TypeError) as raised:
        WsgiToAsgi(kind)  # type: ignore[arg-type]

    assert f"the class {kind.__name__}" in str(raised.value)
    assert "takes one argument" not in str(raised.value)


@pytest.mark.parametrize(
    ("app", "seen"),
    [
        (5, "got 5, which cannot be called"),
        (None, "got None, which cannot be called"),
        (hello, "got function hello, which takes the two arguments of a WSGI application"),
        (WsgiObject(), "got WsgiObject, which takes the two arguments of a WSGI application"),
        (async_two, "which takes the two arguments of a WSGI application, but is async"),
        (no_arguments, "got function no_arguments()"),
        (Asgi2, "got the class Asgi2, which takes one argument, as ASGI 2 did"),
    ],
    ids=["int", "None", "WSGI app", "WSGI object", "async", "no arguments", "ASGI 2"],
)
def test_what_is_no_asgi_app(app: Any, seen: str) -> None:
    """The same for the other direction."""
    with pytest.raises(TypeError) as raised:
        AsgiToWsgi(app)

    assert str(raised.value).startswith("expected an ASGI 3 application")
    assert seen in str(raised.value)


def test_an_object_that_tells_no_signature() -> None:
    """What C code does not tell cannot be refused."""

    class Silent:
        __signature__ = "none"

        def __call__(self) -> None: ...

    Silent.__call__.__signature__ = "none"  # type: ignore[attr-defined]
    for app in (Silent(), max):
        with pytest.raises((TypeError, ValueError)):
            inspect.signature(app)  # type: ignore[arg-type]

        assert [0, 1, 2, 3] == [count for count in range(4) if _arguments.fits(app, count)]
        assert WsgiToAsgi(app).app is app  # type: ignore[arg-type]


def test_a_long_value_is_not_printed_in_full() -> None:
    """What was passed by mistake may be anything."""
    with pytest.raises(TypeError) as raised:
        WsgiToAsgi("x" * 10_000)  # type: ignore[arg-type]

    assert len(str(raised.value)) < 300


# --- options ---

BAD_OPTIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("threads", 0, ValueError, "threads must be 1 or more, got 0"),
    ("threads", -1, ValueError, "threads must be 1 or more, got -1"),
    ("threads", 1.5, TypeError, "threads must be an int, got 1.5"),
    ("threads", "4", TypeError, "threads must be an int, got '4'"),
    ("threads", True, TypeError, "threads must be an int, got True"),
    ("threads", None, TypeError, "threads must be an int, got None"),
    ("backlog", -1, ValueError, "backlog must be 0 or more, got -1"),
    ("backlog", 1e3, TypeError, "backlog must be an int, got 1000.0"),
    ("collect", -1, ValueError, "collect must be 0 or more, got -1"),
    ("collect", None, TypeError, "collect must be an int, got None"),
    ("max_body", -1, ValueError, "max_body must be 0 or more, got -1"),
    ("max_body", "1G", TypeError, "max_body must be an int, got '1G'"),
    ("stream_chunked", 1, TypeError, "stream_chunked must be True or False, got 1"),
    ("stream_chunked", None, TypeError, "stream_chunked must be True or False, got None"),
    ("max_repeats", 0, ValueError, "max_repeats must be 1 or more, got 0"),
    ("startup", 5, TypeError, "startup must be None or a callable that takes the state or nothing, got 5"),
    ("startup", three, TypeError, "startup must be None or a callable"),
    ("shutdown", "x", TypeError, "shutdown must be None or a callable that takes the state or nothing, got 'x'"),
    ("shutdown", hello, TypeError, "shutdown must be None or a callable"),
    ("shutdown_timeout", 0, ValueError, "shutdown_timeout must be more than 0 seconds and finite, got 0"),
    ("shutdown_timeout", -1.0, ValueError, "shutdown_timeout must be more than 0 seconds and finite, got -1.0"),
    ("shutdown_timeout", None, TypeError, "shutdown_timeout must be a number of seconds, got None"),
    ("shutdown_timeout", float("inf"), ValueError, "shutdown_timeout must be more than 0 seconds and finite, got inf"),
    ("shutdown_timeout", float("nan"), ValueError, "shutdown_timeout must be more than 0 seconds and finite, got nan"),
    ("slow_warning", 0, ValueError, "slow_warning must be more than 0 seconds and finite, got 0"),
    ("slow_warning", "1", TypeError, "slow_warning must be a number of seconds, got '1'"),
    ("slow_warning", True, TypeError, "slow_warning must be a number of seconds, got True"),
]


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"), BAD_OPTIONS, ids=[f"{name}-{at}" for at, (name, *_) in enumerate(BAD_OPTIONS)]
)
def test_bad_options(name: str, value: Any, kind: type[Exception], text: str) -> None:
    """A bad option raises at construction, and says its name, its range and what was given."""
    with pytest.raises(kind) as raised:
        WsgiToAsgi(hello, **{name: value})

    assert text in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 1, "backlog": 0, "collect": 0, "max_body": 0, "max_repeats": 1},
        {"max_body": None, "slow_warning": None, "startup": None, "shutdown": None},
        {"shutdown_timeout": 1, "slow_warning": 0.001, "stream_chunked": True},
        {"startup": lambda: None, "shutdown": lambda state: None},
    ],
    ids=["least", "none", "seconds", "hooks"],
)
def test_options_at_their_limits(options: dict[str, Any]) -> None:
    """The ends of each range belong to it."""
    assert WsgiToAsgi(hello, **options).stats().alive == 0


def test_options_are_keywords() -> None:
    """An option without its name would say nothing to the reader."""
    with pytest.raises(TypeError):
        WsgiToAsgi(hello, 40)  # type: ignore[misc]
    with pytest.raises(TypeError, match="thread_count"):
        WsgiToAsgi(hello, thread_count=40)  # type: ignore[call-arg]


def test_a_choice() -> None:
    """One of several words, and the message has them all."""
    _arguments.choice("lifespan", "auto", ("auto", "on", "off"))
    with pytest.raises(ValueError, match="lifespan must be one of 'auto', 'on', 'off', got 'maybe'"):
        _arguments.choice("lifespan", "maybe", ("auto", "on", "off"))


def test_a_factory() -> None:
    """None, or what can be called with nothing."""
    for good in (None, dict, lambda: None):
        _arguments.factory("loop_factory", good)
    for bad in (5, lambda loop: None):
        with pytest.raises(TypeError, match="loop_factory must be None or a callable that takes nothing"):
            _arguments.factory("loop_factory", bad)


# --- hooks ---


@pytest.mark.parametrize(
    ("hook", "takes"),
    [
        (lambda: None, False),
        (lambda state: None, True),
        (functools.partial(lambda config, state: None, 1), True),
        (functools.partial(lambda config: None, 1), False),
        (lambda *, verbose=False: None, False),
    ],
    ids=["nothing", "state", "partial with state", "partial", "option"],
)
def test_whether_a_hook_takes_the_state(hook: Callable[..., Any], takes: bool) -> None:
    """It is given the state where it has to have an argument."""
    assert _arguments.takes_argument(hook) is takes
