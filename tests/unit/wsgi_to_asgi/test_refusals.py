"""Refusals: what the client is told, what is counted, and what a WebSocket gets."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from bridge._wsgi_to_asgi.dispatchers import Dispatchers
from bridge._wsgi_to_asgi.refusals import deny_websocket, refuse, truncated, unavailable
from bridge.errors import ClientDisconnected, ClientProtocolError
from support.waiting import LogWatch

pytestmark = pytest.mark.anyio


class Server:
    """Gives the events that it was made with, and notes what is sent."""

    def __init__(self, *events: str) -> None:
        self._events = list(events)
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return {"type": self._events.pop(0)}

    async def send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)


@pytest.fixture
def dispatchers() -> Iterator[Dispatchers]:
    """The dispatchers of one adapter."""
    dispatchers = Dispatchers(1, 2.0, None)
    yield dispatchers
    dispatchers.close()


def refused(status: int) -> ClientProtocolError:
    return ClientProtocolError("sent something", expected="something else", clause="RFC 9110 15", status=status)


@pytest.mark.parametrize(("status", "retry"), [(503, [b"1"]), (400, []), (413, []), (431, [])])
async def test_a_refusal_is_a_whole_response_and_counted(
    dispatchers: Dispatchers, log: LogWatch, status: int, retry: list[bytes]
) -> None:
    """With the reason in it; only for a bad time the client is told to come again (RFC 9110 10.2.3)."""
    server = Server()
    await refuse(dispatchers.here(), refused(status), server.send)
    head, body = server.sent

    assert ("http.response.start", status) == (head["type"], head["status"])
    assert retry == [value for name, value in head["headers"] if name == b"retry-after"]
    assert ("http.response.body", False) == (body["type"], body.get("more_body", False))
    assert b"something else" in body["body"]
    assert 1 == dispatchers.stats().rejected
    assert log.having(f"refused a request with {status}", level=logging.INFO)
    assert [] == log.complaints()


async def test_a_bad_time_is_said_to_be_one() -> None:
    refusal = unavailable("when the backlog was full")

    assert 503 == refusal.status
    assert "came when the backlog was full" in str(refusal)


async def test_a_body_that_broke_off_is_the_clients_mistake() -> None:
    """And what was seen of it is not lost."""
    error = ClientDisconnected("after 3 of 9 bytes")
    refusal = truncated(error)

    assert 400 == refusal.status
    assert "after 3 of 9 bytes" in str(refusal)
    assert refusal.__cause__ is error


async def test_a_websocket_gets_a_response_where_the_server_can_send_one() -> None:
    """ASGI, Websocket Denial Response."""
    server = Server("websocket.connect")
    await deny_websocket({"extensions": {"websocket.http.response": {}}}, server.receive, server.send)
    head, body = server.sent

    assert ("websocket.http.response.start", 404) == (head["type"], head["status"])
    assert "websocket.http.response.body" == body["type"]
    assert b"has no WebSockets" in body["body"]


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {"http.response.push": {}}}])
async def test_a_websocket_is_closed_where_it_cannot(scope: dict[str, Any]) -> None:
    """ASGI WebSocket, "Close": before it was accepted, that is a 403."""
    server = Server("websocket.connect")
    await deny_websocket(scope, server.receive, server.send)

    assert [{"type": "websocket.close", "code": 1000}] == server.sent


async def test_a_websocket_whose_client_has_left_gets_nothing() -> None:
    """ASGI WebSocket, "Disconnect": nothing may be sent after it."""
    server = Server("websocket.disconnect")
    await deny_websocket({}, server.receive, server.send)

    assert [] == server.sent
