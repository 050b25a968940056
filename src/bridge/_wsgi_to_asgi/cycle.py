"""A request that is more than one event to and fro: the rest of its body, the pieces of the response, the client."""

import asyncio
import functools
import logging
from time import monotonic
from typing import Final

import anyio

from bridge._concurrency.jobs import PoolClosed
from bridge._concurrency.loops import spawner
from bridge._translate.events_to_input import BodyCounter
from bridge._translate.response_to_events import END, body_event
from bridge._types import Receive, Send
from bridge._wsgi_to_asgi.dispatchers import run_in_thread
from bridge._wsgi_to_asgi.refusals import truncated, unavailable
from bridge._wsgi_to_asgi.responder import Exchange
from bridge.errors import ClientDisconnected, ClientProtocolError

# Bytes of a collected body that go to its temporary file at once.
_SPOOL_STEP: Final = 256 * 1024
# How long the end of a request waits for the server's receive(), and on trio for its thread, in seconds.
_GRACE: Final = 1.0

_log = logging.getLogger("bridge")


class Request:
    """One such request, from an ASGI server."""

    def __init__(self, exchange: Exchange, receive: Receive, send: Send, body: BodyCounter | None) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._body = body
        self._watcher: asyncio.Task[None] | None = None
        self._started = self._ended = False

    async def collect(self, data: bytes, bound: int, *, stream: bool) -> None:
        """Receive the body after its first bytes `data`, before a thread is taken.

        Up to `bound` bytes of it where the application can be given the rest in pieces (`stream`); else all of it,
        into a file above `bound` bytes. Raises `ClientDisconnected` where that breaks off: it cannot be told from a
        whole body.
        """
        body, exchange = self._body, self._exchange
        assert body is not None
        chunks = [data]
        size = len(data)
        while not body.ended and (not stream or size < bound):
            data = await take_next(body, self._receive)
            chunks.append(data)
            size += len(data)
            if not stream and size > (bound if exchange.spool is None else _SPOOL_STEP):
                try:
                    await run_in_thread(exchange.side, functools.partial(exchange.start_spool().write, chunks))
                except PoolClosed as error:
                    raise unavailable(f"when no thread could be had ({error})") from error
                chunks, size = [], 0
        if stream and (not body.ended or body.truncated):
            exchange.set_partial_input(body, chunks)
        elif stream:
            exchange.set_input(b"".join(chunks))
        elif body.truncated:
            raise ClientDisconnected("the client left before the end of the request body")
        else:
            exchange.set_unannounced_input(body.received, chunks)

    async def serve(self) -> None:
        """Have a thread run the application, and follow it. Raises `ClientDisconnected` where the client has left."""
        if not self._exchange.side.crossing.is_asyncio:
            await self._serve_on_trio()
        elif self._body is not None and self._body.disconnected:
            start(self._exchange)
            raise ClientDisconnected("the client left before the end of the request body")
        else:
            start(self._exchange)
            await self.follow()

    async def follow(self) -> None:
        """Send what the thread tells, pass on what it asks for, and watch the client; on asyncio."""
        exchange = self._exchange
        if exchange.slow or exchange.stream is not None or (self._body is not None and not self._body.ended):
            self._start_watcher()
        else:
            exchange.on_slow = self._start_watcher
        try:
            await self._converse()
        except BaseException:
            # Cancelled by the server, or send() raised: for the thread this is a client that left.
            exchange.abandon()
            if self._watcher is not None:
                self._watcher.cancel()
            raise
        limit = monotonic() + _GRACE
        while exchange.stream is not None and not exchange.stream.closed and (left := limit - monotonic()) > 0:
            await exchange.side.crossing.wait_at_most(left, exchange.arrival())
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher], timeout=_GRACE)

    async def _serve_on_trio(self) -> None:
        failure = None
        ticking, watching = anyio.CancelScope(), anyio.CancelScope()

        async def tick() -> None:
            with ticking:
                await self._exchange.tick_until_finished()

        async def watch() -> None:
            with watching:
                await self._watch()

        async with anyio.create_task_group() as group:
            # The application may have tasks for this group, so that it is there first.
            self._exchange.spawn = spawner(group)
            try:
                start(self._exchange)
                group.start_soon(tick)
                if self._body is None or (self._body.ended and not self._body.disconnected):
                    self._exchange.on_slow = lambda: group.start_soon(watch)
                elif not self._body.ended:
                    group.start_soon(watch)
                await self._converse()
                with anyio.move_on_after(_GRACE):
                    # An ASGI application further in that the thread is about to start needs this group for it.
                    while not self._exchange.finished:
                        await self._exchange.arrival()
            except Exception as error:
                failure = error  # raised outside, so that it does not become a group
            finally:
                self._exchange.abandon()
                # Not the whole group: an ASGI application further in may have a while to end by itself.
                ticking.cancel()
                watching.cancel()
        if failure is not None:
            raise failure

    async def _converse(self) -> None:
        exchange = self._exchange
        while True:
            if exchange.out:
                await self._send_items()
            elif exchange.done or (self._ended and exchange.stream is not None):
                if self._ended or not exchange.whole:
                    break
                exchange.out.extend(exchange.whole)
            elif exchange.gone:
                break
            else:
                if exchange.stream is not None and exchange.finished:
                    exchange.stream.start()
                    self._start_watcher()
                await exchange.arrival()
        if self._ended:
            exchange.side.counters.served += 1
        elif exchange.gone:
            exchange.side.counters.client_disconnects += 1
        else:
            self._fail(exchange.error)

    async def _send_items(self) -> None:
        """Send what is there, chunks that have piled up as one."""
        out, send = self._exchange.out, self._send
        chunks: list[bytes] = []
        path_sent = False
        while out and not self._ended:
            item = out.popleft()
            if item is END:
                self._ended = True
            elif isinstance(item, bytes):
                chunks.append(item)
            else:
                self._started = True
                path_sent = item["type"] == "http.response.pathsend"
                await send(item)
        told_size = self._exchange.told_size
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if body or (self._ended and not path_sent):
            await send(body_event(body, more=not self._ended))
        await self._exchange.handed_on()
        self._exchange.took(told_size)

    def _fail(self, error: BaseException | None) -> None:
        """Let the server answer 500, or abort the response that has begun."""
        if not self._started:
            if isinstance(error, PoolClosed):
                raise unavailable(f"when {error}") from error
            if isinstance(error, ClientProtocolError):
                raise error
            if isinstance(error, ClientDisconnected):
                raise truncated(error)
        if isinstance(error, Exception) and not isinstance(error, (ClientProtocolError, ClientDisconnected)):
            raise error
        raise RuntimeError(f"the application's response cannot be completed: {error!r}") from error

    def _start_watcher(self) -> None:
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """Pass the rest of the body to the thread, then wait for the client to leave."""
        call, body = self._exchange, self._body
        try:
            if body is not None:
                while not body.ended:
                    await call.room()
                    data = await take_next(body, self._receive)
                    if data:
                        call.give(data)
                call.give(b"")
                if body.disconnected:
                    self._lose()
                    return
            over = body is not None and body.final
            while (event := await self._receive())["type"] != "http.disconnect":
                if over:
                    # ASGI HTTP, "Disconnect": nothing else may come now. Whoever sends it may do so without end.
                    _log.warning("the server sent a request event after the request; no longer watching its client")
                    return
                over = not event.get("more_body", False)
            self._lose()
        except ClientProtocolError as refusal:
            call.refuse(refusal)
            call.give(b"")
        except Exception:
            _log.exception("the server's receive() raised; taking the client for gone")
            self._lose()

    def _lose(self) -> None:
        """The client has left; after the end of the response that is no matter of the application's."""
        if not self._ended:
            self._exchange.abandon()


async def take_next(body: BodyCounter, receive: Receive) -> bytes:
    """The next bytes; the last ones once their end has come: Hypercorn 0.18 ends a connection that is ahead of it."""
    data = body.take(await receive())
    while body.whole and not body.ended:
        body.take(await receive())
    return data


def start(exchange: Exchange) -> None:
    """Have a thread run the application. Raises `ClientProtocolError` (503) where none can be had."""
    try:
        exchange.start()
    except RuntimeError as error:
        raise unavailable(f"when no thread could be had ({error})") from error
