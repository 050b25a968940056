"""An ASGI app as a function of Google's, through functions-framework."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import handlers

pytestmark = pytest.mark.hosts


@pytest.fixture(name="client")
def client_fixture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    import functions_framework

    handlers.example("functions-framework", 0, monkeypatch).bridged.close()  # what stands for `mysite`
    source = tmp_path / "main.py"
    source.write_text(handlers.examples("functions-framework")[0])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "main", raising=False)
    yield functions_framework.create_app("main", str(source)).test_client()
    sys.modules["main"].bridged.close()
    monkeypatch.delitem(sys.modules, "main")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_request(client: Any, method: str) -> None:
    """Its path and body arrive, and the work after the response is done when the response has ended."""
    response = client.open("/items", method=method, data=b"one")

    assert (200, f"{method} /items one") == (response.status_code, response.text)
    assert ["mail sent"] == handlers.done
