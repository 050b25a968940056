"""Small ASGI apps, and what they are made of."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from support.plain_servers import Event
from support.waiting import Flag

START = {"type": "http.response.start", "status": 200}
END = {"type": "http.response.body"}


async def start(send: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def chunk(send: Any, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def end(send: Any) -> None:
    await send({"type": "http.response.body"})


async def reply(send: Any, body: bytes = b"", status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a whole response."""
    await start(send, status, headers)
    await chunk(send, body, more=False)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, b"hello")


async def read_body(receive: Callable[[], Awaitable[Event]]) -> bytes:
    """The whole request body; a client that left is a `ConnectionError`."""
    pieces = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ConnectionError(event["type"])
        pieces.append(event["body"])
        if not event["more_body"]:
            return b"".join(pieces)


def part(data: bytes) -> Event:
    """A piece of the response body with more to come."""
    return {"type": "http.response.body", "body": data, "more_body": True}


def sending(*events: Any) -> Any:
    """An ASGI app that sends these events."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for event in events:
            await send(event)

    return app


def asgi(*chunks: bytes, status: int = 200, headers: Any = ()) -> Any:
    """An ASGI app that answers with these chunks, each an event of its own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    return app


class Lifespan:
    """An ASGI app that supports lifespan around `http`; tells in `events` what happened, in order."""

    def __init__(self, http: Any = hello, state: dict[str, Any] | None = None) -> None:
        self._http = http
        self._state = state or {}
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._http(scope, receive, send)
            return
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"].update(self._state)
        self.events.append("startup")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, await read_body(receive))


class Recorder:
    """An app that keeps what it received, and asks again after a disconnect."""

    def __init__(self, asks: int = 100) -> None:
        self.events: list[Any] = []
        self.over = Flag()
        self._asks = asks

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for _ in range(self._asks):
            event = await receive()
            self.events.append(event)
            if event["type"] == "http.disconnect":
                self.events.append(await receive())
                break
            if not event["more_body"]:
                break
        self.over.set()
        await reply(send)

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


async def returns_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass
