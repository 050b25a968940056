"""A scripted ASGI server as servers are: it tells as often as it is asked that the client has left, and checks nothing.

It plays requests and lifespans on asyncio and trio alike. The strict one is `scripted_asgi_server`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import anyio

from support.plain_servers import Event, scope_for
from support.waiting import PATIENCE


class LenientRequest:
    """One request as an ASGI server plays it, on asyncio and trio alike."""

    def __init__(self, app: Any, scope: dict[str, Any], events: Iterable[Event] = ()) -> None:
        self.app = app
        self.scope = scope
        self.sent: list[Event] = []
        self.error: BaseException | None = None
        self.over = False
        # While this is there, `send` waits for it: a slow client.
        self.hold: anyio.Event | None = None
        self.cancel_scope = anyio.CancelScope()
        self._events = list(events)
        self._news = anyio.Event()

    async def run(self) -> None:
        with self.cancel_scope:
            try:
                await self.app(self.scope, self._receive, self._send)
            except Exception as error:
                self.error = error
        self.over = True
        self._tell()

    def feed(self, *events: Event) -> None:
        self._events.extend(events)
        self._tell()

    def disconnect(self) -> None:
        self.feed({"type": "http.disconnect"})

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for an event after which `holds()`."""
        with anyio.fail_after(PATIENCE):
            while not holds():
                await self._news.wait()

    async def ended(self) -> "LenientRequest":
        await self.until(lambda: self.over)
        if self.error is not None:
            raise self.error
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent[1:])

    @property
    def complete(self) -> bool:
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)

    async def _receive(self) -> Event:
        while not self._events:
            await self._news.wait()
        event = self._events.pop(0)
        if event["type"] == "http.disconnect":
            self._events.append(event)  # every further call says so again
        return event

    async def _send(self, event: Event) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.sent.append(event)
        if self.complete:
            self.disconnect()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()


@contextlib.asynccontextmanager
async def opened_leniently(
    app: Any, scope: dict[str, Any] | None = None, *events: Event
) -> AsyncIterator[LenientRequest]:
    """A request that is under way; it has ended at the end."""
    exchange = LenientRequest(app, scope or scope_for("GET", "/"), events)
    with anyio.fail_after(2 * PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(exchange.run)
            yield exchange


async def fetch(app: Any, scope: dict[str, Any] | None = None, *events: Event) -> LenientRequest:
    """One request, from its beginning to its end; its error is raised."""
    exchange = LenientRequest(app, scope or scope_for("GET", "/"), events)
    with anyio.fail_after(2 * PATIENCE):
        await exchange.run()
    return await exchange.ended()


class Life:
    """The lifespan of an app, as an ASGI server runs it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self.sent: list[str] = []
        self._shutdown = anyio.Event()
        self._news = anyio.Event()
        self._asked = 0

    async def run(self) -> None:
        await self.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}, self._receive, self._send)

    async def shut_down(self) -> None:
        self._shutdown.set()
        await self._answered(2)

    async def start(self, group: Any) -> None:
        group.start_soon(self.run)
        await self._answered(1)

    async def _answered(self, count: int) -> None:
        with anyio.fail_after(PATIENCE):
            while len(self.sent) < count:
                await self._news.wait()

    async def _receive(self) -> Event:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        await self._shutdown.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, event: Event) -> None:
        self.sent.append(event["type"])
        self._news.set()
        self._news = anyio.Event()


@contextlib.asynccontextmanager
async def living(app: Any) -> AsyncIterator[Life]:
    """An ASGI server from its startup to its shutdown."""
    life = Life(app)
    async with anyio.create_task_group() as group:
        await life.start(group)
        yield life
        await life.shut_down()
