"""A scripted ASGI server for `WsgiToAsgi`, on asyncio, uvloop and trio: each step of a request is the test's.

It offers as little as a server may: what `receive` and `send` return is awaitable but no coroutine, a second
`receive()` after `http.disconnect` never returns. Every wait ends after `PATIENCE` seconds.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any

import anyio
import anyio.to_thread
import sniffio

from bridge import WsgiToAsgi
from support.plain_servers import scope_for
from support.waiting import PATIENCE

Environ = dict[str, Any]
Event = dict[str, Any]
Scope = dict[str, Any]
# What the fixture `adapt` is: it makes adapters, which are closed after the test.
Adapt = Callable[..., WsgiToAsgi]
DISCONNECT: Event = {"type": "http.disconnect"}


# --- requests ---------------------------------------------------------------------------------------------------------


def get(path: str = "/", headers: Iterable[tuple[bytes, bytes]] = (), **changed: Any) -> tuple[Scope, list[Event]]:
    """The scope of a request without a body, and its events."""
    return scope_for("GET", path, [*headers], **changed), []


def post(
    *pieces: bytes,
    length: int | None = -1,
    ends: bool = True,
    path: str = "/",
    headers: Iterable[tuple[bytes, bytes]] = (),
    **changed: Any,
) -> tuple[Scope, list[Event]]:
    """The scope of a request with a body, and the events of its `pieces`.

    `length` is the Content-Length (-1: the right one; None: none, so a chunked body). With `ends=False` the last piece
    promises more, which comes when the test feeds it.
    """
    if length == -1:
        length = sum(map(len, pieces))
    framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
    scope = scope_for("POST", path, [framing, *headers], **changed)
    return scope, [piece_event(piece, more=at < len(pieces) - 1 or not ends) for at, piece in enumerate(pieces)]


def piece_event(body: bytes, *, more: bool) -> Event:
    """One `http.request` event."""
    return {"type": "http.request", "body": body, "more_body": more}


class _Awaitable:
    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


class Request:
    """One call of an ASGI app as a server makes it: hands out events, takes events, notes each broken rule.

    `on_send` is awaited before an event is taken, as long as the client is there; it may wait (a slow client) or raise.
    """

    def __init__(
        self, app: Any, scope: Scope, events: Sequence[Event], on_send: Callable[[Event], Awaitable[None]] | None
    ) -> None:
        self.scope = scope
        self.sent: list[Event] = []
        self.received = 0
        self.broken: list[str] = []
        self.error: BaseException | None = None
        self.cancelled = False
        self.over = False
        self.sending: Event | None = None
        self.gate = anyio.Event()  # what a slow client waits for; open once it has left
        self._app = app
        self._on_send = on_send
        self._incoming = deque(events)
        self._asking = False
        self._gone = False
        self._left = False
        self._task = 0
        self._cancel: Callable[[], object] = lambda: None
        self._changed = anyio.Event()

    # what the client and the server do

    def feed(self, *events: Event) -> None:
        """Events that are there to be received from now on."""
        self._incoming.extend(events)
        self._notify()

    def leave(self) -> None:
        """The client closes the connection."""
        self._left = True
        self.gate.set()
        self.feed(DISCONNECT)

    def cancel(self) -> None:
        """The server gives the request up."""
        self._cancel()

    # what the test waits for

    async def until(self, holds: Callable[["Request"], object]) -> None:
        """Wait until something holds, which it must while the call is running."""
        with anyio.fail_after(PATIENCE):
            while not holds(self):
                assert not self.over, f"the call ended first: {self.error!r}, {self.sent}"
                await self._changed.wait()

    async def asked(self) -> None:
        """Wait until the app waits for an event that is not there."""
        await self.until(lambda _: self._asking and not self._incoming)

    async def ended(self) -> None:
        """Wait for the end of the call."""
        with anyio.fail_after(PATIENCE):
            while not self.over:
                await self._changed.wait()

    # what came of it

    @property
    def status(self) -> int:
        """The status, 0 where no response began."""
        return int(self.sent[0]["status"]) if self.sent else 0

    def header(self, name: bytes) -> list[bytes]:
        """The values of one response header."""
        return [value for key, value in self.sent[0]["headers"] if key == name]

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent)

    @property
    def complete(self) -> bool:
        """Whether the response was ended as a whole one."""
        last = self.sent[-1] if self.sent else {"type": ""}
        if last["type"] == "http.response.pathsend":
            return True
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    # the server

    async def run(self) -> None:
        """Make the call."""
        self._task = anyio.get_current_task().id
        try:
            if sniffio.current_async_library() == "trio":
                with anyio.CancelScope() as scope:
                    self._cancel = scope.cancel
                    await self._call()
                self.cancelled = scope.cancelled_caught
            else:
                await self._call_on_asyncio()
        finally:
            self.over = True
            self._notify()

    async def _call_on_asyncio(self) -> None:
        # The way servers cancel there: once, and not for as long as it takes, as anyio would.
        task = asyncio.current_task()
        assert task is not None
        ours = False

        def cancel() -> None:
            nonlocal ours
            ours = True
            task.cancel()

        self._cancel = cancel
        try:
            await self._call()
        except asyncio.CancelledError:
            if not ours:
                raise
            task.uncancel()
            self.cancelled = True

    async def _call(self) -> None:
        try:
            await self._app(self.scope, self._receive, self._send)
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            self.error = error

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _receive(self) -> _Awaitable:
        return _Awaitable(self._next_event())

    def _send(self, event: Event, /) -> _Awaitable:
        return _Awaitable(self._take(event))

    async def _next_event(self) -> Event:
        self.received += 1
        if self._gone:
            self.broken.append("receive() was called again after http.disconnect")
            await anyio.sleep_forever()
        try:
            while not self._incoming:
                self._asking = True
                self._notify()
                await self._changed.wait()
        finally:
            self._asking = False
        event = self._incoming.popleft()
        self._gone = event["type"] == "http.disconnect"
        return event

    async def _take(self, event: Event) -> None:
        if anyio.get_current_task().id != self._task:
            self.broken.append(f"{event['type']} was sent from another task")
        if self.sending is not None:
            self.broken.append(f"{event['type']} was sent while another event was on its way")
        if self.complete:
            self.broken.append(f"{event['type']} was sent after the end")
        self.sending = event
        self._notify()
        try:
            if self._on_send is not None and not self._left:
                await self._on_send(event)
        finally:
            self.sending = None
        self.sent.append(event)
        if self.complete and not self._left:
            self.feed(DISCONNECT)
        self._notify()


@contextlib.asynccontextmanager
async def opened(
    app: Any,
    scope: Scope,
    events: Sequence[Event] = (),
    on_send: Callable[[Event], Awaitable[None]] | None = None,
    *,
    fails: bool = False,
) -> AsyncIterator[Request]:
    """A call that is under way, and must be over at the end; raises what it raised unless it `fails`."""
    request = Request(app, scope, events, on_send)
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(request.run)
        try:
            yield request
            await request.ended()
        except Exception as error:
            failure = error  # outside, so that it does not become a group
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    assert request.broken == []
    if fails:
        assert isinstance(request.error, Exception), f"no server survives {request.error!r}"
    elif request.error is not None:
        raise request.error


async def serve(app: Any, scope: Scope, events: Sequence[Event] = (), *, fails: bool = False) -> Request:
    """One call from its beginning to its end."""
    async with opened(app, scope, events, fails=fails) as request:
        pass
    return request


@contextlib.asynccontextmanager
async def lifespan(app: Any, state: dict[str, Any] | None = None) -> AsyncIterator[Request]:
    """The lifespan of a server: started when entered, and shut down at the end."""
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
    if state is not None:
        scope["state"] = state
    async with opened(app, scope, [{"type": "lifespan.startup"}]) as server:
        await server.until(lambda _: server.sent)
        yield server
        server.feed({"type": "lifespan.shutdown"})


def types_of(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]
