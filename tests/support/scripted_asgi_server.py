"""A scripted ASGI server for `WsgiToAsgi`, on asyncio, uvloop and trio: each step of a request is the test's.

It offers as little as a server may: what `receive` and `send` return is awaitable but no coroutine, a second
`receive()` after `http.disconnect` never returns. It notes each rule of ASGI that an adapter breaks. Every wait ends
after `PATIENCE` seconds.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

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


class Sent(NamedTuple):
    """What a client has sent: the scope of its request, and the events that are there when they are asked for."""

    scope: Scope
    events: Sequence[Event]


def get(path: str = "/", headers: Iterable[tuple[bytes, bytes]] = (), method: str = "GET", **changed: Any) -> Sent:
    """A request without a body. Of GET and HEAD over HTTP/1.1 its head says so, else an event does."""
    told = method in ("GET", "HEAD") and changed.get("http_version") != "2"
    events = [] if told else [piece_event(b"", more=False)]
    return Sent(scope_for(method, path, [*headers], **changed), events)


def post(
    *pieces: bytes,
    length: int | None = -1,
    ends: bool = True,
    path: str = "/",
    headers: Iterable[tuple[bytes, bytes]] = (),
    **changed: Any,
) -> Sent:
    """A request with a body in `pieces`.

    `length` is the Content-Length (-1: the right one; None: none, so a chunked body). With `ends=False` the last piece
    promises more, which comes when the test feeds it.
    """
    if length == -1:
        length = sum(map(len, pieces))
    framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
    scope = scope_for("POST", path, [framing, *headers], **changed)
    return Sent(scope, [piece_event(piece, more=at < len(pieces) - 1 or not ends) for at, piece in enumerate(pieces)])


def piece_event(body: bytes, *, more: bool) -> Event:
    """One `http.request` event."""
    return {"type": "http.request", "body": body, "more_body": more}


class _Awaitable:
    """The least that ASGI promises of `receive()` and `send()`: something to await, not a coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


class Request:
    """One call of an ASGI app as a server makes it: hands out events, takes events, notes each broken rule.

    `on_send` is awaited before an event is taken, as long as the client is there; it may wait (a slow client) or raise.
    """

    def __init__(
        self,
        app: Any,
        scope: Scope,
        events: Sequence[Event] = (),
        on_send: Callable[[Event], Awaitable[None]] | None = None,
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

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds, which it must while the call is running."""
        with anyio.fail_after(PATIENCE):
            while not holds():
                assert not self.over, f"the call ended first: {self.error!r}, {self.sent}"
                await self._changed.wait()

    async def asked(self) -> None:
        """Wait until the app waits for an event that is not there."""
        await self.until(lambda: self._asking and not self._incoming)

    async def ended(self) -> None:
        """Wait for the end of the call."""
        with anyio.fail_after(PATIENCE):
            while not self.over:
                await self._changed.wait()

    # what came of it

    @property
    def started(self) -> bool:
        return any(event["type"] == "http.response.start" for event in self.sent)

    @property
    def status(self) -> int:
        """The status, 0 where no response began."""
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(bytes(name), bytes(value)) for name, value in self.sent[0]["headers"]]

    def header(self, name: bytes) -> list[bytes]:
        """The values of one response header."""
        return [value for key, value in self.headers if key == name]

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent)

    @property
    def chunks(self) -> list[bytes]:
        """The pieces of the body that are not empty."""
        return [event["body"] for event in self.sent if event.get("body")]

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
        self.broken.extend(faults(event, self.sent))
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


def faults(event: Event, sent: Sequence[Event]) -> Iterator[str]:
    """The rules of ASGI that an event of the application breaks after those it `sent` before."""
    kind = event["type"]
    kinds = [earlier["type"] for earlier in sent]
    if any(ends(earlier) for earlier in sent):
        yield f"{kind} was sent after the end"
    if kind.endswith("http.response.start"):
        if kind in kinds:
            yield "a second start was sent"
        yield from faults_of_start(event)
    elif kind.endswith(("http.response.body", "http.response.pathsend")):
        if not any(earlier.endswith("http.response.start") for earlier in kinds):
            yield f"{kind} was sent before the start"
        if type(event.get("body", b"")) is not bytes or type(event.get("more_body", False)) is not bool:
            yield f"{event} has values of a wrong type"
    elif not kind.startswith(("lifespan.", "websocket.")):
        yield f"{kind} is none of the events that were offered"


def ends(event: Event) -> bool:
    """Whether nothing may follow this event."""
    kind = event["type"]
    whole = kind.endswith("http.response.body") and not event.get("more_body", False)
    return whole or kind in ("http.response.pathsend", "websocket.close")


def faults_of_start(event: Event) -> Iterator[str]:
    """What is wrong with the status and the headers of a start."""
    if type(event["status"]) is not int:
        yield f"the status is {event['status']!r}"
    for name, value in event["headers"]:
        if not (isinstance(name, bytes) and isinstance(value, bytes)):
            yield f"the header {name!r}: {value!r} is not of bytes"
        elif name != name.lower() or not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name):
            yield f"the header name {name!r} is not a lower-case token"
        elif re.search(rb"[\r\n\0]", value):
            yield f"the header {name!r} has a control character in {value!r}"


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
        await server.until(lambda: server.sent)
        yield server
        server.feed({"type": "lifespan.shutdown"})


def types_of(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]
