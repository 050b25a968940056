"""Finds out the interface of an application, and adapts it to the other one."""

import inspect
from typing import Any, ClassVar, Literal

from bridge import _arguments
from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._types import ASGIApp, WSGIApp
from bridge._wsgi_to_asgi import WsgiToAsgi

Interface = Literal["asgi", "wsgi", "both"]

# The names of the arguments in the specifications. "env" is used by Falcon and Paste.
_SCOPE, _ENVIRON = {"scope"}, {"environ", "env"}


class TwoSided:
    """An object with both interfaces: `asgi` is an ASGI application, and `wsgi` is a WSGI application.

    `speaks` is "both", or the interface of the object itself, if it is one of the two applications.
    """

    speaks: ClassVar[Interface] = "both"
    asgi: ASGIApp
    wsgi: WSGIApp


def interface_of(app: Any) -> Interface:
    """The interface of `app`: "asgi" (version 3), "wsgi", or "both" for a `TwoSided`, such as `Mounts`.

    It is recognized by the arguments that `app` takes. `app` is not called. Raises `TypeError`, which says what was
    given, if it is not an application, or if it may be either.
    """
    if isinstance(app, TwoSided):
        return app.speaks
    asgi, wsgi = _arguments.fits(app, 3), _arguments.fits(app, 2)
    if inspect.isclass(app):
        # The instances are awaited (ASGI) or iterated over (PEP 3333, "The Application/Framework Side").
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
    """`app` as an ASGI application: `app` itself if it is one, or else in `WsgiToAsgi`.

    For `AsgiToWsgi(inner)` it returns `inner`, because two adapters would cancel out. Raises `TypeError` if `app` is
    not an application.
    """
    side = asgi_side(app)
    return WsgiToAsgi(app) if side is None else side


def as_wsgi(app: Any) -> WSGIApp:
    """`app` as a WSGI application: `app` itself if it is one, or else in `AsgiToWsgi`.

    For `WsgiToAsgi(inner)` it returns `inner`, because two adapters would cancel out. Raises `TypeError` if `app` is
    not an application.
    """
    side = wsgi_side(app)
    return AsgiToWsgi(app) if side is None else side


def asgi_side(app: Any) -> ASGIApp | None:
    """The ASGI application that `app` is or contains, or None if it has to be adapted. Raises `TypeError`."""
    if type(app) is AsgiToWsgi:
        return app.app
    side: ASGIApp | None = _side(app, "asgi")
    return side


def wsgi_side(app: Any) -> WSGIApp | None:
    """The WSGI application that `app` is or contains, or None if it has to be adapted. Raises `TypeError`."""
    if type(app) is WsgiToAsgi:
        return app.app
    side: WSGIApp | None = _side(app, "wsgi")
    return side


def _side(app: Any, wanted: Literal["asgi", "wsgi"]) -> Any:
    if isinstance(app, TwoSided):
        return app.asgi if wanted == "asgi" else app.wsgi
    return app if interface_of(app) == wanted else None


def _by_words(app: Any) -> Interface:
    """The interface of a callable that accepts both two and three arguments."""
    if _arguments.is_async(app):
        return "asgi"
    names = _arguments.parameters(app)
    if names[:1] and names[0] in _SCOPE:
        return "asgi"
    if (names[:1] and names[0] in _ENVIRON) or names[1:2] == ["start_response"]:
        return "wsgi"
    raise TypeError(
        f"this may be a WSGI or an ASGI application: {_arguments.seen(app)} takes both two and three arguments. Say"
        " which it is with WsgiToAsgi or AsgiToWsgi. Or, if a decorator made it, use functools.wraps there"
    )
