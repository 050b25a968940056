"""Which interface an application speaks, and how to have it speak the other one."""

import inspect
from typing import Any, ClassVar, Literal

from bridge import _arguments
from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._types import ASGIApp, WSGIApp
from bridge._wsgi_to_asgi import WsgiToAsgi

Interface = Literal["asgi", "wsgi", "both"]

# How the specifications call what an application is called with; "env" is Falcon's word, and Paste's.
_SCOPE, _ENVIRON = {"scope"}, {"environ", "env"}


class TwoSided:
    """What speaks both interfaces by itself: `asgi` is an ASGI application, `wsgi` a WSGI application.

    `speaks` is "both", or the interface of an object that is itself one of the two.
    """

    speaks: ClassVar[Interface] = "both"
    asgi: ASGIApp
    wsgi: WSGIApp


def interface_of(app: Any) -> Interface:
    """The interface that `app` speaks: "asgi" (version 3), "wsgi", or "both" for a `TwoSided`, such as `Mounts`.

    It is told by the arguments that `app` takes, without calling it. Raises `TypeError`, with what was seen, where
    that is neither or may be either.
    """
    if isinstance(app, TwoSided):
        return app.speaks
    asgi, wsgi = _arguments.fits(app, 3), _arguments.fits(app, 2)
    if inspect.isclass(app):
        # The instances are what is awaited (ASGI) or iterated over (PEP 3333, "The Application/Framework Side").
        asgi = asgi and hasattr(app, "__await__")
        wsgi = wsgi and (hasattr(app, "__iter__") or hasattr(app, "__getitem__"))
    if asgi and wsgi:
        return _by_words(app)
    if asgi:
        return "asgi"
    if wsgi and not _arguments.is_async(app):
        return "wsgi"
    raise TypeError(
        "expected an application, either WSGI, app(environ, start_response), or ASGI 3, async app(scope, receive,"
        f" send), got {_arguments.seen(app)}"
    )


def as_asgi(app: Any) -> ASGIApp:
    """`app` as an ASGI application: itself where it is one, within `WsgiToAsgi` where it is not.

    `AsgiToWsgi(inner)` gives `inner`: two adapters that would cancel out are none. Raises `TypeError` for what is
    neither.
    """
    side = asgi_side(app)
    return WsgiToAsgi(app) if side is None else side


def as_wsgi(app: Any) -> WSGIApp:
    """`app` as a WSGI application: itself where it is one, within `AsgiToWsgi` where it is not.

    `WsgiToAsgi(inner)` gives `inner`: two adapters that would cancel out are none. Raises `TypeError` for what is
    neither.
    """
    side = wsgi_side(app)
    return AsgiToWsgi(app) if side is None else side


def asgi_side(app: Any) -> ASGIApp | None:
    """The ASGI application that `app` is or holds, or None where it has to be adapted; raises `TypeError`."""
    if type(app) is AsgiToWsgi:
        return app.app
    side: ASGIApp | None = _side(app, "asgi")
    return side


def wsgi_side(app: Any) -> WSGIApp | None:
    """The WSGI application that `app` is or holds, or None where it has to be adapted; raises `TypeError`."""
    if type(app) is WsgiToAsgi:
        return app.app
    side: WSGIApp | None = _side(app, "wsgi")
    return side


def _side(app: Any, wanted: Literal["asgi", "wsgi"]) -> Any:
    if isinstance(app, TwoSided):
        return app.asgi if wanted == "asgi" else app.wsgi
    return app if interface_of(app) == wanted else None


def _by_words(app: Any) -> Interface:
    """The interface of what can be called with two arguments and with three."""
    if _arguments.is_async(app):
        return "asgi"
    names = _arguments.parameters(app)
    if names[:1] and names[0] in _SCOPE:
        return "asgi"
    if (names[:1] and names[0] in _ENVIRON) or names[1:2] == ["start_response"]:
        return "wsgi"
    raise TypeError(
        f"this may be a WSGI or an ASGI application: {_arguments.seen(app)} takes two arguments and three. Say which"
        " with WsgiToAsgi or AsgiToWsgi; or where it is made by a decorator, use functools.wraps there"
    )
