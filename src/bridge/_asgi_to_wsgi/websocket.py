"""WebSockets for an ASGI app behind a WSGI server: its calls on the loop, its connection in the server's thread.

Until the application accepts, the handshake is a request like any other, and a denial is a response. Then the thread
takes the connection from the server, and keeps it until the end.
"""

import enum
import logging
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from time import monotonic
from typing import Final, cast

import anyio.lowlevel

from bridge._asgi_to_wsgi.app_runner import AppRunner
from bridge._asgi_to_wsgi.request_events import RequestEvents
from bridge._asgi_to_wsgi.responder import AsgiResponder, Upgrade, refuse
from bridge._asgi_to_wsgi.task import POLL_SECONDS, changed_meanwhile, end_of
from bridge._asgi_to_wsgi.websocket_options import LATER, WebSocketOptions, counted
from bridge._asgi_to_wsgi.websocket_protocol import Answer, Closed, WebSocketProtocol
from bridge._asgi_to_wsgi.websocket_wire import LoopReader, Output, loop_reader
from bridge._concurrency.byte_queue import ByteQueue
from bridge._concurrency.calls import PeerGone
from bridge._concurrency.loops import LoopClosed, Posted, Spawn
from bridge._concurrency.per_process import EndsChildren
from bridge._log_once import warn_once
from bridge._servers.process import stop_of
from bridge._servers.takeover import NoTakeover, Takeover, Wire, find, threads_of
from bridge._translate.handshake import websocket_scope
from bridge._translate.websocket import OPEN as ACCEPTED
from bridge._translate.websocket import Accept, Close, Message, Respond, Step, WebSocketOrder
from bridge._types import ASGIApp, Environ, Event, Receive, Scope, Send, StartResponse
from bridge.errors import ClientDisconnected, ClientProtocolError

# How often a thread that has nothing to do checks whether its loop still exists.
_LOOK_SECONDS: Final = 5.0
# How long a client may take to answer the application's close frame: it may have much to read before that.
_CLOSE_SECONDS: Final = 5.0
# How many messages may follow each other before the loop gets a turn, if none of them had to wait.
_SENDS_IN_A_ROW: Final = 16
# RFC 6455 7.4.1, and IANA's registry of close codes.
_NORMAL, _ABNORMAL, _FAULT, _SILENT, _RESTART = 1000, 1006, 1011, 1011, 1012
_RESTARTING: Final = "the server is being restarted"
_INTERNAL: Final = "internal error"

_log = logging.getLogger("bridge")


def open_session(environ: Environ, app: ASGIApp, options: WebSocketOptions) -> "WebSocketSession | None":
    """Return a session for the handshake in `environ`, or None if it runs as a plain HTTP request.

    Raises `ClientProtocolError` if it must be refused.
    """
    if options.websocket == "off":
        return None
    try:
        takeover = find(environ)
        protocol = WebSocketProtocol(environ, options.max_message)
    except (NoTakeover, ImportError) as reason:
        if isinstance(reason, ImportError):
            reason = NoTakeover("this process", "lacks wsproto", "install wsproto")
        refused = options.websocket == "reject"
        warn_once(
            f"websocket {reason}",
            "a WebSocket cannot be served: %s. Such requests %s",
            reason,
            "are refused with 426" if refused else "run as plain http",
        )
        if not refused:
            return None
        raise ClientProtocolError(
            "asked for a WebSocket, which cannot be served here", "a plain request", "RFC 9110 7.8", 426
        ) from reason
    return WebSocketSession(app, takeover, protocol, options, options.limit(threads_of(environ)))


class Phase(enum.Enum):
    """How far the connection has come. Only the thread changes it.

    | phase | becomes |
    |---|---|
    | OPEN | CLOSING: we have sent a close frame; FLUSHING: the client has; DISCARDING: it broke the protocol |
    | CLOSING | FLUSHING: the client has answered; DONE: it has left, or taken too long |
    | FLUSHING, DISCARDING | DONE: nothing is left to send, or nobody would read it, or the client has closed |
    """

    OPEN = "open"
    CLOSING = "closing"
    FLUSHING = "flushing"
    DISCARDING = "discarding"
    DONE = "done"


class WebSocketSession:
    """One WebSocket. It is the application of an `AsgiResponder`, and calls the application that was given.

    While the connection is open, the loop reads from it if it can, so a message does not cost a hop to a thread. The
    thread sleeps, and wakes for what takes time: it sends what the connection had no room for, watches the time limits,
    and closes the connection at the end.

    Memory order, as in `Task`: a side that is about to sleep first says so, then looks once more, and then sleeps.

    | field | set by | looked at by |
    |---|---|---|
    | `_output` | the loop, before it has the thread take the connection | both |
    | `_opened` | the thread, before it wakes the task that has accepted | the loop |
    | `_reader` | the loop, which reads while there is one, and notifies the thread once it has closed it | both |
    | `_inbox` | the side that reads puts, with the lock, and wakes the task; the loop takes, and resumes it | both |
    | `_fed_all`, `_closed` | the side that reads, with the lock; the loop does so before it closes `_reader` | both |
    | in `_output` and `_protocol` | either side, with the lock; it then notifies the thread or wakes the task | both |
    | `_departure` | the thread, with the lock after a close frame; the loop, if none came or it works | the loop |
    | `_pinged` | the thread, with the ping and the lock; the side that reads clears it, with the lock | the thread |
    | `_close_sent` | the loop, before it notifies the thread | the thread |
    | `responder.disconnected` | the loop, at a shutdown | the thread |
    """

    responder: AsgiResponder
    _respond: Send
    _wire: Wire
    _output: Output | None = None
    _departure: Event | None = None
    _opened = _close_sent = _told = False
    _phase = Phase.OPEN
    # When the time of the client is over, in CLOSING and later phases; when the first unanswered ping was sent.
    _deadline = math.inf
    _pinged: float | None = None
    _next_ping = math.inf
    _in_a_row = 0
    _reader: LoopReader | None = None
    _closed: Closed | None = None
    _fed_all = False

    def __init__(
        self, app: ASGIApp, takeover: Takeover, protocol: WebSocketProtocol, options: WebSocketOptions, limit: float
    ) -> None:
        self._app = app
        self._takeover = takeover
        self._protocol = protocol
        self._options = options
        self._limit = limit
        self._order = WebSocketOrder([])
        self._inbox = ByteQueue()

    # -- in the server's thread

    def respond(
        self,
        runner: AppRunner,
        spawn: Spawn,
        environ: Environ,
        scope: Scope,
        body: RequestEvents,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Run the application until the connection has ended, or is denied. Raises as `AsgiResponder.respond` does."""
        with ExitStack() as stack:
            try:
                stack.enter_context(counted(self._limit))
            except ClientProtocolError as refusal:
                runner.rejected.add()
                return refuse(refusal, start_response)
            self.responder = AsgiResponder(runner, spawn, self, scope, body)
            self.responder.server_stops = stop_of(environ)
            return self.responder.respond(environ, start_response)

    def _serve(self) -> None:
        """Serve the connection until it has ended. Raises what the server raises in its thread to stop it, and
        `ClientProtocolError` if the connection cannot be used.
        """
        output = self._output
        assert output is not None
        try:
            while self._phase is not Phase.DONE:
                self._turn(output)
        except BaseException:
            with output.lock:
                output.push(self._protocol.close(_RESTART, ""), last=True)
                self._depart(_RESTART, "")
            raise
        finally:
            self._depart(_ABNORMAL, "")
            with output.lock:  # the loop may be about to duplicate its descriptor
                output.end()

    def _open(self, output: Output) -> None:
        self._next_ping = monotonic() + (self._options.ping_interval or math.inf)
        try:
            self._wire, early = self._takeover.take()
        except (OSError, ValueError) as error:
            self._depart(_ABNORMAL, "")
            _log.warning("%s cannot use the connection of the server: %s", self.responder.request(), error)
            raise ClientProtocolError("asked for a WebSocket whose connection cannot be used", *LATER) from error
        with output.lock:
            output.attach(self._wire)
            if early:
                self._feed(output, early)
        self._opened = True
        self.responder.wake_task()

    def _turn(self, output: Output) -> None:
        """Do what can be done now, or wait until there is something to do."""
        thread = self.responder.thread
        if not self._opened:
            self._open(output)
        if thread.serve_one():
            return
        self._flush(output)
        reads = self._reads
        has_read = reads and self._read(output)
        self._keep_time(output)
        if has_read or self._phase is Phase.DONE:
            return
        thread.expect_notice()
        ends = self._phase is Phase.OPEN and (self._close_sent or self.responder.disconnected)
        # What TLS has read ahead no descriptor shows, so that it is read before the thread rests.
        reads_again = self._reads and not reads
        if not (thread.has_jobs or output.broken or ends or reads_again or self._closed is not None):
            self._rest(output)

    @property
    def _reads(self) -> bool:
        """Whether the thread reads, and there is room. When the connection is closing, no room is needed."""
        if self._reader is not None or self._closed is not None:
            return False
        return self._phase is not Phase.OPEN or not self._inbox.full

    def _read(self, output: Output) -> bool:
        # Read and feed in one step, because the loop may have begun to read as well.
        with output.lock:
            data = output.receive(self._protocol.read_size)
            arrived = self._feed(output, data) if data else False
        if data is None:
            return False
        if data:
            if arrived:
                self.responder.wake_task()
        elif self._phase is Phase.OPEN and self._wire.cut_by_server():
            self._close(output, _RESTART, _RESTARTING)
            self._phase = Phase.FLUSHING  # the answer to the close frame could not be read
        else:
            self._depart(_ABNORMAL, "")
            self._phase = Phase.DONE
        return True

    def _feed(self, output: Output, data: bytes) -> bool:
        """Decode `data`, with the lock held. Returns whether messages have come. A close is handled by the thread."""
        self._pinged = None  # whatever has come, the client is alive
        arrived, closed = False, None
        try:
            for item in () if self._fed_all else self._protocol.feed(data):
                if isinstance(item, Closed):
                    closed = item
                elif isinstance(item, Answer):
                    output.answer(item.data)
                elif isinstance(item, str | bytes) and not self._close_sent:
                    self._inbox.put((item,), len(item))
                    arrived = True
        except Exception:  # for example, no memory; without this, the loop would call again and again
            _log.exception("%s has a client whose message cannot be read", self.responder.request())
            closed = Closed(_FAULT, _INTERNAL, self._protocol.close(_FAULT, _INTERNAL), failed=True)
        if closed is not None:
            output.push(closed.answer, last=True)
            self._fed_all = True
            self._closed = closed
        return arrived

    def _flush(self, output: Output) -> None:
        """Send what is left over, as far as there is room. Changes the phase if the connection is closing or broken."""
        if (closed := self._closed) is not None:
            self._depart(closed.code, closed.reason)
            self._closed = None  # after that, since another call of `_depart` would not know of it
            self._phase = Phase.DISCARDING if closed.failed else Phase.FLUSHING
            self._deadline = min(self._deadline, monotonic() + self.responder.runner.disconnect_grace)
        if output.unsent:
            with output.lock:
                output.flush()
            if not output.unsent:
                self.responder.wake_task()
        if output.broken:
            with output.lock:  # the loop may be reading a close frame, whose answer could not be sent
                self._depart(_ABNORMAL, "")
            self._phase = Phase.DONE
        elif not output.unsent and self._phase is Phase.FLUSHING:
            self._phase = Phase.DONE
        elif not output.unsent and self._phase is Phase.DISCARDING:
            self._wire.finish_sending()  # a reset would discard what the client has not read yet

    def _keep_time(self, output: Output) -> None:
        """Close the connection, or send a ping, if it is time to."""
        now = monotonic()
        if self._phase is not Phase.OPEN:
            if now >= self._deadline:
                self._phase = Phase.DONE
        elif self._close_sent:
            self._phase = Phase.CLOSING
            self._deadline = now + _CLOSE_SECONDS
        elif self.responder.disconnected:
            self._close(output, _RESTART, _RESTARTING)
        elif now >= self._patience(output):
            self._close(output, _SILENT, "keepalive ping timeout", told=_ABNORMAL)
        elif now >= self._next_ping:
            self._next_ping = now + (self._options.ping_interval or math.inf)
            if not output.unsent:  # otherwise the ping would wait behind it
                with output.lock:  # the answer may come before the next line
                    output.push(self._protocol.ping())
                    self._pinged = self._pinged or now

    def _patience(self, output: Output) -> float:
        """Return the time by which the client has to send something after a ping, or to take some of the output."""
        interval, timeout = self._options.ping_interval, self._options.ping_timeout
        if interval is None or timeout is None:
            return math.inf
        if output.unsent:
            return output.progress + interval + timeout
        with output.lock:  # so that nobody is reading the answer now
            waits = self._pinged is None or self._inbox.full or self._wire.has_input()
            return math.inf if waits else cast(float, self._pinged) + timeout

    def _close(self, output: Output, code: int, reason: str, told: int | None = None) -> None:
        """Send a close frame; the application is told that, or `told`."""
        with output.lock:  # behind the frame, nothing can be sent
            output.push(self._protocol.close(code, reason), last=True)
            self._depart(code if told is None else told, reason)
        self._phase = Phase.CLOSING
        self._deadline = monotonic() + self.responder.runner.disconnect_grace
        if self._reader is not None:
            with suppress(LoopClosed):
                self.responder.runner.loop.post(Posted(self._leave_reading))

    def _rest(self, output: Output) -> None:
        """Wait for the client, for the loop, or for the next time limit."""
        responder = self.responder
        reads, writes = self._reads, bool(output.unsent)
        until = min(self._patience(output), self._next_ping) if self._phase is Phase.OPEN else self._deadline
        look = POLL_SECONDS if self._inbox.in_flight or responder.thread.works else _LOOK_SECONDS
        timeout = min(max(until - monotonic(), 0.0), look)
        if reads or writes:
            timely = responder.thread.await_readable(self._wire.descriptor, timeout, readable=reads, writable=writes)
        else:
            responder.thread.close_pipe()
            timely = responder.thread.await_wake(timeout)
        if not timely and self._phase is Phase.OPEN:  # after that, the loop is not needed
            responder.runner.log_if_blocked()
            if responder.runner.loop.closed:
                raise LoopClosed("the event loop was closed in the middle of a WebSocket")

    def _depart(self, code: int, reason: str) -> None:
        """Note that nothing more will come. The client's close frame says why, if it has come; else the first call."""
        if self._departure is None:
            if (closed := self._closed) is not None:
                code, reason = closed.code, closed.reason
            self._departure = {"type": "websocket.disconnect", "code": code, "reason": reason}
            if self._close_sent:
                self.responder.wake_task()
            else:
                self.responder.disconnect()

    # -- on the loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application. The responder calls this as if it were an HTTP application."""
        __traceback_hide__ = True
        del receive
        self._respond = send
        session = websocket_scope(scope)
        self._order = WebSocketOrder(session["subprotocols"])
        counters = self.responder.runner.counters
        try:
            with EndsChildren():
                await self._app(session, self._receive, self._send)
        except BaseException as error:
            self._leave_reading()
            if not self.responder.upgraded:
                raise
            if not (self._fed_all or self._departure is not None or self.responder.disconnected):
                counters.aborted += 1
                _log.error("%s raised%s", self.responder.request(), " while its WebSocket was open", exc_info=error)
                await self._finish(Close(_FAULT, _INTERNAL))
                return
            expected = isinstance(error, ClientDisconnected) or type(error).__name__ == "CancelledError"
            _log.info(
                "%s ended after its client had left", self.responder.request(), exc_info=None if expected else error
            )
            counters.client_disconnects += 1
            return
        self._leave_reading()
        if (unfinished := self._order.unfinished()) is not None:
            raise unfinished
        if self.responder.upgraded:
            counters.served += 1
            if self._order.state is ACCEPTED:
                await self._finish(Close(_NORMAL, ""))

    async def _finish(self, close: Close) -> None:
        """Close the connection that the application has left open."""
        try:
            await self._close_from_loop(close)
        except ClientDisconnected:
            _log.info("%s ended after its client had left", self.responder.request())

    async def _receive(self) -> Event:
        """ASGI WebSocket, "Connect", "Receive" and "Disconnect"."""
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        responder, inbox = self.responder, self._inbox
        while not inbox.items:
            if self._departure is not None:
                return dict(self._departure)
            if responder.over and not responder.upgraded:
                return {"type": "websocket.disconnect", "code": _ABNORMAL, "reason": ""}
            served = None
            if responder.thread.works and self._output is not None:
                served = responder.thread.submit_meanwhile(partial(self._turn, self._output))
                if served is None and _catch_up(self, self._output):
                    continue
            if served is None:
                await changed_meanwhile(responder)
            else:
                self._leave_reading()  # the thread does, as it waits for this anyway
                await end_of(served, responder)
        data: str | bytes = inbox.items.popleft()
        if inbox.acknowledge_item(len(data)):
            if self._reader is None:
                responder.thread.notify()
            else:
                self._reader.resume()
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    async def _send(self, event: Event) -> None:
        """ASGI WebSocket, "Accept", "Send" and "Close"; and the denial response of its extension."""
        was_open = self._order.state is ACCEPTED
        step: Step | None = self._order.feed(event)
        if isinstance(step, Message):
            await self._write(lambda: self._protocol.message(step.data))
        elif isinstance(step, Accept):
            await self._accept(step)
        elif isinstance(step, Close):
            await (self._close_from_loop(step) if was_open else _deny(self._respond))
        elif isinstance(step, Respond):
            await self._respond(step.event)

    async def _accept(self, step: Accept) -> None:
        responder, thread = self.responder, self.responder.thread
        self._output = output = Output()
        output.push(self._protocol.accept(step))
        try:
            responder.write([Upgrade(self._serve)])
        except PeerGone:
            self._depart(_ABNORMAL, "")
            raise ClientDisconnected("the client left before the WebSocket was accepted") from None
        responder.response.upgrade()
        responder.upgraded = True
        responder.runner.watch_sessions()
        # If thread-sensitive code accepts, as in Channels, the thread waits for this code, so do not wait for the
        # thread. Until the thread opens the connection, what is sent stays in `output`.
        responder.room_wanted = True
        while not (self._opened or thread.works):
            if self._departure is not None or thread.left:
                self._depart(_ABNORMAL, "")  # the thread has not, if it has left for another reason
                raise ClientDisconnected("the client left before the WebSocket was accepted")
            await responder.changed()
        responder.room_wanted = False
        with output.lock:
            if self._opened and self._departure is None and not self._inbox.full:
                self._reader = loop_reader(responder.runner.loop, self._wire, self._read_on_loop)

    def _leave_reading(self) -> None:
        """Leave the rest to the thread: the client has closed, or we are closing the connection."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
            self.responder.thread.notify()

    def _read_on_loop(self) -> None:
        output, reader = self._output, self._reader
        assert output is not None
        assert reader is not None
        if self._inbox.full:
            reader.pause()
            return
        arrived, data = False, b""
        with output.lock:
            if self._phase is Phase.OPEN:
                received = reader.receive(self._protocol.read_size)
                if received is None:
                    return
                data = received
                arrived = self._feed(output, data)
        if arrived:
            self.responder.run_on_loop()
        if self._fed_all or not data:
            self._leave_reading()  # if this was the end, the thread sees it again
        if output.unsent or output.broken:
            self.responder.thread.notify()

    async def _close_from_loop(self, step: Close) -> None:
        try:
            await self._write(lambda: [self._protocol.close(step.code, step.reason)], closes=True)
        finally:
            self._close_sent = True
            self._leave_reading()
            # As after a response, the application may go on without the client.
            self.responder.finish_response()
            self.responder.thread.notify()

    async def _write(self, encode: Callable[[], Iterable[bytes]], *, closes: bool = False) -> None:
        """Send what `encode` returns, and wait until it is sent. Raises `ClientDisconnected`."""
        output = self._output
        assert output is not None
        waited = await self._until_sent(output)
        with output.lock:
            self._refuse_if_over(output)
            for piece in encode():
                output.push(piece, last=closes)
            self._close_sent = self._close_sent or closes
        if output.broken or output.unsent:
            self.responder.thread.notify()
            waited = await self._until_sent(output)
            if not closes:
                self._refuse_if_over(output)
        self._in_a_row = 0 if waited else self._in_a_row + 1
        if self._in_a_row >= _SENDS_IN_A_ROW:
            self._in_a_row = 0
            await anyio.lowlevel.checkpoint()

    async def _until_sent(self, output: Output) -> bool:
        """Wait until nothing is left over. Returns whether that took any time.

        While the thread runs code of the application, this does not wait: that code may be what sends.
        """
        waited = False
        responder = self.responder
        while output.unsent and self._departure is None:
            responder.room_wanted = True
            if responder.thread.works:
                break
            waited = True
            await responder.changed()
        responder.room_wanted = False
        return waited

    def _refuse_if_over(self, output: Output) -> None:
        """ASGI WebSocket, "Send": an `OSError` when the connection has been closed."""
        if self._departure is not None or self._fed_all or output.broken:
            raise ClientDisconnected("the WebSocket is closed")


def _catch_up(session: WebSocketSession, output: Output) -> bool:
    """Do on the loop what the thread does when it does not work. Returns whether there is something to receive."""
    with output.lock:
        if session._opened and session._phase is Phase.OPEN:
            output.flush()
            if session._reader is None and not (session._fed_all or session._inbox.full):
                data = output.receive(session._protocol.read_size)
                if data:
                    session._feed(output, data)
                elif data is not None:  # the thread sees the end again
                    session._depart(*((_RESTART, _RESTARTING) if session._wire.cut_by_server() else (_ABNORMAL, "")))
            if (closed := session._closed) is not None:  # once: the thread takes it without the lock
                session._depart(closed.code, closed.reason)
            elif session.responder.disconnected and session._departure is None:
                output.push(session._protocol.close(_RESTART, _RESTARTING), last=True)
                session._close_sent = True
                session._depart(_RESTART, _RESTARTING)
    return bool(session._inbox.items) or session._departure is not None


async def _deny(respond: Send) -> None:
    """ASGI WebSocket, "Close": a close before the connection is accepted becomes a 403."""
    await respond({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
    await respond({"type": "http.response.body"})
