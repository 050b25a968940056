"""Both directions of a WebSocket's connection: what the thread and the loop send, and what the loop reads."""

import socket
from _socket import socket as plain_socket  # the kind that `takeover` uses, which never waits
from collections import deque
from collections.abc import Callable
from time import monotonic

from bridge._concurrency.greenlets import new_lock
from bridge._concurrency.loops import AsyncioLoop, LoopHandle
from bridge._servers.takeover import Wire


class Output:
    """Sends, and receives, for the thread and for the loop, which both hold `lock`. `unsent` is what there was no room
    for.

    That is at most one message, because the loop waits before it makes another, and some control frames.
    """

    __slots__ = ("_answer", "_wire", "broken", "lock", "progress", "unsent")

    def __init__(self) -> None:
        self.lock = new_lock()
        self.unsent: deque[memoryview] = deque()
        # Nothing can be sent any more.
        self.broken = False
        # When there was last room.
        self.progress = monotonic()
        self._answer = b""
        self._wire: Wire | None = None

    def attach(self, wire: Wire) -> None:
        """Send to `wire` from now on, first what is left over."""
        self._wire = wire
        self.flush()

    def receive(self, size: int) -> bytes | None:
        """Return what has come, as `Wire.receive` does, or `b""` if that fails."""
        assert self._wire is not None
        try:
            return self._wire.receive(size)
        except OSError:
            return b""

    def end(self) -> None:
        """Shut down the connection, if there is one."""
        if self._wire is not None:
            self._wire.end()

    def push(self, data: bytes, *, last: bool = False) -> None:
        """Send `data`, or keep what there is no room for. With `last`, nothing follows."""
        if last:
            self._answer = b""
        if not data or self.broken:
            return
        sent = 0
        if not self.unsent:
            self.progress = monotonic()
            sent = self._send(data)
        if sent < len(data):
            self.unsent.append(memoryview(data)[sent:])

    def answer(self, data: bytes) -> None:
        """Send the answer to a ping. If there is no room yet, only the latest."""
        if self.unsent:
            self._answer = data
        else:
            self.push(data)

    def flush(self) -> None:
        """Send what is left over, as far as there is room."""
        while self.unsent:
            piece = self.unsent[0]
            sent = self._send(piece)
            if self.broken:
                return
            if sent:
                self.progress = monotonic()
            if sent < len(piece):
                self.unsent[0] = piece[sent:]
                break
            self.unsent.popleft()
        if self._answer and not self.unsent:
            answer, self._answer = self._answer, b""
            self.push(answer)

    def _send(self, data: bytes | memoryview) -> int:
        if self._wire is None:
            return 0
        try:
            return self._wire.send(data)
        except OSError:
            self.broken = True
            self.unsent.clear()
            return len(data)


class LoopReader:
    """Makes a loop call `read` whenever `twin` has something to read. Used on that loop. The descriptor is its own, so
    nothing else closes it.
    """

    __slots__ = ("_loop", "_paused", "_read", "_twin")

    def __init__(self, loop: AsyncioLoop, twin: plain_socket, read: Callable[[], None]) -> None:
        self._loop = loop.loop
        self._twin = twin
        self._read = read
        self._paused = True

    def receive(self, size: int) -> bytes | None:
        """Return what has come, as `Wire.receive` does, or `b""` if that fails."""
        try:
            return self._twin.recv(size, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def resume(self) -> None:
        """Continue reading. Raises `NotImplementedError` if the loop cannot."""
        if self._paused:
            self._loop.add_reader(self._twin.fileno(), self._read)
            self._paused = False

    def pause(self) -> None:
        """Leave incoming data in the connection until `resume`."""
        if not self._paused:
            self._loop.remove_reader(self._twin.fileno())
            self._paused = True

    def close(self) -> None:
        """Read no more."""
        self.pause()
        self._twin.close()


def loop_reader(loop: LoopHandle, wire: Wire, read: Callable[[], None]) -> LoopReader | None:
    """Return a reader that has begun, or None if the loop or the connection does not support it. On the loop."""
    if not isinstance(loop, AsyncioLoop):
        return None
    try:
        twin = wire.twin()
    except OSError:  # there are no more descriptors
        twin = None
    if twin is None:
        return None
    reader = LoopReader(loop, twin, read)
    try:
        reader.resume()
    except (NotImplementedError, OSError):  # asyncio, "Platform Support"; epoll_ctl(2), ENOSPC
        twin.close()
        return None
    return reader
