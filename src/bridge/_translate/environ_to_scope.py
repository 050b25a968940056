"""A WSGI environ becomes an ASGI `http` scope."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from bridge._translate.headers import SCOPE_NAMES, is_length
from bridge._translate.tls import TLS_KEYS, tls_extension
from bridge._translate.urls import PATH_SAFE, server_address, text_path
from bridge._types import ASGIHeaders, Environ, Scope
from bridge.errors import ClientProtocolError, ServerProtocolError

# The keys that are read here as strings, besides the headers. Some servers leave some of them out.
_STRINGS = frozenset(
    [
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "PATH_INFO",
        "QUERY_STRING",
        "SERVER_NAME",
        "SERVER_PROTOCOL",
        "REMOTE_ADDR",
        "REQUEST_URI",
        "RAW_URI",
        "RAW_PATH_INFO",
        "SSL_CLIENT_VERIFY",
        "wsgi.url_scheme",
        *TLS_KEYS,
    ]
)
_UNQUOTED = PATH_SAFE.encode("ascii") + b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ENVIRON_CLAUSE = 'PEP 3333, "environ Variables"'
# ASGI knows these four. Any other value means a current client.
_VERSIONS = {
    "HTTP/0.9": "1.0",
    "HTTP/1": "1.0",
    "HTTP/1.0": "1.0",
    "HTTP/1.1": "1.1",
    "HTTP/2": "2",
    "HTTP/2.0": "2",
    "HTTP/3": "3",
    "HTTP/3.0": "3",
}


def environ_to_scope(environ: Environ, *, outer: Scope | None = None, pathsend: bool = False) -> Scope:
    """The scope of the ASGI HTTP specification for one request of a WSGI server.

    If the request comes from an ASGI server through another adapter, `outer` is the scope of that server. Its state,
    its extensions and its facts about the connection are used, unless WSGI middleware has changed them in the environ.
    `pathsend`: offer `http.response.pathsend` if the server has `wsgi.file_wrapper`. In `environ`, numbers and bytes
    are replaced by native strings, and None is removed.

    Raises `ClientProtocolError`, with the status of the answer, for a request that must be refused. Raises
    `ServerProtocolError` for an environ that lacks what PEP 3333 requires.
    """
    try:
        return _scope(environ, outer, pathsend)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        # An environ is checked only when using it has failed, so that a correct one costs nothing.
        if _mend(environ):
            return environ_to_scope(environ, outer=outer, pathsend=pathsend)
        if (blame := _blame(environ)) is None:
            raise  # the fault is ours
        raise blame from error


def _scope(environ: Environ, outer: Scope | None, pathsend: bool) -> Scope:
    get = environ.get
    scheme: str = get("wsgi.url_scheme") or "http"
    root: str = get("SCRIPT_NAME", "")
    native: str = get("PATH_INFO", "")
    if root:
        # RFC 3875 4.1.5 requires a slash in front. Gunicorn and Granian cut the root off even if none follows it: with
        # the root /shop, they turn /shopping into "ping". This path is not below the root, and must not pass for
        # /shop/ping.
        # If the server has cut off a slash at the end of the root, it belongs to the path.
        cut = root.rstrip("/")
        native = f"{cut}/{native}" if native[:1] != "/" and cut != root else cut + native
        root = cut
    if not native:
        native = "/"
    address = get("REMOTE_ADDR")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        # str.upper and str.isascii, since bytes have methods of these names as well.
        "http_version": _VERSIONS.get(str.upper(get("SERVER_PROTOCOL", "")), "1.1"),
        "method": str.upper(environ["REQUEST_METHOD"]),
        "scheme": scheme,
        # Each part by itself: a character whose bytes are in both would not begin with the root.
        "path": native if native.isascii() else text_path(root) + text_path(native[len(root) :]),
        "raw_path": _raw_path(environ, native),
        "query_string": get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root if str.isascii(root) else text_path(root),
        "headers": _headers(environ),
        # If only the address is known, for example behind a proxy, ASGI servers give port 0.
        "client": (address, _port(get("REMOTE_PORT")) or 0) if address else None,
        "server": _server(get("SERVER_NAME"), get("SERVER_PORT"), scheme),
        "extensions": _extensions(environ, scheme, pathsend),
        "wsgi_environ": environ,
    }
    if outer is not None:
        _come_home(scope, outer)
    return scope


# --- the path ---


def _raw_path(environ: Environ, native: str) -> bytes:
    """The path as the client sent it, if the server gives it and nobody rewrote it. Otherwise `native`, quoted."""
    path = native.encode("latin-1")
    for key in ("REQUEST_URI", "RAW_URI", "RAW_PATH_INFO"):
        uri = environ.get(key)
        if not uri:
            continue
        if "?" in uri:
            uri = uri.partition("?")[0]
        if uri == native and "%" not in native:
            return path
        raw = _path_of(uri)
        if raw is not None and unquote_to_bytes(raw) == path:
            return raw
    return quote_from_bytes(path, PATH_SAFE).encode("ascii") if path.rstrip(_UNQUOTED) else path


def _path_of(uri: str) -> bytes | None:
    """The path of a request target without its query, in origin-form or absolute-form (RFC 9112 3.2).

    None if there is no such path. The key is not in PEP 3333, so it may hold anything.
    """
    try:
        raw = uri.encode("latin-1")
    except UnicodeEncodeError:
        return None
    if raw[:1] != b"/":
        _, colon, rest = raw.partition(b"://")
        if colon:
            _, slash, path = rest.partition(b"/")
            return slash + path or b"/"
    return raw


# --- the headers ---


def _headers(environ: Environ) -> ASGIHeaders:
    names = SCOPE_NAMES
    headers: ASGIHeaders = []
    for key, value in environ.items():
        name = names[key]
        if name is None:
            continue
        if "\n" in value or "\r" in value or "\0" in value:
            raise ClientProtocolError(
                f"sent the header {name!r:.80} with CR, LF or NUL in it", expected="none of them", clause="RFC 9110 5.5"
            )
        # PEP 3333: these two may be empty if the client did not send them.
        if value or (name != b"content-type" and name != b"content-length"):
            headers.append((name, value.encode("latin-1")))
    length = environ.get("CONTENT_LENGTH")
    if length:
        if not is_length(length):
            headers = _settle_length(environ, headers, length)
        if "HTTP_TRANSFER_ENCODING" in environ and environ.get("wsgi.input_terminated"):
            # RFC 9112 6.3: Transfer-Encoding overrides it, and the server has decoded the body accordingly.
            headers = _without_length(headers)
    return headers


def _settle_length(environ: Environ, headers: ASGIHeaders, length: str) -> ASGIHeaders:
    """Remove the blanks around a Content-Length, which are not a part of it. One that is only blanks counts as
    missing.
    """
    environ["CONTENT_LENGTH"] = bare = length.strip(" \t")
    if not bare:
        return _without_length(headers)
    if not is_length(bare):
        raise ClientProtocolError(
            f"sent the Content-Length {length!r:.80}", expected="one decimal number", clause="RFC 9110 8.6"
        )
    return [*_without_length(headers), (b"content-length", bare.encode("ascii"))]


def _without_length(headers: ASGIHeaders) -> ASGIHeaders:
    return [header for header in headers if header[0] != b"content-length"]


# --- the connection ---


def _port(port: Any) -> int | None:
    """A port as servers give it, str or int. None if it is not a port."""
    try:
        return int(port)
    except (TypeError, ValueError, OverflowError):
        return None


def _server(name: str | None, port: Any, scheme: str) -> tuple[str, int | None] | None:
    number = _port(port)
    if number is None:
        # A Unix socket: some servers put its path in the place of the port, and some in the place of the name.
        for path in (port, name):
            if isinstance(path, str) and path.startswith("/"):
                return path, None
        number = 443 if scheme == "https" else 80
    if not name:
        return None
    return (name[1:-1] if name[0] == "[" else name), number


def _extensions(environ: Environ, scheme: str, pathsend: bool) -> dict[str, Any]:
    """The extensions that the WSGI server makes possible for an ASGI app."""
    get = environ.get
    extensions: dict[str, Any] = {}
    if scheme != "http":
        if not isinstance(scheme, str):
            raise TypeError("wsgi.url_scheme is not a str")
        if scheme == "https" and any(map(get, TLS_KEYS)):
            extensions["tls"] = tls_extension(environ)
    if callable(get("wsgi.early_hints")):
        extensions["http.response.early_hint"] = {}
    if pathsend and get("wsgi.file_wrapper") is not None:
        extensions["http.response.pathsend"] = {}
    return extensions


# --- nested adapters ---


def _come_home(scope: Scope, outer: Scope) -> None:
    """Restore what the scope of the ASGI server said and an environ cannot express."""
    for key in ("asgi", "state"):
        if key in outer:
            scope[key] = outer[key]
    # The response goes through WSGI again, so the server's own ways to answer cannot be used.
    known = outer.get("extensions")
    if not isinstance(known, Mapping):
        known = {}
    scope["extensions"].update(
        (key, value) for key, value in known.items() if not key.startswith(("http.response.", "websocket."))
    )
    # A Unix socket, or a missing server, was replaced by a name from which URLs can be made.
    server = outer.get("server") or None
    if server is None or (isinstance(server, list | tuple) and len(server) == 2 and not server[1]):
        environ, headers = scope["wsgi_environ"], outer.get("headers") or ()
        host = next((value.decode("latin-1") for name, value in headers if name.lower() == b"host"), None)
        replaced = server_address(server, host, outer.get("scheme") or "http")
        if (environ.get("SERVER_NAME"), environ.get("SERVER_PORT")) == replaced:
            scope["server"] = server


def _mend(environ: Environ) -> bool:
    """Turn values that stand for a native string into one. Returns whether there was anything to do."""
    changed: dict[str, str | None] = {}
    for key, value in environ.items():
        if isinstance(value, str) or not (key in _STRINGS or SCOPE_NAMES[key] is not None):
            continue
        if value is None:
            changed[key] = None
        elif isinstance(value, bytes):
            changed[key] = value.decode("latin-1")
        elif isinstance(value, int) and not isinstance(value, bool):
            changed[key] = str(value)
    for key, text in changed.items():
        if text is None:
            del environ[key]
        else:
            environ[key] = text
    return bool(changed)


def _blame(environ: Environ) -> ServerProtocolError | None:
    """What is wrong with an environ, or None."""
    if "REQUEST_METHOD" not in environ:
        did = "gave an environ without REQUEST_METHOD"
        return ServerProtocolError(did, expected="the method of the request", clause=_ENVIRON_CLAUSE)
    for key, value in environ.items():
        if (key in _STRINGS or SCOPE_NAMES[key] is not None) and not _is_native(value):
            # Only the type, or one character: values may be secret.
            seen = f"has the character {max(value)!r}" if isinstance(value, str) else f"is of type {_kind(value):.80}"
            did = f"gave an environ whose {key:.80} {seen}"
            return ServerProtocolError(did, expected="a str of characters up to U+00FF", clause=_ENVIRON_CLAUSE)
    return None


def _kind(value: object) -> str:
    return type(value).__name__


def _is_native(value: object) -> bool:
    return isinstance(value, str) and (not value or max(value) <= "\xff")
