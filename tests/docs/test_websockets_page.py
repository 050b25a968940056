"""The check of Origin that docs/websockets.md shows."""

from typing import Any

import pytest

import bridge
from support.markdown import blocks
from support.paths import ROOT
from support.websocket_clients import Accepted, Rejected, site

PAGE = ROOT / "docs" / "websockets.md"


async def welcomes(scope: Any, receive: Any, send: Any) -> None:
    """Lets everybody in."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [([(b"Origin", b"https://example.org")], True), ([(b"Origin", b"https://example.net")], False), ([], False)],
    ids=["own", "foreign", "none"],
)
def test_who_is_let_in(headers: list[tuple[bytes, bytes]], let_in: bool) -> None:
    """A page of the app's own, and no other."""
    (code,) = [code for code in blocks(PAGE.read_text(encoding="utf-8"), "python") if "origin" in code]
    names: dict[str, Any] = {}
    exec(code, names)
    with (
        bridge.AsgiToWsgi(names["from_own_pages"](welcomes), lifespan="off") as adapter,
        site(adapter) as server,
        server.connect() as client,
    ):
        answer = client.open(headers=headers)
        if let_in:
            assert isinstance(answer, Accepted)
            client.close()
        else:
            assert isinstance(answer, Rejected)
            assert 403 == answer.status
