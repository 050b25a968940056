"""Any scope or environ becomes a head as the other specification has it, or raises one of our errors."""

from typing import Any

from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.handshake import is_handshake, websocket_scope
from bridge._translate.input_to_events import body_length
from bridge._translate.scope_to_environ import scope_to_environ
from bridge.errors import ClientProtocolError, ProtocolError, ServerProtocolError
from fuzz.draw import Draw

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "get", "")
SCHEMES = ("http", "https", "ws", "")
SCOPE_VERSIONS = ("1.1", "1.0", "2", "3", "1", "2.0", "0.9", "")
ENVIRON_VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/3", "http/1.1", "HTTP/0.9", "HTTP/", "")
HOSTS = ("127.0.0.1", "::1", "[::1]", "/run/app.sock", "example.org", "")
PORTS = (8000, 0, None, "80", "http", -1, 2**40)
NAMES = (
    *("host", "content-length", "content-type", "transfer-encoding", "cookie", "expect", "upgrade", "connection"),
    *("x-forwarded-for", "X_Forwarded_For", "proxy", "Proxy", "sec-websocket-key", "sec-websocket-protocol", "a"),
)
VALUES = ("", "0", "5", "5, 5", " 7 ", "chunked", "a=b", "text/plain", "websocket", "localhost:80", "[::1]:8000", "1\n")
TLS_KEYS = ("server_cert", "client_cert_chain", "client_cert_name", "client_cert_error", "tls_version", "cipher_suite")
SCOPE_KEYS = {"type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"} | {
    *("headers", "client", "server", "extensions", "wsgi_environ")
}
# PEP 3333, "environ Variables": native strings; what comes with a request, and not from the server's own set-up.
NATIVE = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI", "SERVER_PORT")


def fuzz_scope(draw: Draw) -> None:
    """A scope becomes an environ of native strings, and that a scope again; or the party that broke it is named."""
    given = draw_scope(draw)
    try:
        environ = scope_to_environ(given, max_repeats=draw.pick((100, 1, 2)))
    except ProtocolError as error:
        _check_refusal(error)
        return
    _check_environ(environ)
    if given.get("wsgi_environ") is None:  # from where it is carried over as it is
        assert all(isinstance(value, str) for key, value in environ.items() if key.startswith("SSL_"))
    # What is made here is a legal environ: so it has a scope, but where a length is no number of bytes.
    try:
        again = environ_to_scope(environ, outer=given if draw.seldom() else None)
    except ServerProtocolError:
        # The names that a server gives itself are not looked at on the way in.
        assert not all(_is_native(value) for key, value in environ.items() if isinstance(value, str) or key[0] != "w")
        return
    _check_scope(again)


def fuzz_environ(draw: Draw) -> None:
    """An environ becomes a scope; how long its body is can be said, or is a refusal with 411."""
    environ = draw_environ(draw)
    try:
        scope = environ_to_scope(environ, pathsend=draw.seldom())
    except ProtocolError as error:
        _check_refusal(error)
        return
    _check_scope(scope)
    try:
        length = body_length(environ)
    except ClientProtocolError as refusal:
        assert refusal.status == 411, refusal
    else:
        assert length is None or 0 <= length < 10**19, length
    if is_handshake(environ):
        session = websocket_scope(scope)
        assert session["type"] == "websocket"
        assert all(isinstance(name, str) and name.strip() for name in session["subprotocols"])


# --- what is drawn


def draw_scope(draw: Draw) -> dict[str, Any]:
    def address() -> Any:
        return (draw.pick(HOSTS), draw.pick(PORTS)) if not draw.seldom() else draw.anything()

    return draw.mapping(
        {
            "headers": lambda: _headers(draw),
            "method": lambda: draw.pick(METHODS),
            "path": lambda: "/" + draw.text(),
            "query_string": draw.raw,
            "raw_path": lambda: draw.raw() if draw.seldom() else b"/" + draw.raw(),
            "root_path": lambda: draw.pick(("", "/a", "/a/", "a", "/\xe9")) if not draw.seldom() else draw.text(),
            "scheme": lambda: draw.pick(SCHEMES),
            "http_version": lambda: draw.pick(SCOPE_VERSIONS),
            "client": address,
            "server": address,
            "extensions": lambda: _extensions(draw),
            "wsgi_environ": lambda: draw_environ(draw) if draw.seldom() else None,
        }
    )


def _headers(draw: Draw) -> Any:
    headers: list[Any] = []
    for _ in draw.times(12):
        name = draw.raw() if draw.seldom() else draw.pick(NAMES).encode()
        value = draw.pick(VALUES).encode() if not draw.seldom() else draw.raw()
        pair: Any = (name, value) if not draw.seldom() else draw.pick((list, tuple))((name, value))
        if draw.byte() > 250:
            pair = draw.anything()
        headers += [pair] * (128 if draw.byte() > 245 and draw.size < 1000 else 1)
    return headers


def _extensions(draw: Draw) -> Any:
    tls = draw.mapping(dict.fromkeys(TLS_KEYS, lambda: draw.anything(1))) if draw.seldom() else {}
    return {"tls": tls} if draw.seldom() else {"http.response.pathsend": {}}


def draw_environ(draw: Draw) -> dict[str, Any]:
    environ = draw.mapping(
        {
            "REQUEST_METHOD": lambda: draw.pick(METHODS),
            "SCRIPT_NAME": lambda: draw.pick(("", "/a", "/a/", "a", "/\xe9")) if not draw.seldom() else draw.native(),
            "PATH_INFO": lambda: draw.pick(("/", "")) + draw.native(),
            "QUERY_STRING": draw.native,
            "SERVER_NAME": lambda: draw.pick(HOSTS),
            "SERVER_PORT": lambda: draw.pick(PORTS),
            "SERVER_PROTOCOL": lambda: draw.pick(ENVIRON_VERSIONS),
            "REMOTE_ADDR": lambda: draw.pick(HOSTS),
            "REMOTE_PORT": lambda: draw.pick(PORTS),
            "REQUEST_URI": draw.native,
            "wsgi.url_scheme": lambda: draw.pick(SCHEMES),
        }
    )
    for _ in draw.times(12):
        name = draw.native() if draw.seldom() else draw.pick(NAMES)
        key = name.upper().replace("-", "_")
        value: Any = draw.pick(VALUES) if not draw.seldom() else draw.native()
        if draw.byte() > 245:
            value = draw.anything(1)
        environ[key if key.startswith("CONTENT_") else "HTTP_" + key] = value
    for key in ("CONTENT_LENGTH", "wsgi.input_terminated", "wsgi.early_hints", "wsgi.file_wrapper", "RAW_URI"):
        if draw.seldom():
            environ[key] = draw.anything()
    if draw.seldom():
        environ |= draw.mapping(dict.fromkeys(("SSL_PROTOCOL", "SSL_CIPHER", "SSL_CLIENT_CERT"), draw.native))
    return environ


# --- what is checked


def _is_native(value: object) -> bool:
    return isinstance(value, str) and (not value or max(value) <= "\xff")


def _check_refusal(error: ProtocolError) -> None:
    assert isinstance(error, ClientProtocolError | ServerProtocolError), repr(error)
    assert len(str(error)) < 1000
    if isinstance(error, ClientProtocolError):
        assert 400 <= error.status < 500, error.status


def _check_environ(environ: dict[str, Any]) -> None:
    for key in NATIVE:
        assert _is_native(environ[key]), key
    assert isinstance(environ["SERVER_NAME"], str)
    assert isinstance(environ["REMOTE_ADDR"], str)
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"]
    assert environ["PATH_INFO"][:1] in ("", "/")
    for key, value in environ.items():
        if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            assert _is_native(value), key
            assert {"\r", "\n", "\0"}.isdisjoint(value), key
    assert "HTTP_PROXY" not in environ
    length = environ.get("CONTENT_LENGTH")
    assert length is None or (length.isascii() and length.isdigit()), length


def _check_scope(scope: Any) -> None:
    assert SCOPE_KEYS <= scope.keys(), SCOPE_KEYS - scope.keys()
    assert scope["type"] == "http"
    for key in ("method", "scheme", "path", "root_path", "http_version"):
        assert isinstance(scope[key], str), key
    scope["path"].encode()
    scope["root_path"].encode()
    assert scope["http_version"] in ("1.0", "1.1", "2", "3")
    assert scope["method"] == scope["method"].upper()
    assert isinstance(scope["raw_path"], bytes)
    assert b"?" not in scope["raw_path"]
    assert isinstance(scope["query_string"], bytes)
    for name, value in scope["headers"]:
        assert isinstance(name, bytes)
        assert name == name.lower()
        assert name
        assert not set(value) & set(b"\r\n\0")
    for side in ("client", "server"):
        assert scope[side] is None or len(scope[side]) == 2, side
