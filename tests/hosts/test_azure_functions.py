"""Apps of both kinds as Azure Functions."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from hosts import handlers

pytestmark = pytest.mark.hosts


def request(method: str, body: bytes) -> Any:
    import azure.functions as func

    return func.HttpRequest(method=method, url="https://a.azurewebsites.net/items", headers={}, params={}, body=body)


def function(app: Any) -> Any:
    """The one function of a function app, as the host calls it."""
    (found,) = app.get_functions()
    return found.get_user_function()


@pytest.fixture(name="asgi_app")
def asgi_app_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module: Any = handlers.example("azure-functions", 0, monkeypatch)
    yield module.app
    module.bridged.close()


@pytest.fixture(name="wsgi_app")
def wsgi_app_fixture(monkeypatch: pytest.MonkeyPatch) -> Any:
    return handlers.example("azure-functions", 1, monkeypatch).app


def test_an_asgi_app(asgi_app: Any) -> None:
    """Its body arrives, and the work after the response is done when the function returns."""
    response = function(asgi_app)(request("POST", b"one"), None)

    assert (200, b"POST /items one") == (response.status_code, response.get_body())
    assert ["mail sent"] == handlers.done


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_wsgi_app(wsgi_app: Any, method: str) -> None:
    """Its body arrives, though nothing says how long it is; the response is closed when the function returns."""

    async def main() -> Any:
        response = await function(wsgi_app)(request(method, b"one"), None)
        await wsgi_app.middleware.notify_shutdown()
        return response

    response = asyncio.run(main())
    wsgi_app.startup_task_done = False  # it was shut down here, and not when the garbage is collected

    assert (200, f"{method} /items one".encode()) == (response.status_code, response.get_body())
    assert ["closed"] == handlers.done
