"""What a server imports that `bridge serve` has started: the app, as that server wants it."""

import json
import sys
import types
from typing import Any

import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge.cli._servers import KEY


def old(environ: Any, start_response: Any) -> Any:
    return []


async def new(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.fixture(autouse=True)
def serveshop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with an app of each kind."""
    module: Any = types.ModuleType("serveshop")
    module.old, module.new = old, new
    monkeypatch.setitem(sys.modules, "serveshop", module)


@pytest.mark.parametrize(
    ("wanted", "app", "kind"),
    [("asgi", "old", WsgiToAsgi), ("asgi", "new", None), ("wsgi", "new", AsgiToWsgi), ("wsgi", "old", None)],
)
def test_what_the_server_imports(wanted: str, app: str, kind: type | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, json.dumps({"app": f"serveshop:{app}", "wanted": wanted, "threads": 3}))
    monkeypatch.delitem(sys.modules, "bridge.cli._served", raising=False)

    from bridge.cli._served import app as served

    monkeypatch.delitem(sys.modules, "bridge.cli._served")
    assert served is globals()[app] if kind is None else type(served) is kind
    if kind is WsgiToAsgi:
        assert 3 == served._dispatchers._limit


def test_what_the_server_imports_is_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.delitem(sys.modules, "bridge.cli._served", raising=False)

    with pytest.raises(RuntimeError, match="is for the servers that `bridge serve` starts"):
        import bridge.cli._served  # noqa: F401
