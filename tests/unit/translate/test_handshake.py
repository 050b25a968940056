"""Which requests ask for a WebSocket, and which scope they get."""

import pytest

from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.handshake import asks_for_upgrade, is_handshake, plain_scope, websocket_scope
from support.plain_servers import environ_for


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, True),
        ({"HTTP_UPGRADE": "WebSocket"}, True),
        ({"HTTP_UPGRADE": "h2c"}, False),
        ({"HTTP_UPGRADE": ""}, False),
        ({"REQUEST_METHOD": "POST"}, False),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, False),
    ],
)
def test_handshakes(changed: dict[str, str], answer: bool) -> None:
    environ = environ_for("GET", "/", HTTP_UPGRADE="websocket", SERVER_PROTOCOL="HTTP/1.1") | changed
    assert answer is is_handshake(environ)


def test_scope() -> None:
    environ = environ_for(
        "GET", "/a b", HTTP_SEC_WEBSOCKET_PROTOCOL="one,  two", wsgi__url_scheme="https", SSL_CLIENT_CERT=""
    )
    environ["wsgi.early_hints"] = lambda _: None
    scope = websocket_scope(environ_to_scope(environ))
    assert ("websocket", "wss", "/a b", ["one", "two"]) == tuple(
        scope[key] for key in ("type", "scheme", "path", "subprotocols")
    )
    assert {"websocket.http.response": {}} == {k: v for k, v in scope["extensions"].items() if k != "tls"}
    assert environ is scope["wsgi_environ"]
    assert "method" not in scope


@pytest.mark.parametrize(
    ("upgrade", "answer"), [("WebSocket", True), ("h2c", False), ("websocket, h2c", False), (None, False)]
)
def test_what_asks_for_an_upgrade(upgrade: str | None, answer: bool) -> None:
    environ = environ_for("GET", "/")
    if upgrade is not None:
        environ["HTTP_UPGRADE"] = upgrade
    assert answer is asks_for_upgrade(environ)


def test_a_plain_scope_does_not_tell_of_the_upgrade() -> None:
    kept = [(b"host", b"x"), (b"cookie", b"a=b"), (b"origin", b"http://x")]
    asked = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-key", b"k")]
    scope = {"type": "http", "headers": [*asked, *kept, (b"sec-websocket-version", b"13")]}
    assert {"type": "http", "headers": kept} == plain_scope(scope)
    assert 7 == len(scope["headers"])
