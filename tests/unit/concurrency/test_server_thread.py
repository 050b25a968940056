"""`ServerThread`: waits to be woken, and for the client's connection beside that; no wake-up is lost."""

import contextlib
import fcntl
import gc
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from bridge._concurrency import server_thread
from bridge._concurrency.server_thread import ServerThread
from support.asgi_apps import chunk, end, start
from support.patience import PATIENCE
from support.plain_servers import environ_for
from support.scripted_wsgi_server import adapted, ask
from support.waiting import FOREVER, Flag, OneThread, Work, bounded

SHORT = 0.01


@pytest.fixture(name="pair")
def pair_fixture() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and the server's end of its connection."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


class TestWait:
    """Wake-ups alone."""

    def test_a_wake_up_ends_it(self) -> None:
        thread, waiter = OneThread(), ServerThread()
        waited = thread.begin(lambda: waiter.await_wake(FOREVER))
        waiter.wake()
        assert waited() is True
        thread.end()

    def test_a_wake_up_before_it_is_not_lost(self) -> None:
        waiter = ServerThread()
        waiter.wake()
        assert bounded(lambda: waiter.await_wake(FOREVER)) is True

    def test_without_a_wake_up_it_ends_in_time(self) -> None:
        waiter = ServerThread()
        assert waiter.await_wake(SHORT) is False
        waiter.wake()
        assert waiter.await_wake(SHORT) is True
        assert waiter.await_wake(SHORT) is False

    def test_none_of_many_is_lost(self) -> None:
        """A thread that looks after each wake-up sees what was there before it."""
        thread, waiter = OneThread(), ServerThread()
        handed = 0

        def take() -> int:
            while handed < 2000:
                waiter.await_wake(FOREVER)
            return handed

        taken = thread.begin(take)
        for _ in range(2000):
            handed += 1
            waiter.wake()
        assert 2000 == taken()
        thread.end()


class TestWaitReadable:
    """Wake-ups, or the connection: whichever is first."""

    def test_data_ends_it(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        thread, waiter = OneThread(), ServerThread()
        waited = thread.begin(lambda: waiter.await_readable(server.fileno(), FOREVER))
        client.sendall(b"x")
        assert waited() is True
        assert b"x" == server.recv(1)
        waiter.leave()
        thread.end()

    @pytest.mark.parametrize("how", ["close", "half"])
    def test_the_end_of_the_connection_ends_it(self, how: str, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        thread, waiter = OneThread(), ServerThread()
        waited = thread.begin(lambda: waiter.await_readable(server.fileno(), FOREVER))
        client.close() if how == "close" else client.shutdown(socket.SHUT_WR)
        assert waited() is True
        waiter.leave()
        thread.end()

    def test_a_wake_up_ends_it(self, pair: tuple[socket.socket, socket.socket]) -> None:
        thread, waiter = OneThread(), ServerThread()
        waited = thread.begin(lambda: waiter.await_readable(pair[1].fileno(), FOREVER))
        waiter.wake()
        assert waited() is True
        waiter.leave()
        thread.end()

    def test_a_wake_up_before_it_is_not_lost(self, pair: tuple[socket.socket, socket.socket]) -> None:
        waiter = ServerThread()
        waiter.wake()
        assert bounded(lambda: waiter.await_readable(pair[1].fileno(), FOREVER)) is True
        waiter.leave()

    def test_without_either_it_ends_in_time(self, pair: tuple[socket.socket, socket.socket]) -> None:
        waiter = ServerThread()
        assert waiter.await_readable(pair[1].fileno(), SHORT) is False
        waiter.wake()
        assert waiter.await_readable(pair[1].fileno(), SHORT) is True
        assert waiter.await_readable(pair[1].fileno(), SHORT) is False
        waiter.leave()

    def test_wake_ups_in_turn_with_data_are_all_noticed(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        thread, waiter = OneThread(), ServerThread()
        handed = taken = read = 0
        turn = threading.Semaphore(0)

        def serve() -> tuple[int, int]:
            nonlocal taken, read
            while taken < 300 or read < 300:
                if read < 300:
                    waiter.await_readable(server.fileno(), FOREVER)
                else:
                    waiter.await_wake(FOREVER)
                server.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    read += len(server.recv(100))
                if handed > taken:
                    taken = handed
                    turn.release()
            return taken, read

        served = thread.begin(serve)
        for number in range(300):
            if number % 2:
                client.sendall(b"x")
            handed += 1
            waiter.wake()
            assert turn.acquire(timeout=PATIENCE), f"wake-up {number} was lost"
            if not number % 2:
                client.sendall(b"x")
        assert (300, 300) == served()
        waiter.leave()
        thread.end()

    def test_a_full_pipe_does_not_hold_who_wakes(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody reads it while the thread is slow to come out of its wait; who wakes it may be the event loop."""
        polling, go_on = Flag(), Flag()
        poll = server_thread.wait_for_input

        def slow_poll(descriptors: Sequence[int], timeout: float, outputs: Sequence[int]) -> list[int]:
            polling.set()
            go_on.wait()
            return poll(descriptors, timeout, outputs)

        monkeypatch.setattr(server_thread, "wait_for_input", slow_poll)
        thread, waiter = OneThread(), ServerThread()
        waited = thread.begin(lambda: waiter.await_readable(pair[1].fileno(), FOREVER))
        polling.wait()
        assert waiter._pipe is not None
        capacity = fcntl.fcntl(waiter._pipe[1], fcntl.F_SETPIPE_SZ, 4096)
        bounded(lambda: [waiter.wake() for _ in range(capacity + 1)])
        assert select.select([], [waiter._pipe[1]], [], 0)[1] == []
        go_on.set()

        assert waited() is True
        thread.run(waiter.leave)
        thread.end()

    def test_leave_closes_what_it_needed(self, pair: tuple[socket.socket, socket.socket]) -> None:
        before = set(os.listdir("/proc/self/fd"))
        waiter = ServerThread()
        waiter.await_readable(pair[1].fileno(), SHORT)
        waiter.leave()
        waiter.leave()
        assert before == set(os.listdir("/proc/self/fd"))

    def test_wake_ups_after_leave_write_nowhere(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """The number of a closed descriptor may be that of somebody's file by then."""
        waiter = ServerThread()
        waiter.await_readable(pair[1].fileno(), SHORT)
        waiter.leave()
        ends = os.pipe()
        try:
            for _ in range(10):
                waiter.wake()
            os.set_blocking(ends[0], False)
            with pytest.raises(BlockingIOError):
                os.read(ends[0], 1)
        finally:
            for end in ends:
                os.close(end)

    def test_a_wake_up_while_the_thread_leaves_writes_to_no_other_file(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread that comes out of its wait, for another reason, lets the wake-up end before it closes the pipe."""
        thread, waiter = OneThread(), ServerThread()
        polling, at_the_pipe, far = Flag(), Flag(), Flag()
        poll, open_still = server_thread.wait_for_input, []

        class SeenLock:
            """Tells when the thread has come as far as it may."""

            def __init__(self) -> None:
                self._lock = threading.Lock()

            def __enter__(self) -> None:
                if not self._lock.acquire(blocking=False):
                    far.set()
                    self._lock.acquire()

            def __exit__(self, *exc_info: object) -> None:
                self._lock.release()

        def told_poll(*arguments: Any) -> list[int]:
            polling.set()
            return poll(*arguments)

        def slow_write(descriptor: int, data: bytes) -> int:
            at_the_pipe.set()
            far.wait()
            open_still.append(waiter._pipe is not None and descriptor == waiter._pipe[1])
            return len(data)

        monkeypatch.setattr(server_thread, "new_lock", SeenLock)
        monkeypatch.setattr(server_thread, "wait_for_input", told_poll)
        monkeypatch.setattr(server_thread, "os", SimpleNamespace(**vars(os) | {"write": slow_write}))
        waited = thread.begin(lambda: waiter.await_readable(pair[1].fileno(), FOREVER))
        polling.wait()
        waking = Work(waiter.wake)
        at_the_pipe.wait()
        pair[0].send(b"x")
        left = thread.begin(lambda: (waiter.leave(), far.set()))

        waking.result()
        assert waited() is True
        left()
        assert open_still == [True]
        assert waiter._pipe is None
        thread.end()


class TestDescribe:
    """For the log, when something takes too long."""

    def test_it_names_the_thread_and_where_it_is(self) -> None:
        thread = OneThread()
        waiter = thread.run(lambda: ServerThread())
        at_work, go_on = Flag(), Flag()

        def busy_with_this() -> None:
            at_work.set()
            go_on.wait()

        ended = thread.begin(busy_with_this)
        at_work.wait()
        description = waiter.describe()
        go_on.set()
        ended()
        thread.end()

        assert "server-thread" in description
        assert "busy_with_this" in description

    def test_a_thread_that_has_ended_is_no_error(self) -> None:
        thread = threading.Thread(target=lambda: waiters.append(ServerThread()))
        waiters: list[ServerThread] = []
        thread.start()
        thread.join()

        assert "it has ended" in waiters[0].describe()


def test_a_response_that_is_dropped_while_another_request_submits_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector may find it there, on the loop, and then ends it within that step."""
    dropped: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(int)()
        await start(send)
        await chunk(send, b"one")
        await end(send)

    def collecting() -> deque[Any]:
        if dropped:
            dropped[0].append(dropped.pop())  # a cycle
            gc.collect()
        return deque()

    monkeypatch.setattr(server_thread, "deque", collecting)
    with adapted(app) as adapter:
        response = bounded(lambda: adapter(environ_for("GET", "/"), lambda *_: None))
        dropped.append([response])
        del response
        assert b"one" == ask(adapter).body
    assert not dropped
