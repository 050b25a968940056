"""The table of `bridge mounts`."""

import sys
import types
from typing import Any

import pytest

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi
from bridge.cli._mounts import show_mounts


def old(environ: Any, start_response: Any) -> Any:
    return []


async def new(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.fixture(name="module")
def module_fixture(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("mountshop")
    monkeypatch.setitem(sys.modules, "mountshop", module)
    for function in (old, new):
        monkeypatch.setattr(function, "__module__", "mountshop")
    return module


@pytest.mark.parametrize("side", ["site", "site.asgi", "site.wsgi"])
def test_it_shows_what_runs_how(module: Any, side: str, capsys: pytest.CaptureFixture[str]) -> None:
    inner = Mounts({"/v2": new, "/": old})
    module.site = Mounts({"/": old, "/api": new, "/in": inner, "/mine": WsgiToAsgi(old), "/yours": AsgiToWsgi(new)})

    assert 0 == show_mounts(f"mountshop:{side}")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ") for line in lines if line.startswith("prefix")]
    assert [
        ["/", "mountshop.old", "wsgi", "adapted", "natively"],
        ["/api", "mountshop.new", "asgi", "natively", "adapted"],
        ["/in", "<Mounts", "/v2,", "/>", "both", "natively", "natively"],
        ["/in", "mountshop.old", "wsgi", "adapted", "natively"],
        ["/in/v2", "mountshop.new", "asgi", "natively", "adapted"],
        ["/mine", "bridge.WsgiToAsgi", "asgi", "natively", "natively"],
        ["/yours", "bridge.AsgiToWsgi", "wsgi", "natively", "natively"],
    ] == [line.split() for line in lines[1:]]


def test_without_mounts_there_is_a_table_without_rows(module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    module.site = Mounts({})

    assert 0 == show_mounts("mountshop:site")
    assert 1 == len(capsys.readouterr().out.splitlines())


def test_it_wants_mounts(module: Any) -> None:
    module.app = old

    with pytest.raises(SystemExit, match=r"expected a bridge.Mounts, but mountshop:app is mountshop.old, which speaks"):
        show_mounts("mountshop:app")
