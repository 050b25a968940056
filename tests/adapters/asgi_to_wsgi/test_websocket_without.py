"""WebSockets that `AsgiToWsgi` does not serve: the request is the app's as plain http, or is refused with 426."""

import sys
from typing import Any

import pytest
import wsproto.events as ws

from bridge import _log_once
from support.asgi_apps import reply
from support.plain_servers import environ_for
from support.scripted_wsgi_server import adapted, ask
from support.waiting import LogWatch
from support.websocket_sessions import opened


async def plain(scope: Any, receive: Any, send: Any) -> None:
    assert "http" == scope["type"]
    await reply(send, b"plain")


def test_off_is_plain_http(log: LogWatch) -> None:
    with opened(plain, websocket="off") as (_, client):
        assert b"plain" == client.open().body  # type: ignore[union-attr]
    assert [] == log.having("WARNING", "")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_app_is_not_told_of_an_upgrade_that_is_none(version: str) -> None:
    """Some accept what they see, whatever the scope's type: engineio for one. HTTP/1.0 has no upgrade at all."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await reply(send, b"plain")

    with opened(app, websocket="off" if version == "1.1" else "auto") as (_, client):
        request = client.frame(ws.Request("localhost", "/")).replace(b"HTTP/1.1", b"HTTP/" + version.encode())
        client.raw(request)
        while not (answer := client.socket.recv(4096)).endswith(b"plain"):
            assert answer
    names = {name for name, _ in scopes[0]["headers"]}
    assert "http" == scopes[0]["type"]
    assert b"host" in names
    assert not {name for name in names if b"websocket" in name or name in (b"upgrade", b"connection")}


@pytest.mark.parametrize(("how", "status"), [("auto", 200), ("reject", 426)])
def test_on_a_host_without_a_connection(how: Any, status: int, log: LogWatch) -> None:
    """As serverless ones are: whatever their events say, there is one warning, which says what to do."""
    _log_once.forget()
    handshake = {
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": "a" * 24,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
    }
    with adapted(plain, websocket=how) as adapter:
        for _ in range(2):
            answer = ask(adapter, environ_for("GET", "/", **handshake))
            assert status == answer.code
            assert (b"plain" == answer.body) is (status == 200)
    (warning,) = log.having("WARNING", "a WebSocket cannot be served")
    assert "does not show its connection" in warning
    assert "docs/websockets.md" in warning


@pytest.mark.parametrize(("how", "status"), [("auto", 200), ("reject", 426)])
def test_without_wsproto(how: Any, status: int, monkeypatch: pytest.MonkeyPatch, log: LogWatch) -> None:
    """The warning says what to install."""
    _log_once.forget()
    with opened(plain, websocket=how) as (_, client):
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.partition(".")[0] == "wsproto"]:
                patch.setitem(sys.modules, name, None)
            rejected = client.open()
        assert status == rejected.status  # type: ignore[union-attr]
    assert 1 == len(log.having("WARNING", "install wsproto"))
