"""Async code for a request, called from the thread that serves it: on the private loop, and on a server's."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async

from bridge import ClientDisconnected, WsgiToAsgi
from bridge._asgi_to_wsgi.portal import Portal, PortalIterator
from bridge._concurrency.byte_queue import ByteQueue
from bridge._concurrency.jobs import current
from bridge._concurrency.loops import AsyncioLoop
from support.endless import EndlessItems
from support.scripted_asgi_server import get, opened, serve
from support.waiting import Flag, OneThread, until
from support.wsgi_apps import reply

variable: contextvars.ContextVar[str] = contextvars.ContextVar("portal", default="unset")


@pytest.fixture
def portal() -> Iterator[Portal]:
    made = Portal.of(None)
    yield made
    made.close()


async def _echo(*values: Any, **named: Any) -> Any:
    return values, named


class TestCall:
    def test_what_it_returns_and_raises(self, portal: Portal) -> None:
        """What the function does, with a traceback that leads there."""

        async def fails() -> None:
            raise LookupError("here")

        assert (((1, 2), {"a": 3})) == portal.call({}, _echo, 1, 2, a=3)
        with pytest.raises(LookupError) as raised:
            portal.call({}, fails)
        assert "fails" in [entry.name for entry in raised.traceback]

    def test_all_calls_share_a_loop(self, portal: Portal) -> None:
        """From whichever thread; and asgiref's own way leads there too."""

        async def loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        def sync() -> asyncio.AbstractEventLoop:
            installed = portal.install()
            found: asyncio.AbstractEventLoop = async_to_sync(loop)()
            portal.uninstall(installed)
            return found

        other = OneThread()
        loops = {portal.call({}, loop), other.run(lambda: portal.call({}, loop)), other.run(sync), sync()}
        other.end()
        assert 1 == len(loops)

    def test_the_thread_is_left_as_it_was(self, portal: Portal) -> None:
        """What `install` has put there goes with `uninstall`."""

        async def loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        outer = portal.install()
        assert outer[0]
        portal.prepare(list)
        ours = async_to_sync(loop)()
        inner = portal.install()
        assert (False, list) == inner
        portal.prepare(dict)
        portal.uninstall(inner)
        assert current.prepare is list
        portal.uninstall(outer)
        assert current.prepare is None
        assert ours is not async_to_sync(loop)()

    def test_a_loop_that_has_ended_is_none(self, portal: Portal) -> None:
        """asgiref leaves it in a thread that has worked for it."""
        async_to_sync(sync_to_async(int))()  # type: ignore[arg-type]
        assert getattr(SyncToAsync.threadlocal, "main_event_loop", None) is not None
        installed = portal.install()
        assert installed[0]
        portal.uninstall(installed)

    def test_sensitive_work_is_done_in_the_thread_that_waits(self, portal: Portal) -> None:
        """Also from tasks, and nested."""

        async def asks() -> set[int]:
            found = await asyncio.gather(*(sync_to_async(threading.get_ident)() for _ in range(5)))
            return {*found, await sync_to_async(lambda: portal.call({}, nested))()}

        async def nested() -> int:
            found: int = await sync_to_async(threading.get_ident)()
            return found

        assert {threading.get_ident()} == portal.call({}, asks)

    def test_context_goes_there_and_comes_back(self, portal: Portal) -> None:
        """As with asgiref's async_to_sync."""

        async def sets() -> str:
            before = variable.get()
            variable.set("inside")
            return before

        def run() -> tuple[str, str]:
            variable.set("outside")
            return portal.call({}, sets), variable.get()

        assert ("outside", "inside") == contextvars.Context().run(run)
        assert "unset" == variable.get()

    def test_a_cancelled_error_of_its_own_is_a_failure(self, portal: Portal) -> None:
        """Nobody asked for it."""

        async def cancels() -> None:
            raise asyncio.CancelledError

        with pytest.raises(RuntimeError, match="ended with a CancelledError"):
            portal.call({}, cancels)

    def test_the_client_leaves(self, portal: Portal) -> None:
        """The call is cancelled, and has its cleanup done in the thread."""
        waiting = Flag()
        cleaned: list[int] = []

        async def waits() -> None:
            try:
                waiting.set()
                await asyncio.Event().wait()
            finally:
                cleaned.append(await sync_to_async(threading.get_ident)())

        class Gone:
            def fileno(self) -> int:
                return reader.fileno()

        import socket

        reader, writer = socket.socketpair()
        with reader, writer:
            thread = OneThread()
            outcome = thread.begin(lambda: portal.call({"gunicorn.socket": Gone()}, waits))
            waiting.wait()
            writer.close()
            with pytest.raises(asyncio.CancelledError):
                outcome()
            assert [thread.ident] == cleaned
            thread.end()

    def test_the_client_leaves_a_call_inside_a_call(self, portal: Portal) -> None:
        """Django calls like this for async middleware, sync middleware below it, and an async view. Only the inner one
        is told of the leave, and the outer one takes its end for that, not for a failure.
        """
        waiting = Flag()

        async def waits() -> None:
            waiting.set()
            await asyncio.Event().wait()

        class Gone:
            def fileno(self) -> int:
                return reader.fileno()

        import socket

        reader, writer = socket.socketpair()
        environ = {"gunicorn.socket": Gone()}
        with reader, writer:
            thread = OneThread()
            outcome = thread.begin(lambda: portal.call(environ, sync_to_async(lambda: portal.call(environ, waits))))
            waiting.wait()
            writer.close()
            with pytest.raises(asyncio.CancelledError):
                outcome()
            thread.end()


class TestIterate:
    def test_chunks(self, portal: Portal) -> None:
        """All of them, in order; what has piled up comes joined."""

        async def chunks() -> AsyncIterator[bytes]:
            for number in range(500):
                yield b"%d." % number

        assert b"".join(b"%d." % number for number in range(500)) == b"".join(portal.iterate({}, chunks))

    def test_an_iterable_that_is_faster_than_the_server_does_not_hold_it_up(self) -> None:
        """What is taken makes room for more, so that there may always be something."""
        output = ByteQueue()
        output.items = EndlessItems()

        def next_item() -> bytes:
            item: bytes = output.items.popleft()
            output.acknowledge_item(len(item))
            return item

        iteration: Any = SimpleNamespace(
            start=lambda: None,
            next=next_item,
            output=output,
            finished=True,
            complete=True,
            disconnected=False,
            release=lambda: None,
        )
        with contextlib.closing(PortalIterator(lambda: iteration)) as chunks:
            assert 60_000 < len(next(chunks)) < 70_000

    def test_waitress_hears_of_the_leave_in_its_own_words(self, portal: Portal) -> None:
        """It logs every other exception as an error."""
        channel = pytest.importorskip("waitress.channel")
        left: list[bool] = []

        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            await asyncio.Event().wait()

        taken = portal.iterate({"waitress.client_disconnected": lambda: bool(left)}, chunks)
        assert b"one" == next(taken)
        left.append(True)
        with pytest.raises(channel.ClientDisconnected):
            next(taken)

    def test_backpressure(self, portal: Portal) -> None:
        """It runs ahead by a bounded number of bytes."""
        made = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal made
            while True:
                made += 1
                yield b"x" * 8192

        taken = portal.iterate({}, chunks)
        assert next(taken)
        until(lambda: made >= 8)
        assert made < 40
        taken.close()

    def test_close_ends_it(self, portal: Portal) -> None:
        """With its cleanup on the loop."""
        ended = Flag()

        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.set()

        taken = portal.iterate({}, chunks)
        assert b"one" == next(taken)
        taken.close()
        assert ended.is_set()

    def test_one_that_finds_by_itself_that_it_is_closed(self, portal: Portal) -> None:
        """It has begun its cleanup before the loop is told to end it, and then completes it."""
        closing, ended = Flag(), Flag()

        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                closing.wait()  # the loop does nothing else meanwhile
                until(lambda: taken._iteration.disconnected and taken._iteration._posted)
                yield b"two"
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                ended.set()

        taken: Any = portal.iterate({}, chunks)
        assert b"one" == next(taken)
        closing.set()
        taken.close()
        assert ended.is_set()

    def test_one_that_waits_for_room(self, portal: Portal) -> None:
        """It is woken, and is about to be cancelled: its cleanup is not."""
        ended = Flag()

        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 8192
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                ended.set()

        taken: Any = portal.iterate({}, chunks)
        assert next(taken)
        until(lambda: taken._iteration.room_wanted)
        taken.close()
        assert ended.is_set()

    def test_one_that_nobody_closes(self, portal: Portal) -> None:
        """Ends when it is forgotten."""
        ended = Flag()

        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                await asyncio.Event().wait()
            finally:
                ended.set()

        taken = portal.iterate({}, chunks)
        assert b"one" == next(taken)
        del taken
        ended.wait()

    def test_what_it_raises(self, portal: Portal) -> None:
        """After what it gave."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            raise LookupError("here")

        taken = portal.iterate({}, chunks)
        assert b"one" == next(taken)
        with pytest.raises(LookupError):
            next(taken)
        with pytest.raises(StopIteration):
            next(iter([]))


class TestOnTheServersLoop:
    @pytest.fixture(params=[pytest.param(("asyncio", {"debug": True}), id="asyncio-debug")])
    def anyio_backend(self, request: pytest.FixtureRequest) -> object:
        return request.param

    @pytest.mark.anyio
    async def test_a_call_in_a_worker_thread(self, adapt: Callable[..., WsgiToAsgi], portal: Portal) -> None:
        """Runs on the loop that the request came from."""
        found: list[Any] = []

        async def loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        def app(environ: Any, start_response: Any) -> list[bytes]:
            found.append(portal.call(environ, loop))
            return reply(start_response)

        assert 200 == (await serve(adapt(app), *get())).status
        assert [asyncio.get_running_loop()] == found

    @pytest.mark.anyio
    async def test_the_client_leaves(self, adapt: Callable[..., WsgiToAsgi], portal: Portal) -> None:
        """What waits is cancelled, and its thread is free."""
        waiting, ended = Flag(), Flag()

        async def waits() -> None:
            try:
                waiting.set()
                await asyncio.Event().wait()
            finally:
                ended.set()

        def app(environ: Any, start_response: Any) -> list[bytes]:
            portal.call(environ, waits)
            raise AssertionError("it is cancelled")

        adapter = adapt(app, threads=1)
        with contextlib.suppress(ClientDisconnected):
            async with opened(adapter, *get()) as request:
                await waiting.waited()
                request.leave()
                await ended.waited()

    @pytest.mark.usefixtures("looks_often")
    def test_a_loop_that_is_closed_before_the_function_begins(
        self, portal: Portal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server had given up the request. It ends as if its client had left, which nobody logs as an error."""
        raised: list[BaseException] = []
        begun, go, called, over = Flag(), Flag(), Flag(), Flag()
        post = AsyncioLoop.post

        def posting(loop: AsyncioLoop, target: Any) -> None:
            post(loop, target)
            if go.is_set():
                called.set()

        def app(environ: Any, start_response: Any) -> list[bytes]:
            begun.set()
            go.wait()
            try:
                portal.call(environ, _echo)
            except BaseException as error:
                raised.append(error)
            over.set()
            return reply(start_response)

        async def main() -> None:
            request = asyncio.create_task(serve(adapter, *get()))
            await begun.waited()
            request.cancel()
            await asyncio.wait([request])

        monkeypatch.setattr(AsyncioLoop, "post", posting)
        with WsgiToAsgi(app) as adapter:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            go.set()
            called.wait()
            loop.close()
            over.wait()

        assert [asyncio.CancelledError] == [type(error) for error in raised]
