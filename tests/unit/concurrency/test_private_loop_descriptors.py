"""Code that closes all descriptors of the process, as daemons do, closes the private loop's too.

Other files get their numbers then. The loop is replaced, and must not touch those files.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bridge._concurrency import private_loop
from bridge._concurrency.loops import LoopClosed, Posted
from bridge._concurrency.private_loop import PrivateLoop
from support.asgi_apps import reply
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import Flag, LogWatch, bounded, until


class Descriptors:
    """The descriptors of a loop, until `replace` gives their numbers to another file."""

    def __init__(self, loop: PrivateLoop, path: Path) -> None:
        # Not the loop object itself: a test's fixtures would keep its last task alive, which never ends.
        self.handle: Any = loop.loop
        self.ended = loop._end
        self.loop = self.handle.loop
        self._path = path
        self._sender = self.handle._sender.fileno()
        ends = (self.loop._ssock, self.loop._csock, self.handle._sender, self.handle._receiver)
        self._numbers = [self.loop._selector.fileno(), *(end.fileno() for end in ends)]
        self._kept: dict[int, int] = {}

    def replace(self) -> None:
        other = os.open(self._path, os.O_RDWR | os.O_CREAT)
        for number in self._numbers:
            self._kept[number] = os.dup(number)
            os.dup2(other, number)
        os.close(other)

    @property
    def untouched(self) -> bool:
        """Whether the other file is still there at all numbers, with nothing written to it."""
        file = os.stat(self._path)
        return file.st_size == 0 and all(os.path.sameopenfile(each, self._numbers[0]) for each in self._numbers)

    def wake(self) -> None:
        """Wake a loop that waits for what had these numbers, so that its thread can end."""
        with suppress(BrokenPipeError):  # it has ended
            os.write(self._kept[self._sender], b"\0")

    def close(self) -> None:
        for number in (*self._kept, *self._kept.values()):
            os.close(number)
        # So that they do not close the numbers again at the end of this process.
        for end in (self.loop._ssock, self.loop._csock):
            if end is not None:
                socket.socket.detach(end)


@pytest.fixture
def descriptors(tmp_path: Path) -> Iterator[Descriptors]:
    """Those of the loop, which the test has rented."""
    user = object()
    loop = bounded(lambda: private_loop.acquire(None, user))
    found = Descriptors(loop, tmp_path / "other")
    yield found
    bounded(lambda: private_loop.release(loop, user))
    assert found.untouched
    found.wake()
    until(found.ended.is_set)
    assert found.untouched
    found.close()


@contextmanager
def site(at_break: Callable[[], object]) -> Iterator[Any]:
    """An app that calls `at_break`, on its loop, for the path /breaks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/breaks":
            at_break()
        if scope["path"] == "/waits":
            task: Any = asyncio.current_task()
            task._log_destroy_pending = False  # it never ends
            await asyncio.Event().wait()
        await reply(send, b"ok")

    with adapted(app) as adapter:
        yield adapter


def works(adapter: Any, path: str = "/") -> bool:
    return ask(adapter, environ_for("GET", path)).body == b"ok"


@pytest.mark.usefixtures("nothing_waits_by_the_clock")
def test_closed_on_the_loop(descriptors: Descriptors, log: LogWatch) -> None:
    with site(descriptors.replace) as adapter:
        for path in ("/", "/breaks", "/", "/"):
            assert works(adapter, path)
    assert len(log.having("cannot continue")) == 1


@pytest.mark.usefixtures("nothing_waits_by_the_clock")
def test_closed_while_the_loop_waits(descriptors: Descriptors, log: LogWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can wake it, which the next request finds out."""
    waits = Flag()
    selector = descriptors.loop._selector

    def watched(timeout: float | None = None) -> Any:
        if timeout is None:
            # In a copy, which is the same file whether it is replaced in this wait or just before it.
            with select.epoll.fromfd(os.dup(selector.fileno())) as copy:
                waits.set()
                copy.poll()
            timeout = 0
        return wait(timeout)

    wait = selector.select
    with site(descriptors.replace) as adapter:
        assert works(adapter)
        # On the loop: what the request has posted is done, and the next wait is the one that lasts.
        descriptors.handle.post(Posted(lambda: monkeypatch.setattr(selector, "select", watched)))
        waits.wait()
        descriptors.replace()
        for _ in range(2):
            assert works(adapter)
        assert not descriptors.ended.is_set()
        assert not descriptors.handle.blocked_for  # which would grow for ever, in the stats of the adapter
    assert len(log.having("cannot continue")) == 1


@pytest.mark.usefixtures("looks_often")
def test_requests_in_progress_count_as_aborted(descriptors: Descriptors) -> None:
    """Once there is another loop, the first counts as neither busy nor blocked."""
    with site(descriptors.replace) as adapter, Served(adapter, environ_for("GET", "/waits")) as waiting:
        called = waiting.begin()
        until(lambda: adapter.stats().busy)
        assert works(adapter, "/breaks")
        with pytest.raises(LoopClosed):
            called()
        assert works(adapter)
        stats = adapter.stats()
        assert (0, 1, 2) == (stats.busy, stats.aborted, stats.served)
        bounded(adapter.close)
        assert adapter.stats().aborted == 1


def test_a_request_that_has_not_begun_starts_again_before_the_loop_is_closed(
    descriptors: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that waits for it finds the loop lost before the loop's own thread has said so."""
    entered, goes_on, closes = Flag(), Flag(), Flag()
    close = private_loop._close

    def late(*args: Any, **options: Any) -> None:
        closes.wait()
        close(*args, **options)

    def at_break() -> None:
        entered.set()
        goes_on.wait()
        descriptors.replace()

    monkeypatch.setattr(private_loop, "_close", late)
    with (
        site(at_break) as adapter,
        Served(adapter, environ_for("GET", "/breaks")) as first,
        Served(adapter, environ_for("GET", "/")) as second,
    ):
        first_called = first.begin()
        entered.wait()
        second_called = second.begin()
        until(lambda: descriptors.handle._posted)
        goes_on.set()
        assert [first_called().rest(), second_called().rest()] == [b"ok", b"ok"]
        assert not descriptors.ended.is_set()
        closes.set()
