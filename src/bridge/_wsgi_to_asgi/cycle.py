"""A request with more than one event in either direction: the rest of its body, the chunks of the response, the
disconnect of its client.
"""

import asyncio
import functools
import io
import logging
from contextvars import copy_context
from time import monotonic
from typing import Final

import anyio

from bridge._concurrency.calls import TICK_SECONDS, run_in_thread
from bridge._concurrency.interrupts import may_pass
from bridge._concurrency.jobs import PoolClosed
from bridge._concurrency.loops import spawner
from bridge._log_once import warn_once
from bridge._translate.events_to_input import BodyCounter
from bridge._translate.response_to_events import END, body_event
from bridge._types import Event, Receive, Send
from bridge._wsgi_to_asgi.refusals import answer_nobody, truncated, unavailable
from bridge._wsgi_to_asgi.request_body import RequestBody, SpoolFile
from bridge._wsgi_to_asgi.responder import Responder, WsgiResponder
from bridge.errors import ClientDisconnected, ClientProtocolError

# Bytes of a collected body that are written to its temporary file at once.
_SPOOL_STEP_BYTES: Final = 256 * 1024
# How long the end of a request waits for the server's receive(), and on trio for its thread.
_END_GRACE_SECONDS: Final = 1.0

# A server that reports a disconnect sooner than this has not waited for one.
_AT_ONCE_SECONDS: Final = 0.005
# How long to wait for a response after such a report.
_DOUBT_SECONDS: Final = 2.0
# After so many responses that were ready all the same, the server is not believed any more.
_HASTY_DISCONNECTS: Final = 2

_log = logging.getLogger("bridge")


class RequestResponseCycle:
    """One request that is received, watched or answered step by step.

    Only this class and `adapter.py` await `receive` and `send`.
    """

    def __init__(self, responder: Responder, receive: Receive, send: Send, counter: BodyCounter | None) -> None:
        self._responder = responder
        self._receive = receive
        self._send = send
        self._counter = counter
        self._watcher: asyncio.Task[None] | None = None
        self._ended = False
        # The response has begun.
        self.started = False
        # The request has been counted.
        self.counted = False
        # The server has reported a disconnect that may be false, and until when to wait for the response all the same.
        self._doubtful = False
        self._doubt_ends = 0.0

    async def collect(self, data: bytes, bound: int, *, stream: bool) -> None:
        """Receive the body after its first bytes `data`, before a thread is taken.

        Up to `bound` bytes if the application can get the rest in pieces (`stream`). Otherwise the whole body, in a
        file if it is larger than `bound` bytes. Raises `ClientDisconnected` if the whole body breaks off: the
        application could not tell it from a complete body.
        """
        counter, responder = self._counter, self._responder
        assert counter is not None
        chunks = [data]
        size = len(data)
        spooled = None
        while not counter.ended and (not stream or size < bound):
            data = await take_next(counter, self._receive)
            chunks.append(data)
            size += len(data)
            if not stream and size > (bound if spooled is None else _SPOOL_STEP_BYTES):
                if spooled is None:
                    spooled = responder.body = RequestBody(counter, None)
                    spooled.file = SpoolFile()
                assert spooled.file is not None
                try:
                    await run_in_thread(responder.dispatcher, functools.partial(spooled.file.write, chunks))
                except PoolClosed as error:
                    raise unavailable(f"when no thread could be started ({error})") from error
                chunks, size = [], 0
        if stream and (not counter.ended or counter.truncated):
            assert isinstance(responder, WsgiResponder)
            responder.body = RequestBody(counter, responder)
            responder.body.keep(chunks)
            return
        if not stream:
            if counter.truncated:
                raise ClientDisconnected("the client left before the end of the request body")
            # Now it has a length, and no transfer coding any more (RFC 9112 7.1.3).
            responder.environ["CONTENT_LENGTH"] = str(counter.received)
            responder.environ.pop("HTTP_TRANSFER_ENCODING", None)
        if spooled is None:
            responder.environ["wsgi.input"] = io.BytesIO(b"".join(chunks))
        else:
            spooled.keep(chunks)

    def await_demand(self) -> None:
        """Receive nothing until the application reads the body: it may refuse the request because of its headers."""
        assert self._counter is not None
        responder = self._responder
        assert isinstance(responder, WsgiResponder)
        responder.fed_on_demand = True
        responder.body = RequestBody(self._counter, responder)

    async def serve(self) -> None:
        """Let a thread run the application, and follow it. Raises `ClientDisconnected` if the client has left."""
        if not self._responder.dispatcher.loop.is_asyncio:
            await self._serve_on_trio()
        elif self._counter is not None and self._counter.truncated and self._counter.disconnected:
            start(self._responder)
            raise ClientDisconnected("the client left before the end of the request body")
        else:
            start(self._responder)
            await self.follow()

    async def follow(self) -> None:
        """Send what is written, pass on what the thread asks for, and watch the client. On asyncio."""
        responder = self._responder
        if responder.slow or responder.stream is not None or (self._counter is not None and not self._counter.ended):
            self._start_watcher()
        else:
            # It is called by code that serves all requests, so the watcher gets the context of its own request.
            responder.on_slow = functools.partial(copy_context().run, self._start_watcher)
        try:
            await self._converse()
        except BaseException:
            # Cancelled by the server, or send() raised: for the thread this is the same as a client that left.
            responder.abandon()
            if self._watcher is not None:
                self._watcher.cancel()
            raise
        finally:
            # The thread may go on for long, and then count as slow. By then, nobody may call receive() any more.
            responder.on_slow = None
        try:
            limit = monotonic() + _END_GRACE_SECONDS
            while responder.stream is not None and not responder.stream.closed and (left := limit - monotonic()) > 0:
                await responder.dispatcher.loop.wait_at_most(left, responder.changed())
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
        if self._watcher is not None:
            await asyncio.wait([self._watcher], timeout=_END_GRACE_SECONDS)

    async def _serve_on_trio(self) -> None:
        failure: BaseException | None = None
        responder, counter = self._responder, self._counter
        ticking, watching = anyio.CancelScope(), anyio.CancelScope()

        async def tick() -> None:
            with ticking:
                while not responder.finished:
                    await anyio.sleep(TICK_SECONDS)
                    responder.dispatcher.tick(responder)

        async def watch() -> None:
            with watching:
                await self._watch()

        async with anyio.create_task_group() as group:
            # The application may have tasks for this group, so the group is made first.
            responder.spawn = spawner(group)
            try:
                start(responder)
                group.start_soon(tick)
                if counter is None or (counter.ended and not counter.truncated):
                    responder.on_slow = lambda: group.start_soon(watch)
                elif not counter.ended:
                    group.start_soon(watch)
                await self._converse()
                with anyio.move_on_after(_END_GRACE_SECONDS):
                    # A nested ASGI application that the thread starts needs this group.
                    while not responder.finished:
                        await responder.changed()
            except BaseException as error:
                if not may_pass(error):
                    raise
                failure = error  # raised outside, so that it does not become a group
            finally:
                responder.abandon()
                # Not the whole group: a nested ASGI application gets some time to end by itself.
                ticking.cancel()
                watching.cancel()
        if failure is not None:
            raise failure

    async def _converse(self) -> None:
        responder = self._responder
        while True:
            output = responder.output
            if output is not None and output.items:
                if self._doubtful:
                    responder.abandon()  # it is a stream, which may never end
                    self._doubtful = False
                await self._send_items()
            elif responder.done or (self._ended and responder.stream is not None):
                if self._ended or responder.whole is None or (self._given_up and not self._doubtful):
                    break
                await self._send_whole(*responder.whole)
            elif responder.abandoned:
                if not self._doubtful or (left := self._doubt_ends - monotonic()) <= 0:
                    break
                await responder.dispatcher.loop.wait_at_most(left, responder.changed())
            else:
                if responder.stream is not None and responder.finished:
                    responder.stream.start()
                    self._start_watcher()
                await responder.changed()
        self._conclude()
        if not self.started:
            await answer_nobody(self._send)

    @property
    def _given_up(self) -> bool:
        """Whether nobody waits for the response.

        The thread may see that the body broke off, and end, before the responder is abandoned.
        """
        counter = self._counter
        return self._responder.abandoned or (counter is not None and counter.truncated and counter.disconnected)

    def _conclude(self) -> None:
        """Count the request. If it failed, raise the exception for the server."""
        responder = self._responder
        if self._ended:
            responder.dispatcher.counters.served += 1
            self.counted = True
        elif self._given_up:
            responder.dispatcher.counters.client_disconnects += 1
            self.counted = True
        else:
            self._fail(responder.error)

    async def _send_whole(self, head: Event, body: bytes) -> None:
        self.started = self._ended = True
        if self._doubtful:
            if (hasty := self._responder.dispatcher.hasty) is not None:
                self._responder.dispatcher.hasty = hasty + 1
            warn_once(
                "disconnect at once",
                "the server said right after a request that its client had left; the response is sent anyway",
            )
        await self._send(head)
        await self._send(body_event(body, more=False))
        await self._responder.yield_to_middleware()

    async def _send_items(self) -> None:
        """Send what has been written. Chunks that have piled up are sent as one."""
        responder, send = self._responder, self._send
        output = responder.output
        assert output is not None
        chunks: list[bytes] = []
        path_sent = False
        written: int | None = None
        items = output.items
        while items:
            item = items.popleft()
            if isinstance(item, bytes):
                chunks.append(item)
            elif isinstance(item, int):
                written = item
            elif item is END:
                self._ended = True
            else:
                self.started = True
                path_sent = item["type"] == "http.response.pathsend"
                await send(item)
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if body or (self._ended and not path_sent):
            await send(body_event(body, more=not self._ended))
        await responder.yield_to_middleware()
        if written is not None:
            responder.acknowledge(written)

    def _fail(self, error: BaseException | None) -> None:
        """Let the server answer 500, or abort a response that has begun."""
        if not self.started:
            if isinstance(error, PoolClosed):
                raise unavailable(f"when {error}") from error
            if isinstance(error, ClientProtocolError):
                raise error
            if isinstance(error, ClientDisconnected):
                raise truncated(error)
        if error is not None and may_pass(error) and not isinstance(error, (ClientProtocolError, ClientDisconnected)):
            raise error
        raise RuntimeError(f"the application's response cannot be completed: {error!r}") from error

    def _start_watcher(self) -> None:
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """Pass the rest of the body to the thread, then wait for the client to leave."""
        counter = self._counter
        try:
            if counter is not None:
                if not counter.ended:
                    await self._feed(counter)
                if counter.disconnected:
                    self._lose(at_once=not counter.truncated)
                    return
                if (body := self._responder.body) is not None and body.unwanted:
                    return  # asking for it now would make the client send it
            if await self._await_disconnect(over=counter is not None and counter.final):
                self._lose(at_once=True)
        except Exception:
            _log.exception("the server's receive() raised; treating the client as gone")
            self._lose()

    async def _await_disconnect(self, *, over: bool) -> bool:
        """Wait for `http.disconnect`. Returns False if waiting is not possible. `over` says that everything else has
        been received.
        """
        began = monotonic()
        try:
            while (event := await self._receive())["type"] != "http.disconnect":
                if over:
                    # ASGI HTTP, "Disconnect": nothing else may come now. A server that sends something else may never
                    # stop.
                    warn_once(
                        "request event after the request",
                        "the server sent a request event after the request; no longer watching its client",
                    )
                    return False
                over = not event.get("more_body", False)
        finally:
            if monotonic() - began > _AT_ONCE_SECONDS:
                self._responder.dispatcher.hasty = None
        return True

    async def _feed(self, counter: BodyCounter) -> None:
        """Pass the rest of the body to the thread."""
        body = self._responder.body
        assert body is not None
        try:
            while not counter.ended:
                await body.wait_for_room()
                if body.unwanted:
                    return
                data = await take_next(counter, self._receive)
                if data:
                    body.feed(data)
            body.feed(b"")
        except ClientProtocolError as refusal:
            body.refuse(refusal)

    def _lose(self, *, at_once: bool = False) -> None:
        """Note that the client has left. After the end of the response, this does not concern the application.

        If the server reports this `at_once`, and has never waited before, it may do so for every request (tigrcorn 0.3
        does). Then a response that is soon complete is sent anyway. After some of these, only streams are given up.
        """
        if self._ended:
            return
        dispatcher = self._responder.dispatcher
        if at_once and dispatcher.hasty is not None and not self.started:
            self._doubtful = True
            self._doubt_ends = monotonic() + _DOUBT_SECONDS
            if dispatcher.hasty >= _HASTY_DISCONNECTS:
                self._responder.wake()
                return
        self._responder.abandon()


async def take_next(counter: BodyCounter, receive: Receive) -> bytes:
    """Return the next bytes. The last bytes are returned only after the end of the body has come: Hypercorn 0.18 ends
    the connection if the response comes first.
    """
    data = counter.take(await receive())
    while counter.received == counter.length and not counter.ended:
        counter.take(await receive())
    return data


def start(responder: Responder) -> None:
    """Start to make the response. Raises `ClientProtocolError` (503) if no thread can be started."""
    try:
        responder.start()
    except RuntimeError as error:
        raise unavailable(f"when no thread could be started ({error})") from error
