"""A WSGI app on AWS Lambda, through Mangum."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from hosts import handlers

pytestmark = pytest.mark.hosts


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """Lambda's main thread has one loop for all events; Mangum makes it where there is none."""
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        yield


@pytest.fixture(name="handler")
def handler_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    handler = handlers.example("Mangum", 0, monkeypatch).handler
    yield handler
    handler.app.close()


EVENTS = [handlers.gateway_v2, handlers.gateway_v1, handlers.balancer]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_without_a_length_arrives(handler: Any, event: Any, method: str) -> None:
    """None of these events says how long its body is."""
    response = handler(event(method, "/items", '{"ids": [1]}'), None)

    assert (200, f'{method} /items {{"ids": [1]}}') == (response["statusCode"], response["body"])


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_a_request_without_a_body(handler: Any, event: Any) -> None:
    assert "GET /items " == handler(event("GET", "/items"), None)["body"]


def test_the_response_is_closed_when_the_handler_returns(handler: Any) -> None:
    """What an app does in `close` is done before the process may be frozen."""
    handler(handlers.gateway_v2("GET", "/"), None)

    assert ["closed"] == handlers.done


def test_one_event_after_the_other(handler: Any) -> None:
    """The same process serves many."""
    for number in range(3):
        assert f"GET /{number} " == handler(handlers.gateway_v2("GET", f"/{number}"), None)["body"]
