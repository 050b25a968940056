"""An ASGI app on AWS Lambda, through serverless-wsgi."""

from collections.abc import Iterator
from typing import Any

import pytest

from hosts import handlers

pytestmark = pytest.mark.hosts


@pytest.fixture(name="handler")
def handler_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module: Any = handlers.example("serverless-wsgi", 0, monkeypatch)
    yield module.handler
    module.bridged.close()


@pytest.mark.parametrize("event", [handlers.gateway_v2, handlers.gateway_v1, handlers.balancer])
def test_an_event(handler: Any, event: Any) -> None:
    """Its body arrives, and the work after the response is done when the handler returns."""
    response = handler(event("POST", "/items", '{"ids": [1]}'), None)

    assert (200, 'POST /items {"ids": [1]}') == (response["statusCode"], response["body"])
    assert ["mail sent"] == handlers.done
