"""An ASGI app on AWS Lambda, through apig-wsgi."""

from collections.abc import Iterator
from typing import Any

import pytest

from hosts import handlers

pytestmark = pytest.mark.hosts


@pytest.fixture(name="handler")
def handler_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    handler = handlers.example("apig-wsgi", 0, monkeypatch).handler
    yield handler
    handler.__closure__[[*handler.__code__.co_freevars].index("wsgi_app")].cell_contents.close()


@pytest.mark.parametrize("event", [handlers.gateway_v2, handlers.gateway_v1, handlers.balancer])
def test_an_event(handler: Any, event: Any) -> None:
    """Its body arrives, and the work after the response is done when the handler returns."""
    response = handler(event("POST", "/items", '{"ids": [1]}'), None)

    assert (200, 'POST /items {"ids": [1]}') == (response["statusCode"], response["body"])
    assert ["mail sent"] == handlers.done
