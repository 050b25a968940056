"""An ASGI `http` scope becomes a WSGI environ.

The adapter adds the objects: `wsgi.input`, `wsgi.errors`, `wsgi.file_wrapper`, `asgi.scope` and the `bridge.` keys.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from bridge._translate.headers import ENVIRON_KEYS, is_length
from bridge._translate.tls import put_tls
from bridge._translate.urls import PATH_SAFE, native_path, server_address, split_path
from bridge._types import Environ, Scope
from bridge.errors import ClientProtocolError, ServerProtocolError

_SCOPE_CLAUSE = 'ASGI HTTP, "HTTP Connection Scope"'
# PEP 3333, "environ Variables". Empty values are filled in for each request.
_TEMPLATE: Environ = {
    "REQUEST_METHOD": "",
    "SCRIPT_NAME": "",
    "PATH_INFO": "",
    "QUERY_STRING": "",
    "REQUEST_URI": "",
    "RAW_URI": "",
    "SERVER_NAME": "",
    "SERVER_PORT": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}
# Servers write "1" for "1.0", and "2.0" for "2".
_PROTOCOLS = {"1": "HTTP/1.0", "1.0": "HTTP/1.0", "2.0": "HTTP/2", "3.0": "HTTP/3"}

# Facts of the request: if the scope no longer has them, those of the outer environ are stale.
_NOT_CARRIED = frozenset(["CONTENT_TYPE", "CONTENT_LENGTH", "HTTPS", "REMOTE_HOST", "REMOTE_PORT"])
_NOT_CARRIED_PREFIXES = ("HTTP_", "wsgi.", "asgi.", "bridge.")


def scope_to_environ(scope: Scope, *, max_repeats: int = 100) -> Environ:
    """The environ of PEP 3333 for one request of an ASGI server.

    A header may occur `max_repeats` times. If the value of an optional key has a wrong type, it is converted if its
    meaning is clear, and otherwise counts as missing.

    Raises `ClientProtocolError`, with the status of the answer, for a request that must be refused. Raises
    `ServerProtocolError` for a scope that lacks what the ASGI specification requires.
    """
    try:
        return _environ(scope, max_repeats)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        # A scope is checked only when using it has failed, so that a correct one costs nothing.
        if isinstance(scope.get("headers"), Iterator):
            did = f"gave a scope that cannot be used as it is ({error}), with headers that can be read only once"
            raise ServerProtocolError(did, expected="a list of headers", clause=_SCOPE_CLAUSE) from error
        mended = _mended(scope)
        if (blame := _blame(mended or scope)) is not None:
            raise blame from error
        if mended is None:
            raise  # the fault is ours
        return _environ(mended, max_repeats)


def _environ(scope: Scope, max_repeats: int) -> Environ:
    get = scope.get
    environ = _TEMPLATE.copy()
    method = scope["method"]
    if not isinstance(method, str):
        raise TypeError("method is not a str")
    environ["REQUEST_METHOD"] = method
    version = get("http_version") or "1.1"
    if version != "1.1":
        environ["SERVER_PROTOCOL"] = _PROTOCOLS.get(version) or "HTTP/" + version
    scheme = get("scheme") or "http"
    if scheme != "http":
        environ["wsgi.url_scheme"] = scheme
        if scheme == "https":
            environ["HTTPS"] = "on"
        elif not isinstance(scheme, str):
            raise TypeError("scheme is not a str")
    _put_path(environ, scope)
    _put_headers(environ, scope["headers"], max_repeats)
    if client := get("client"):
        _put_client(environ, *client)
    address = server_address(get("server"), environ.get("HTTP_HOST"), scheme)
    environ["SERVER_NAME"], environ["SERVER_PORT"] = address
    extensions = get("extensions")
    if extensions and (tls := extensions.get("tls")) is not None:
        put_tls(environ, tls)
    if (outer := get("wsgi_environ")) is not None:
        _carry_over(environ, outer)
    return environ


def _put_client(environ: Environ, host: str | None, port: Any) -> None:
    if host:
        if not isinstance(host, str):
            raise TypeError("the host of the client is not a str")
        environ["REMOTE_ADDR"] = host
        # Servers behind a proxy know only the address, and give port 0.
        if port:
            environ["REMOTE_PORT"] = str(int(port))


# --- the path ---


def _put_path(environ: Environ, scope: Scope) -> None:
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    raw: bytes | None = scope.get("raw_path")
    query: bytes | None = scope.get("query_string")
    script = ""
    if root:
        script, path = split_path(root, path)
    if not path.isascii() or not script.isascii():
        script, path = _native(script, path, raw)
    # RFC 3875 4.1.5: PATH_INFO is empty or starts with a slash.
    if path[:1] != "/":
        path = "/" + path if path != "" else ""  # an empty value of another type fails here, as all others do
    environ["SCRIPT_NAME"] = script
    environ["PATH_INFO"] = path
    if raw:
        uri = raw.decode("latin-1")
        if "?" in uri:
            uri = uri.partition("?")[0]
    else:
        uri = quote(script + path, PATH_SAFE, "latin-1")
    if query:
        environ["QUERY_STRING"] = text = query.decode("latin-1")
        uri = uri + "?" + text
    environ["REQUEST_URI"] = environ["RAW_URI"] = uri


def _native(script: str, path: str, raw: bytes | None) -> tuple[str, str]:
    """Both parts in the form of PEP 3333 ("Unicode Issues"): each character is a byte of the URL.

    The bytes are the UTF-8 of the path, unless the server decoded bytes that are not UTF-8 to replacement characters or
    surrogates. Then the bytes are taken from `raw_path`, if it is the same path.
    """
    whole = script + path
    if raw and ("\ufffd" in whole or not whole.isprintable()):
        exact = unquote_to_bytes(raw.partition(b"?")[0])
        for errors in ("replace", "surrogateescape"):
            decoded = exact.decode("utf-8", errors)
            if decoded == whole:
                # Decoding neither adds nor removes a slash, so the cut is after the same number of slashes.
                segments = exact.decode("latin-1").split("/")
                cut = script.count("/") + 1
                return "/".join(segments[:cut]), "/".join(["", *segments[cut:]])
            if decoded == path:
                return native_path(script), exact.decode("latin-1")
    return native_path(script), native_path(path)


# --- the headers ---


def _put_headers(environ: Environ, headers: Iterable[tuple[bytes, bytes]], max_repeats: int) -> None:
    keys = ENVIRON_KEYS
    repeats: dict[str, list[str]] = {}
    for name, value in headers:
        key = keys[name]
        if key is None:
            continue
        text = value.decode("latin-1")
        if "\n" in text or "\r" in text or "\0" in text:
            raise ClientProtocolError(
                f"sent the header {name!r:.80} with CR, LF or NUL in it", expected="none of them", clause="RFC 9110 5.5"
            )
        if key not in environ:
            environ[key] = text
            continue
        # Collected here and joined once, since joining pair by pair would take quadratic time.
        values = repeats.setdefault(key, [])
        values.append(text)
        if len(values) >= max_repeats:
            raise ClientProtocolError(
                f"sent the header {name!r:.80} more than {max_repeats} times",
                expected=f"at most {max_repeats} times",
                clause="RFC 6585 5",
                status=431,
            )
    if repeats:
        _join(environ, repeats)
    if (length := environ.get("CONTENT_LENGTH")) is not None:
        _settle_length(environ, length)
    if environ.get("HTTP_HOST") == "":
        # Servers add an empty Host if the client sent none. SERVER_NAME is the better guess for URLs.
        del environ["HTTP_HOST"]


def _join(environ: Environ, repeats: dict[str, list[str]]) -> None:
    """Join the second and further values of each header to its first."""
    for key, values in repeats.items():
        first = environ[key]
        if key == "HTTP_COOKIE":
            # RFC 9113 8.2.3: HTTP/2 clients may send one field for each cookie.
            environ[key] = "; ".join([first, *values])
        elif key == "HTTP_HOST":
            raise ClientProtocolError(f"sent {1 + len(values)} Host headers", expected="one", clause="RFC 9112 3.2")
        elif key == "CONTENT_TYPE":
            if (different := len({first, *values})) > 1:
                did = f"sent {different} different Content-Types"
                raise ClientProtocolError(did, expected="one", clause="RFC 9110 5.3")
        else:
            environ[key] = ",".join([first, *values])  # RFC 9110 5.3


def _settle_length(environ: Environ, length: str) -> None:
    if "HTTP_TRANSFER_ENCODING" in environ:
        del environ["CONTENT_LENGTH"]  # RFC 9112 6.3: Transfer-Encoding overrides it
    elif not length.strip(" \t"):
        del environ["CONTENT_LENGTH"]  # this is how CGI says that there is none, and gateways pass it on
    elif not is_length(length):
        # RFC 9112 6.3: a list that repeats the same number may count as this number. Anything else is an error.
        values = {value.strip(" \t") for value in length.split(",")}
        environ["CONTENT_LENGTH"] = value = values.pop()
        if values or not is_length(value):
            raise ClientProtocolError(
                f"sent the Content-Length {length!r:.80}", expected="one decimal number", clause="RFC 9112 6.3"
            )


# --- nested adapters ---


def _carry_over(environ: Environ, outer: Mapping[Any, Any]) -> None:
    """Pass what a WSGI server and its middleware said (REMOTE_USER, SSL_*) to the app behind both adapters."""
    for key, value in outer.items():
        if key in environ or key in _NOT_CARRIED or not isinstance(key, str):
            continue
        if not key.startswith(_NOT_CARRIED_PREFIXES):
            environ[key] = value
    for key in ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"):
        if key in outer:
            environ[key] = outer[key]


# --- what is wrong, and who did it ---


def _mended(scope: Scope) -> Scope | None:
    """A copy of the scope whose optional keys have the correct types. None if they already have.

    Headers are not converted, because a wrong type may be an attack. A query that is not text is not converted, because
    it would be lost silently. Both raise errors.
    """
    changed: dict[str, Any] = {}
    for key, mend in _MENDS.items():
        value = scope.get(key)
        if not _KEYS[key][0](value) and (mended := mend(value)) is not _HOPELESS:
            changed[key] = mended
    return {**scope, **changed} if changed else None


# What `_mended` leaves as it is.
_HOPELESS: Any = object()


def _to_bytes(value: Any) -> Any:
    """The bytes that a text stands for, as in `native_path`."""
    if isinstance(value, str):
        return native_path(value).encode("latin-1")
    return bytes(value) if isinstance(value, bytearray | memoryview) else _HOPELESS


def _to_raw_path(value: Any) -> Any:
    raw = _to_bytes(value)
    return None if raw is _HOPELESS else raw  # it only says once more what `path` says


def _to_text(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _HOPELESS


def _to_address(value: Any) -> Any:
    """Host and port of a socket's address, which has four parts with IPv6. The port is missing if it is not a port."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value or not _is_text(value[0]):
        return None
    address = tuple(value[:2])
    return address if _is_address(address) else (value[0], None)


def _blame(scope: Scope) -> ServerProtocolError | None:
    """What is wrong with a scope, or None."""
    for key, (fits, expected) in _KEYS.items():
        value = scope.get(key)
        if not fits(value):
            return ServerProtocolError(f"gave a scope {_seen(scope, key)}", expected=expected, clause=_SCOPE_CLAUSE)
    return None


def _seen(scope: Scope, key: str) -> str:
    """What is wrong with the value of `key`. A message shows an address as it is. Other values may be secret."""
    if key not in scope:
        return f"without {key}"
    value: Any = scope[key]
    if key in ("client", "server"):
        return f"whose {key} is {value!r:.80}"
    if key == "headers" and isinstance(value, Iterable):
        item: Any = next(item for item in value if not _is_header(item))
        if isinstance(item, Sequence) and not isinstance(item, str | bytes):
            return f"with a header of types ({', '.join(type(part).__name__ for part in item):.80})"
        return f"with a header of type {type(item).__name__}"
    return f"whose {key} is of type {type(value).__name__}"


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_bytes(value: object) -> bool:
    return value is None or isinstance(value, bytes)


def _are_headers(value: Any) -> bool:
    return isinstance(value, Iterable) and all(map(_is_header, value))


def _is_header(item: Any) -> bool:
    return isinstance(item, Sequence) and len(item) == 2 and all(isinstance(part, bytes) for part in item)


def _is_address(value: Any) -> bool:
    """None, or a host and a port. The port of a Unix socket is None. The port of an unknown client is 0."""
    if not value:
        return True
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2 or not _is_text(value[0]):
        return False
    return not value[1] or isinstance(value[1], int) or (isinstance(value[1], str) and value[1].isdecimal())


def _are_extensions(value: Any) -> bool:
    return not value or (isinstance(value, Mapping) and _is_tls(value.get("tls") or {}))


def _is_tls(value: Any) -> bool:
    """What `put_tls` can read (ASGI TLS Extension)."""
    if not isinstance(value, Mapping):
        return False
    numbers = (value.get("tls_version"), value.get("cipher_suite"))
    chain = value.get("client_cert_chain") or ()
    texts = (value.get("server_cert"), value.get("client_cert_name"), value.get("client_cert_error"))
    return (
        isinstance(chain, Sequence)
        and not isinstance(chain, str)
        and all(isinstance(certificate, str) for certificate in chain)
        and all(map(_is_text, texts))
        and all(number is None or isinstance(number, int) for number in numbers)
    )


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "method": (lambda value: isinstance(value, str), "str"),
    "path": (lambda value: isinstance(value, str), "str"),
    "headers": (_are_headers, "an iterable of [name, value], two byte strings"),
    "http_version": (_is_text, "str"),
    "scheme": (_is_text, "str"),
    "root_path": (_is_text, "str"),
    "raw_path": (_is_bytes, "bytes or None"),
    "query_string": (_is_bytes, "bytes"),
    "client": (_is_address, "a pair of str and int, or None"),
    "server": (_is_address, "a pair of str and int, or None"),
    "extensions": (_are_extensions, "a dict of dicts"),
    "wsgi_environ": (lambda value: value is None or isinstance(value, Mapping), "the environ of a WSGI server"),
}
_MENDS: dict[str, Callable[[Any], Any]] = {
    "http_version": _to_text,
    "scheme": _to_text,
    "root_path": _to_text,
    "raw_path": _to_raw_path,
    "query_string": _to_bytes,
    "client": _to_address,
    "server": _to_address,
    "extensions": lambda _: None,
}
