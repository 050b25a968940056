"""Sessions of `AsgiToWsgi` on a server of the standard library, and what their apps do first."""

import contextlib
from collections.abc import Iterator
from typing import Any

from bridge import AsgiToWsgi
from support.scripted_wsgi_server import adapted
from support.waiting import Flag, Work
from support.websocket_clients import Client, Closed, Site, site


@contextlib.contextmanager
def opened(app: Any, **options: Any) -> Iterator[tuple[Site, Client]]:
    """A site, and a client of it that has not opened yet."""
    with adapted(app, **options) as adapter, site(adapter) as running, running.connect() as client:
        yield running, client


async def accept(receive: Any, send: Any, **more: Any) -> None:
    assert {"type": "websocket.connect"} == await receive()
    await send({"type": "websocket.accept", **more})


def close_under(adapter: AsgiToWsgi, client: Client) -> int:
    """Close the adapter while the client's session is open. The code of the close frame that the client gets."""
    closing = Work(adapter.close)
    closed = client.receive()
    assert isinstance(closed, Closed)
    client.answer_close(closed)
    closing.result()
    return closed.code


class Recording:
    """An app that accepts, and notes what it receives until the client leaves."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.scope: Any = None
        self.ended = Flag()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        await accept(receive, send)
        while True:
            self.events.append(await receive())
            if self.events[-1]["type"] == "websocket.disconnect":
                break
        self.ended.set()

    @property
    def departure(self) -> tuple[int, str]:
        self.ended.wait()
        return self.events[-1]["code"], self.events[-1]["reason"]
