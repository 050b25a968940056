"""One call of an ASGI application: its `receive` and `send` on the loop, and its response in the server's thread.

Only this file calls `start_response`.
"""

import asyncio
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import BinaryIO, Final, NamedTuple, Self, cast

import anyio.lowlevel

from bridge._asgi_to_wsgi.app_runner import AppRunner, RunnerEnded
from bridge._asgi_to_wsgi.request_events import STEP_BYTES, RequestEvents
from bridge._asgi_to_wsgi.task import ALL, ENDED, HEAD_ONLY, NOTHING, Task, has_left, look_at_client
from bridge._concurrency.byte_queue import HIGH_WATER_BYTES
from bridge._concurrency.calls import PeerGone
from bridge._concurrency.interrupts import may_pass
from bridge._concurrency.loops import Spawn, runs_loop
from bridge._translate.events_to_response import END, SENT, AsgiResponse, EarlyHint, File, Head, Items, text_response
from bridge._translate.input_to_events import DISCONNECT
from bridge._translate.urls import request_title
from bridge._types import ASGIApp, Environ, Event, Scope, StartResponse
from bridge.errors import ClientDisconnected, ClientProtocolError

# RFC 6455 4.2.2 and RFC 9110 15.6.4: an additional header of a refusal.
_REFUSAL_HEADERS: Final = {426: ("Sec-WebSocket-Version", "13"), 503: ("Retry-After", "1")}

# With this, an open never waits, for example for the writer of a pipe. It changes nothing for a regular file.
_WITHOUT_WAITING: Final[int] = getattr(os, "O_NONBLOCK", 0)

# How long the thread of a request that the server has cancelled may have to wait until it is told.
_TOLD_SECONDS: Final = 0.5

_log = logging.getLogger("bridge")


def refuse(refusal: ClientProtocolError, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request with `refusal`."""
    _log.info("refused a request with %d: %s", refusal.status, refusal)
    extra = [_REFUSAL_HEADERS[refusal.status]] if refusal.status in _REFUSAL_HEADERS else []
    head, text = text_response(refusal.status, str(refusal), *extra)
    start_response(*head)
    return [text]


class Upgrade(NamedTuple):
    """An item in place of a head: the server's thread calls `serve`, which takes the connection over. `serve` returns
    when the connection has ended, and raises `ClientProtocolError` if it cannot be used.
    """

    serve: Callable[[], None]


class AsgiResponder(Task):
    """One call of an ASGI application."""

    body: RequestEvents
    # The connection ends with a reset if the process is killed.
    _guarded = False
    # There is, or was, an open file in `output`. Set on the loop, before it is put there.
    _has_file = False

    def __init__(self, runner: AppRunner, spawn: Spawn, app: ASGIApp, scope: Scope, body: RequestEvents) -> None:
        super().__init__(runner, spawn, body.connection)
        self._app = app
        self._scope = scope
        # Other tasks may have no body, but this one has one.
        self.body = body  # pyright: ignore[reportIncompatibleVariableOverride]
        self.response = AsgiResponse(
            head_only=scope["method"] == "HEAD", extensions=scope["extensions"], open_file=_open_regular
        )

    # -- in the server's thread

    def respond(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Run the application until its response begins. Return the body.

        Raises what the application raises until then, and `ClientDisconnected`. Raises `RunnerEnded` if the application
        was not called. Then another responder may be made, which gets what was already read of `body`.
        """
        items = self.output.items
        try:
            self.body.read_ahead()
            self.start()
            while type(item := self.next()) is not Head:
                if type(item) is Upgrade:
                    return self._switch(item, start_response)
                if type(item) is not EarlyHint:
                    raise self.failure()
                environ["wsgi.early_hints"](item.links)
            if items and type(items[0]) is File:
                opened = items.popleft().opened
                try:
                    start_response(item.status, item.headers)
                    self.await_background()
                    self.release()
                    return cast(Iterable[bytes], environ["wsgi.file_wrapper"](opened, STEP_BYTES))
                except BaseException:
                    opened.close()
                    raise
            start_response(item.status, item.headers)
            if len(items) == 2 and items[1] is END and not self.thread.sensitive:
                # PEP 3333, Handling the Content-Length Header: servers have a fast path for a list of one bytestring.
                # The list has a chunk even if the body is empty, because some servers fail on an empty iterable.
                chunk = items[0]
                self.await_background()
                self.release()
                return iter((chunk,)) if self.response.untold else [chunk]
            return ResponseIterator(self)
        except RunnerEnded:
            self.release()
            raise
        except PeerGone:
            self.release()
            raise self.connection.departure("the client left before the response began", begun=False) from None
        except BaseException:
            ResponseIterator(self).close()
            raise

    def _switch(self, upgrade: Upgrade, start_response: StartResponse) -> Iterable[bytes]:
        """Serve the upgraded connection until it ends. Then return a response that leaves the server nothing to send.

        It has no headers, because PEP 3333 forbids those that belong to a 101. It is an iterator, because some servers
        turn a known length into a header.
        """
        refusal = None
        try:
            upgrade.serve()
        except ClientProtocolError as error:
            refusal = error
        if self.thread.sensitive and not self.finished:
            self.linger(self.runner.disconnect_grace)
        self.await_background()
        body: Iterable[bytes] = iter(())
        if refusal is None:
            start_response("101 Switching Protocols", [])
        else:
            body = refuse(refusal, start_response)
        self.release()
        return body

    def await_background(self) -> None:
        """Stay until the work after the response is done, because the process may be frozen once the thread has
        left.
        """
        timeout = self.runner.background_timeout
        if timeout is not None and not (self.finished or self.disconnected):
            self.linger(timeout)
            if not self.finished:
                _log.warning("%s is not done %.1f seconds after its response", self.request(), timeout)

    def leave(self) -> bool:
        """Note that the server closes the response. Returns whether it has got the whole response. If not, the client
        has left.
        """
        response = self.response
        if response.bodyless:
            self.demand = HEAD_ONLY
        elif response.filled and not self.output.items:
            # A server may stop at Content-Length, before the application has said that the response is complete.
            self.demand = NOTHING
        if self.demand is not ALL or self.complete or self.finished:
            return True
        self.disconnect()
        return False

    def failure(self) -> BaseException:
        """The exception for the server if the application ended before its response began, or was complete."""
        self._hear_of_leave()
        if self.disconnected:
            return self.connection.departure(
                "the client left, or the adapter was closed, before the response began", begun=False
            )
        return self._own_failure()

    def _own_failure(self) -> BaseException:
        error = self.error or self.response.unfinished()
        if error is not None and may_pass(error):
            return error
        failure = _passing(error)
        failure.__cause__ = error
        return failure

    def guard(self) -> None:
        """Until `unguard`, a response without a length must not look complete if this process is killed."""
        self._guarded = not self.response.measured
        if self._guarded:
            self.connection.end_with_reset(True)

    def unguard(self) -> None:
        """Note that the response is complete, or is closed on purpose."""
        if self._guarded:
            self._guarded = False
            self.connection.end_with_reset(False)

    def broken(self) -> BaseException:
        """Like `failure`, for a response that has begun: it breaks off, and must not look complete."""
        self._guarded = False
        self.connection.end_with_reset(True)
        self._hear_of_leave()
        if self.disconnected:
            return self.connection.departure("the client left in the middle of the response", begun=True)
        return self._own_failure()

    def _hear_of_leave(self) -> None:
        """If the server has cancelled the application's task with the request that this thread works for, wait until it
        has told this thread so. The task may have been the first to end.
        """
        on_servers_loop = self.runner.private is None
        if on_servers_loop and not self.disconnected and isinstance(self.error, self.runner.loop.cancelled):
            limit = monotonic() + _TOLD_SECONDS
            while not (left := has_left(self)) and (rest := limit - monotonic()) > 0:
                self.thread.await_wake(rest)
            self.disconnected = self.disconnected or left

    def release(self) -> None:
        """End the thread's part. Jobs that are not done yet go to another thread."""
        if self._guarded:
            self.unguard()
        super().release()
        if self._has_file:
            self._close_untaken()

    def _close_untaken(self) -> None:
        """Close a file that the thread will not take any more. Both ends call this once the thread has left.

        The thread first sets `left` and then looks into `output`. The loop first puts the file there and then looks at
        `left`. So at least one of them finds the file.
        """
        while self._has_file and self.output.items:
            try:
                item = self.output.items.popleft()
            except IndexError:
                return  # the other end was quicker
            if type(item) is File:
                item.opened.close()

    # -- on the loop

    async def work(self) -> None:
        """Call the application."""
        counters, response = self.runner.counters, self.response
        unfinished = None
        try:
            await self._app(self._scope, self._receive, self._send)
            unfinished = response.unfinished()
            if unfinished is not None and not self._satisfied:
                raise unfinished
        except BaseException as error:
            cancelled = isinstance(error, self.runner.loop.cancelled)
            by_server = cancelled and _is_cancelled_by_server(self.runner)
            if self.disconnected or by_server:
                quiet = cancelled or error is unfinished or isinstance(error, ClientDisconnected)
                _log.info("%s ended after its client had left", self.request(), exc_info=None if quiet else error)
            else:
                after = " after its response was complete" if response.complete else ""
                _log.error("%s raised%s", self.request(), after, exc_info=error)
            if not (response.complete or self.disconnected):
                counters.aborted += 1
                if cancelled and not by_server:
                    raise _passing(error) from error  # the thread need not wait to hear of a cancellation
                raise
        if self.disconnected and not response.complete:
            counters.client_disconnects += 1
        elif not response.complete:
            counters.served += 1

    async def _receive(self) -> Event:
        """ASGI HTTP, "Request" and "Disconnect"."""
        event: Event | None = None
        if not (self.complete or self.disconnected):
            if self.body.received_all:
                await self.wait_until_over()
            else:
                event = await self.next_event()
        self.body.told = event is None
        return event or dict(DISCONNECT)

    @property
    def _satisfied(self) -> bool:
        """Whether the server has got all that it takes (the head of an endless response to HEAD, for example), and the
        application, which was told so, may end without the rest.
        """
        return self.body.told and self.demand is not ALL and not self.disconnected

    async def _send(self, event: Event) -> None:
        """ASGI HTTP, "Response Start" and "Response Body"."""
        response = self.response
        over = response.complete
        items = response.feed(event)
        if response.complete and not over:
            self._has_file = len(items) > 1 and type(items[-2]) is File
            self.runner.counters.served += 1
            if response.overrun:
                _log.error("%s sent more than its Content-Length; the surplus was cut", self.request())
            self.finish_response()
        try:
            if items:
                if self._has_file:
                    self._write_file(items)
                else:
                    self.write(items)
                if not response.complete and self.output.full:
                    await self.drain()
            elif self.disconnected:
                raise PeerGone  # an application that polls with empty chunks learns here that the client left
            elif self.overdue:
                self.flush_head()
            if response.state is SENT and (self.demand is not ALL or not items):
                # Nothing is written, so `drain` never waits. Without this, the application could block the loop.
                await anyio.lowlevel.checkpoint()
        except PeerGone:
            raise ClientDisconnected("the client left before the response was complete") from None

    def _write_file(self, items: Items) -> None:
        """Like `write`, for items with a file. Raises `PeerGone`."""
        written = False
        try:
            written = self.write(items)
        finally:
            if not written:
                for item in items:
                    if type(item) is File:
                        item.opened.close()
        if self.thread.left:
            self._close_untaken()

    def flush_head(self) -> None:
        """Send the head without a body: the thread has waited long enough for one.

        Most applications send both at once, and then one wake-up of the thread is enough for both.
        """
        items = self.response.flush()
        if items:
            with suppress(PeerGone):
                self.write(items)

    def request(self) -> str:
        """Return the request, for log lines."""
        return f"the application, asked for {request_title(self._scope['method'], self._scope['path'])},"


def _passing(error: BaseException | None) -> RuntimeError:
    """What the server gets in place of an exception that would end more than the request."""
    return RuntimeError(f"the application ended its task with {error!r}")


def _is_cancelled_by_server(runner: AppRunner) -> bool:
    """Whether the running task is cancelled with what else the server runs on its loop, before its thread can tell of
    that. On trio, an outer request that is cancelled takes this one with it; on asyncio, the end of the loop.
    """
    if runner.private is not None:
        return False
    task = asyncio.current_task() if runner.loop.is_asyncio else None
    return task is None or task.cancelling() > 0  # 0: the application has raised it


def _open_regular(path: str) -> BinaryIO:
    """Open the file of `http.response.pathsend` before `send` returns: after that, the application may remove it.

    Raises `OSError`, also if it is not a regular file, because reading it might wait.
    """
    number = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        # By its descriptor: with a name, an outer adapter would let its server open it later, when it may be gone.
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


class ResponseIterator:
    """The iterable of a streamed response (PEP 3333, "Buffering and Streaming")."""

    _closed = True  # until it is made: the handler of a signal may raise meanwhile

    def __init__(self, responder: AsgiResponder) -> None:
        self._responder = responder
        self._sent_all = self._begun = self._awaited = self._stayed = False
        self._file: BinaryIO | None = None  # from a pathsend event after the head has left
        responder.guard()
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Return the next chunk, joined from those that have piled up. A body without any gets one empty chunk."""
        # Some servers fail on an iterable without a chunk.
        first, self._begun = not self._begun, True
        if self._responder.response.bodyless:
            if first:
                return b""
            # The head is the whole response, whatever else the application sends. Many hosts never call `close`.
            self.close()
            raise StopIteration
        try:
            while not self._sent_all:
                if data := self._read_file() or self._next_data():
                    return data
            if first:
                return b""
            self._linger()
        except PeerGone:
            raise self._responder.broken() from None
        raise StopIteration

    def close(self) -> None:
        """PEP 3333, Specification Details: the server calls it however the request ended."""
        if self._closed:
            return
        self._closed = True
        responder = self._responder
        if self._file is not None:
            self._file.close()
        try:
            if responder.leave():
                self._linger()
        finally:
            responder.release()

    def __del__(self) -> None:
        # If middleware drops the iterable without closing it, the application would wait forever.
        if not self._closed:
            self._responder.drop()

    def _next_data(self) -> bytes:
        """Return the chunks that have arrived, or wait for the next one. Empty if something else comes.

        Each chunk that is taken makes room for another, so that an application that is fast would never let this end.
        """
        responder = self._responder
        output = responder.output
        limit = output.acknowledged + HIGH_WATER_BYTES
        chunks: list[bytes] = []
        while not chunks or (output.items and output.acknowledged <= limit):
            item = responder.next()
            if isinstance(item, bytes):
                chunks.append(item)
                continue
            if item is ENDED:
                raise responder.broken()
            if item is END:
                self._sent_all = True
            else:
                self._file = item.opened
            break
        look_at_client(responder)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_file(self) -> bytes:
        """Return the next block of a file that was sent by pathsend after the head had left."""
        block = self._file.read(STEP_BYTES) if self._file is not None else b""
        if self._file is not None and not block:
            self._file.close()
            self._file = None
        return block

    def _linger(self) -> None:
        """Stay, once, for work after the response, for example Django's signals, which may be thread-sensitive."""
        responder = self._responder
        responder.unguard()
        if not self._awaited:
            self._awaited = True
            responder.await_background()
        # The first such work may come between the end of the iteration and `close`, which may be called on a loop.
        if responder.thread.sensitive and not (self._stayed or responder.disconnected or runs_loop()):
            self._stayed = True
            responder.linger(responder.runner.disconnect_grace)
