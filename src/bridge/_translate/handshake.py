"""The WebSocket handshake in a WSGI environ, and the scope of the connection that it asks for."""

from bridge._types import Environ, Scope


def asks_for_upgrade(environ: Environ) -> bool:
    """Whether a request asks for an upgrade to WebSocket, as a valid handshake or not."""
    upgrade: str = environ.get("HTTP_UPGRADE", "")
    return upgrade.lower() == "websocket"


def is_handshake(environ: Environ) -> bool:
    """Whether a request asks for a WebSocket (RFC 6455 4.1): HTTP/1.1 or newer, GET, and an upgrade to it."""
    get = environ.get
    return (
        asks_for_upgrade(environ)
        and get("REQUEST_METHOD") == "GET"
        and get("SERVER_PROTOCOL", "").upper() not in ("HTTP/1.0", "HTTP/0.9")
    )


def plain_scope(scope: Scope) -> Scope:
    """The `http` scope of a request whose upgrade is ignored (RFC 9110 7.8): the application is not told of it.

    Some applications would accept the upgrade, and in plain HTTP there is nothing to accept.
    """
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in (b"upgrade", b"connection") and not name.startswith(b"sec-websocket-")
    ]
    return {**scope, "headers": headers}


def websocket_scope(scope: Scope) -> Scope:
    """The scope of the connection that the request of an `http` scope asks for (ASGI WebSocket, "Connection Scope")."""
    names = b",".join(value for name, value in scope["headers"] if name == b"sec-websocket-protocol")
    extensions = {name: value for name, value in scope["extensions"].items() if name == "tls"}
    session = {
        **scope,
        "type": "websocket",
        "scheme": "wss" if scope["scheme"] == "https" else "ws",
        "subprotocols": [name for each in names.decode("latin-1").split(",") if (name := each.strip())],
        "extensions": {**extensions, "websocket.http.response": {}},
    }
    del session["method"]
    return session
