"""`Mounts`: applications of either style under path prefixes, for servers of either kind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from bridge._asgi_to_wsgi import AsgiToWsgi
from bridge._translate.events_to_response import text_response
from bridge._translate.response_to_events import text_events
from bridge._translate.urls import native_path, split_path
from bridge._types import ASGIApp, Environ, Receive, Scope, Send, StartResponse, WSGIApp
from bridge._wsgi_to_asgi import WsgiToAsgi
from bridge.errors import ServerProtocolError
from bridge.interfaces import Interface, TwoSided, asgi_side, interface_of, wsgi_side
from bridge.mounts._lifespans import MountedLifespans
from bridge.mounts._prefixes import Prefixes, checked

_NOT_FOUND = "nothing is mounted here"
# The key in a scope or environ that names the mount, on the way through one of our adapters.
_MOUNT = "bridge.mount"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: `prefix` ("" for the root), the application and its interface, and the sides that need no adapter.

    A side that is None needs an adapter. `native_prefix` is the prefix as PEP 3333 writes it.
    """

    prefix: str
    native_prefix: str
    app: Any
    interface: Interface
    asgi: ASGIApp | None
    wsgi: WSGIApp | None

    def __str__(self) -> str:
        return f"the app mounted at {self.prefix or '/'!r}"


class Mounts(TwoSided):
    """Applications of either style under path prefixes: `.asgi` is an ASGI application, `.wsgi` a WSGI application.

    `mounts` maps a prefix ("/api", or "/" for all other paths) to an application. The longest prefix of a path wins,
    and ends at a slash or at the end of the path. An application runs without an adapter if the server has its
    interface. The others share one adapter with the default options. For other options, adapt the application yourself.

    An application finds its prefix at the end of `SCRIPT_NAME` or `root_path`, as each specification says. It also
    answers the path that is the prefix without a slash. If nothing is mounted at a path, the answer is 404.

    The lifespan of every ASGI application is run: under an ASGI server within the lifespan of the server, and under a
    WSGI server before the first request to any of them. Each application has its own lifespan state.

    * `asgi` (an `AsgiMounts`): the application for an ASGI server.
    * `wsgi` (a `WsgiMounts`): the application for a WSGI server.
    * `mounts` (a tuple of `Mount`): the mounts, in the order in which they were given.

    Raises `TypeError` or `ValueError` for an invalid prefix, or for something that is not an application.
    """

    def __init__(self, mounts: Mapping[str, Any]) -> None:
        if not isinstance(mounts, Mapping):
            raise TypeError(f"expected a mapping of path prefixes to applications, got {mounts!r:.80}")
        self.mounts: tuple[Mount, ...] = tuple(_mount(checked(prefix), app) for prefix, app in mounts.items())
        asgi, wsgi = AsgiMounts(self.mounts), WsgiMounts(self.mounts)
        for side in (self, asgi, wsgi):
            side.asgi, side.wsgi = asgi, wsgi
        self._adapters = (asgi.adapter, wsgi.adapter)

    def close(self) -> None:
        """Close the adapters that were made here, as `WsgiToAsgi.close` and `AsgiToWsgi.close` do.

        Raises `RuntimeError` if it is called on the private event loop, because it would wait for that loop.
        """
        for adapter in self._adapters:
            adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Mounts {_listed(self.mounts)}>"


class AsgiMounts(TwoSided):
    """The side for ASGI servers. `mounts` are all mounts. `adapter` is shared by all WSGI applications."""

    speaks: ClassVar[Interface] = "asgi"

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self.mounts = mounts
        self._prefixes = Prefixes({mount.prefix: mount for mount in mounts})
        self.adapter: WsgiToAsgi = WsgiToAsgi(_run_in_thread)
        apps = _named([mount for mount in mounts if mount.asgi is not None])
        if any(mount.asgi is None for mount in mounts):
            apps.append(("the threads of the WSGI apps", self.adapter))
        self._lifespans = MountedLifespans(apps)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection of an ASGI server (ASGI, "Applications"). Raises what the application raises."""
        if scope["type"] == "lifespan":
            await self._lifespans(scope, receive, send)
            return
        root, rest = _split(scope)
        mount = self._prefixes.find(rest)
        if mount is None:
            await self._find_nothing(scope, receive, send)
            return
        if mount.prefix:
            # ASGI HTTP, "HTTP Connection Scope": root_path is the mount, and path is the whole path.
            scope = {**scope, "root_path": root + mount.prefix}
            if root:
                scope["path"] = root + rest
        if mount.asgi is not None:
            self._lifespans.enter(mount.asgi, scope)
            await mount.asgi(scope, receive, send)
        else:
            await self.adapter({**scope, _MOUNT: mount}, receive, send)

    def __repr__(self) -> str:
        return f"<ASGI side of Mounts {_listed(self.mounts)}>"

    async def _find_nothing(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.adapter(scope, receive, send)  # which denies a WebSocket correctly
            return
        for event in text_events(404, _NOT_FOUND):
            await send(event)


class WsgiMounts(TwoSided):
    """The side for WSGI servers. `mounts` are all mounts. `adapter` is shared by all ASGI applications."""

    speaks: ClassVar[Interface] = "wsgi"

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self.mounts = mounts
        self._prefixes = Prefixes({mount.native_prefix: mount for mount in mounts})
        self._lifespans = MountedLifespans(_named([mount for mount in mounts if mount.wsgi is None]))
        self.adapter: AsgiToWsgi = AsgiToWsgi(self._run_on_loop)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request of a WSGI server (PEP 3333).

        Raises what the application raises. For an ASGI application, raises `LifespanFailed` if one has failed to start.
        """
        root, path = _native_split(environ)
        mount = self._prefixes.find(path)
        if mount is None:
            head, text = text_response(404, _NOT_FOUND)
            start_response(*head)
            return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [text]
        if prefix := mount.native_prefix:
            environ["SCRIPT_NAME"] = root.rstrip("/") + prefix
            environ["PATH_INFO"] = path[len(prefix) :]
        if mount.wsgi is not None:
            return mount.wsgi(environ, start_response)
        environ[_MOUNT] = mount
        return self.adapter(environ, start_response)

    def __repr__(self) -> str:
        return f"<WSGI side of Mounts {_listed(self.mounts)}>"

    async def _run_on_loop(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application within the adapter."""
        if scope["type"] == "lifespan":
            await self._lifespans(scope, receive, send)
            return
        app = scope["wsgi_environ"][_MOUNT].asgi
        self._lifespans.enter(app, scope)
        await app(scope, receive, send)


def _split(scope: Scope) -> tuple[str, str]:
    """The parts of a scope's path: the root, and what is below it. Raises `ServerProtocolError`."""
    path, root = scope.get("path"), scope.get("root_path") or ""
    if not (isinstance(path, str) and isinstance(root, str)):
        raise _no_path("a scope", path, root, 'ASGI HTTP, "HTTP Connection Scope"')
    return split_path(root, path) if root else ("", path)


def _native_split(environ: Environ) -> tuple[str, str]:
    """SCRIPT_NAME and PATH_INFO. Raises `ServerProtocolError`."""
    path, root = environ.get("PATH_INFO", ""), environ.get("SCRIPT_NAME", "")
    if not (isinstance(path, str) and isinstance(root, str)):
        raise _no_path("an environ", path, root, 'PEP 3333, "environ Variables"')
    return root, path


def _no_path(where: str, path: object, root: object, clause: str) -> ServerProtocolError:
    kinds = f"{type(path).__name__}, below a root of type {type(root).__name__}"
    return ServerProtocolError(f"gave {where} whose path is of type {kinds}", expected="str", clause=clause)


def _run_in_thread(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The application within the other adapter."""
    app: WSGIApp = environ["asgi.scope"][_MOUNT].wsgi
    return app(environ, start_response)


def _listed(mounts: Sequence[Mount]) -> str:
    return ", ".join(mount.prefix or "/" for mount in mounts)


def _mount(prefix: str, app: Any) -> Mount:
    try:
        return Mount(prefix, native_path(prefix), app, interface_of(app), asgi_side(app), wsgi_side(app))
    except TypeError as error:
        raise TypeError(f"at the prefix {prefix or '/'!r}: {error}") from None


def _named(mounts: list[Mount]) -> list[tuple[str, ASGIApp]]:
    """The ASGI applications of `mounts`, each once, with a name that says where it is mounted."""
    apps: dict[int, tuple[str, ASGIApp]] = {}
    for mount in mounts:
        assert mount.asgi is not None
        apps.setdefault(id(mount.asgi), (str(mount), mount.asgi))
    return list(apps.values())
