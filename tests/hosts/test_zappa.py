"""An ASGI app on AWS Lambda, through Zappa."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from hosts import handlers

pytestmark = pytest.mark.hosts

# What Zappa writes into a package when it deploys.
SETTINGS = {
    "APP_MODULE": "bridged",
    "APP_FUNCTION": "application",
    "DJANGO_SETTINGS": None,
    "PROJECT_NAME": "mysite",
    "API_STAGE": "dev",
    "DOMAIN": None,
    "BASE_PATH": None,
    "LOG_LEVEL": None,
    "DEBUG": False,
    "BINARY_SUPPORT": True,
    "EXCEPTION_HANDLER": None,
    "ENVIRONMENT_VARIABLES": {},
    "CONTEXT_HEADER_MAPPINGS": {},
    "AWS_EVENT_MAPPING": {},
    "COGNITO_TRIGGER_MAPPING": {},
}


@pytest.fixture(name="handler")
def handler_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from zappa.handler import LambdaHandler

    module: Any = handlers.example("Zappa", 0, monkeypatch)
    settings = types.ModuleType("zappa_settings")
    settings.__dict__.update(SETTINGS)
    monkeypatch.setitem(sys.modules, "bridged", module)
    monkeypatch.setitem(sys.modules, "zappa_settings", settings)
    for name in ("SERVERTYPE", "FRAMEWORK", "PROJECT", "STAGE"):  # it sets them, and they are put back
        monkeypatch.setenv(name, "")
    # It is one object for each process.
    monkeypatch.setattr(LambdaHandler, "_LambdaHandler__instance", None)
    monkeypatch.setattr(LambdaHandler, "settings", None)
    yield LambdaHandler("zappa_settings", None).handler
    module.application.close()


@pytest.mark.parametrize("event", [handlers.gateway_v2, handlers.gateway_v1, handlers.balancer])
def test_an_event(handler: Any, event: Any) -> None:
    """Its body arrives, and the work after the response is done when the handler returns."""
    response = handler(event("POST", "/items", '{"ids": [1]}'), None)

    assert (200, 'POST /items {"ids": [1]}') == (response["statusCode"], response["body"])
    assert ["mail sent"] == handlers.done
