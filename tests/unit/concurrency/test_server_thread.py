"""`ServerThread`: waits for nudges, and for the client's connection beside them; no wake is lost."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from bridge._concurrency.server_thread import ServerThread
from support.waiting import FOREVER, Flag, OneThread, bounded

SHORT = 0.01


@pytest.fixture(name="pair")
def pair_fixture() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and the server's end of its connection."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


class TestWait:
    """Nudges alone."""

    def test_a_nudge_ends_it(self) -> None:
        thread, host = OneThread(), ServerThread(threading.Lock())
        waited = thread.begin(lambda: host.await_wake(FOREVER))
        host.wake()
        assert waited() is True
        thread.end()

    def test_a_nudge_before_it_is_not_lost(self) -> None:
        host = ServerThread(threading.Lock())
        host.wake()
        assert bounded(lambda: host.await_wake(FOREVER)) is True

    def test_without_a_nudge_it_ends_in_time(self) -> None:
        host = ServerThread(threading.Lock())
        assert host.await_wake(SHORT) is False
        host.wake()
        assert host.await_wake(SHORT) is True
        assert host.await_wake(SHORT) is False

    def test_none_of_many_is_lost(self) -> None:
        """A thread that looks after each wake sees what was there before it."""
        thread, host = OneThread(), ServerThread(threading.Lock())
        handed = 0

        def take() -> int:
            while handed < 2000:
                host.await_wake(FOREVER)
            return handed

        taken = thread.begin(take)
        for _ in range(2000):
            handed += 1
            host.wake()
        assert 2000 == taken()
        thread.end()


class TestWaitReadable:
    """Nudges, or the connection: whichever is first."""

    def test_data_ends_it(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        thread, host = OneThread(), ServerThread(threading.Lock())
        waited = thread.begin(lambda: host.await_readable(server.fileno(), FOREVER))
        client.sendall(b"x")
        assert waited() is True
        assert b"x" == server.recv(1)
        host.leave()
        thread.end()

    @pytest.mark.parametrize("how", ["close", "half"])
    def test_the_end_of_the_connection_ends_it(self, how: str, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        thread, host = OneThread(), ServerThread(threading.Lock())
        waited = thread.begin(lambda: host.await_readable(server.fileno(), FOREVER))
        client.close() if how == "close" else client.shutdown(socket.SHUT_WR)
        assert waited() is True
        host.leave()
        thread.end()

    def test_a_nudge_ends_it(self, pair: tuple[socket.socket, socket.socket]) -> None:
        thread, host = OneThread(), ServerThread(threading.Lock())
        waited = thread.begin(lambda: host.await_readable(pair[1].fileno(), FOREVER))
        host.wake()
        assert waited() is True
        host.leave()
        thread.end()

    def test_a_nudge_before_it_is_not_lost(self, pair: tuple[socket.socket, socket.socket]) -> None:
        host = ServerThread(threading.Lock())
        host.wake()
        assert bounded(lambda: host.await_readable(pair[1].fileno(), FOREVER)) is True
        host.leave()

    def test_without_either_it_ends_in_time(self, pair: tuple[socket.socket, socket.socket]) -> None:
        host = ServerThread(threading.Lock())
        assert host.await_readable(pair[1].fileno(), SHORT) is False
        host.wake()
        assert host.await_readable(pair[1].fileno(), SHORT) is True
        assert host.await_readable(pair[1].fileno(), SHORT) is False
        host.leave()

    def test_nudges_in_turn_with_data_are_all_noticed(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        thread, host = OneThread(), ServerThread(threading.Lock())
        handed = taken = read = 0
        turn = threading.Semaphore(0)

        def serve() -> tuple[int, int]:
            nonlocal taken, read
            while taken < 300 or read < 300:
                if read < 300:
                    host.await_readable(server.fileno(), FOREVER)
                else:
                    host.await_wake(FOREVER)
                server.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    read += len(server.recv(100))
                if handed > taken:
                    taken = handed
                    turn.leave()
            return taken, read

        served = thread.begin(serve)
        for number in range(300):
            if number % 2:
                client.sendall(b"x")
            handed += 1
            host.wake()
            assert turn.acquire(timeout=8), f"wake {number} was lost"
            if not number % 2:
                client.sendall(b"x")
        assert (300, 300) == served()
        host.leave()
        thread.end()

    def test_release_closes_what_it_needed(self, pair: tuple[socket.socket, socket.socket]) -> None:
        before = set(os.listdir("/proc/self/fd"))
        host = ServerThread(threading.Lock())
        host.await_readable(pair[1].fileno(), SHORT)
        host.leave()
        host.leave()
        assert before == set(os.listdir("/proc/self/fd"))

    def test_nudges_after_release_write_nowhere(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """The number of a closed descriptor may be that of somebody's file by then."""
        host = ServerThread(threading.Lock())
        host.await_readable(pair[1].fileno(), SHORT)
        host.leave()
        ends = os.pipe()
        try:
            for _ in range(10):
                host.wake()
            os.set_blocking(ends[0], False)
            with pytest.raises(BlockingIOError):
                os.read(ends[0], 1)
        finally:
            for end in ends:
                os.close(end)

    def test_nudges_while_the_thread_leaves_are_harmless(self, pair: tuple[socket.socket, socket.socket]) -> None:
        thread = OneThread()
        for _ in range(20):
            host = ServerThread(threading.Lock())
            stop = Flag()

            def nudge_on(host: ServerThread = host, stop: Flag = stop) -> None:
                while not stop.is_set():
                    host.wake()

            nudging = threading.Thread(target=nudge_on)
            nudging.start()
            try:
                for _ in range(3):
                    thread.run(lambda host=host: host.await_readable(pair[1].fileno(), FOREVER))  # type: ignore[misc]
                thread.run(host.release)
            finally:
                stop.set()
                nudging.join()
        thread.end()


class TestDescribe:
    """For the log, when something takes too long."""

    def test_it_names_the_thread_and_where_it_is(self) -> None:
        thread = OneThread()
        host = thread.run(ServerThread)
        at_work, go_on = Flag(), Flag()

        def busy_with_this() -> None:
            at_work.set()
            go_on.await_wake()

        ended = thread.begin(busy_with_this)
        at_work.await_wake()
        description = host.describe()
        go_on.set()
        ended()
        thread.end()

        assert "server-thread" in description
        assert "busy_with_this" in description

    def test_a_thread_that_has_ended_is_no_error(self) -> None:
        thread = threading.Thread(target=lambda: hosts.append(ServerThread(threading.Lock())))
        hosts: list[ServerThread] = []
        thread.start()
        thread.join()

        assert "it has ended" in hosts[0].describe()
