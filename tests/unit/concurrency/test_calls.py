"""One call of a thread: what it writes and reads, how it waits, and how it ends; and the dispatcher of a loop."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import anyio
import pytest
import uvloop

from bridge._concurrency.byte_queue import HIGH_WATER_BYTES, ITEM_OVERHEAD_BYTES
from bridge._concurrency.calls import TICK_SECONDS, Call, Dispatcher, PeerGone, run_in_thread
from bridge._concurrency.jobs import PoolClosed
from bridge._wsgi_to_asgi.dispatchers import Dispatchers
from support.patience import PATIENCE
from support.waiting import Flag, LogWatch, eventually, until

Script = Callable[["Scripted"], Generator[None] | None]


class Scripted(Call):
    """A call whose work is a function of the test's."""

    def __init__(self, dispatcher: Dispatcher, script: Script) -> None:
        super().__init__(dispatcher)
        self._script = script
        self.ident: int | None = None

    def work(self) -> Generator[None] | None:
        self.ident = threading.get_ident()
        return self._script(self)

    @property
    def full(self) -> bool:
        """Whether its thread has to wait before it writes more."""
        return self.output is not None and self.output.full


@pytest.fixture
def dispatchers() -> Iterator[Dispatchers]:
    """The dispatchers of one adapter, with two threads."""
    dispatchers = Dispatchers(2, 2.0, None)
    yield dispatchers
    dispatchers.close()


async def finished(call: Call) -> None:
    """Wait for the end of a call."""
    with anyio.fail_after(PATIENCE):
        while not call.finished:
            await call.changed()


async def tick_until_finished(call: Call) -> None:
    """What the task of a request does on trio."""
    while not call.finished:
        await anyio.sleep(TICK_SECONDS)
        call.dispatcher.tick(call)


async def written(call: Call, number: int) -> list[Any]:
    """Wait until a call has written so many items."""
    with anyio.fail_after(PATIENCE):
        while call.output is None or len(call.output.items) < number:
            await call.changed()
    return list(call.output.items.copy())  # its thread may add to it meanwhile


@pytest.mark.anyio
async def test_work_runs_in_a_thread(dispatchers: Dispatchers) -> None:
    """It is done elsewhere, and its end arrives on the loop."""
    call = Scripted(dispatchers.here(), lambda _call: None)
    call.dispatcher.submit(call)
    await finished(call)

    assert call.ident not in (None, threading.get_ident())
    assert call.error is None


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("later", [False, True])
async def test_what_the_work_raises_is_kept(dispatchers: Dispatchers, error: BaseException, later: bool) -> None:
    """Whatever it is, it ends the call and not the thread."""

    def steps() -> Generator[None]:
        yield
        raise error

    def script(_call: Scripted) -> Generator[None] | None:
        if later:
            return steps()
        raise error

    call = Scripted(dispatchers.here(), script)
    call.dispatcher.submit(call)
    await finished(call)
    following = Scripted(dispatchers.here(), lambda _call: None)
    following.dispatcher.submit(following)
    await finished(following)

    assert call.error is error
    assert following.error is None


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_a_call_that_cannot_post_is_ended(
    dispatchers: Dispatchers, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    """No memory to reach the loop, once: the loop hears of the end all the same, and what was begun is closed."""
    dispatcher = dispatchers.here()
    genuine, closed, failed = dispatcher.loop.post, Flag(), Flag()

    def steps(call: Scripted) -> Generator[None]:
        try:
            call.write([b"1"], 1)
            yield
        finally:
            closed.set()

    def post(target: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise MemoryError("no memory to post")
        genuine(target)

    call = Scripted(dispatcher, steps if streams else lambda _call: None)
    monkeypatch.setattr(dispatcher.loop, "post", post)
    dispatcher.submit(call)
    await finished(call)
    following = Scripted(dispatcher, lambda _call: None)
    dispatcher.submit(following)
    await finished(following)
    await eventually(lambda: call.error)  # its thread is later than the loop that does not wait to be woken

    assert isinstance(call.error, MemoryError)
    assert closed.is_set() is streams
    assert following.error is None


@pytest.mark.anyio
async def test_items_arrive_in_their_order(dispatchers: Dispatchers) -> None:
    """What is written is in `output`, each time with its mark, and wakes the task."""
    go = Flag()

    def script(call: Scripted) -> Generator[None]:
        call.write([b"1", b"2"], 2)
        yield
        go.wait()
        call.write([None], 0)
        yield

    call = Scripted(dispatchers.here(), script)
    call.dispatcher.submit(call)
    first = ITEM_OVERHEAD_BYTES + 2
    assert await written(call, 3) == [b"1", b"2", first]
    go.set()
    assert await written(call, 5) == [b"1", b"2", first, None, first + ITEM_OVERHEAD_BYTES]
    await finished(call)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_who_writes_too_much_waits(dispatchers: Dispatchers, size: int) -> None:
    """No more than a bounded number of bytes is on its way, however small the items are."""
    item = b"x" * size
    count = 3 * HIGH_WATER_BYTES // (size + ITEM_OVERHEAD_BYTES)
    over = Flag()

    def script(call: Scripted) -> Generator[None]:
        for _ in range(count):
            call.write([item], size)
            yield
        over.set()

    call = Scripted(dispatchers.here(), script)
    call.dispatcher.submit(call)
    await written(call, 2)
    await over.held()
    assert call.output is not None
    items = call.output.items
    waiting = len(items) // 2  # each has a mark
    total = 0
    with anyio.fail_after(PATIENCE):
        while not (call.finished and not items):
            if not items:
                await call.changed()
            while items:  # one by one, as more may come meanwhile
                taken = items.popleft()
                if isinstance(taken, int):
                    call.acknowledge(taken)
                else:
                    total += 1

    assert waiting * size <= HIGH_WATER_BYTES + size
    assert waiting <= HIGH_WATER_BYTES // 16
    assert total == count


@pytest.mark.anyio
async def test_the_thread_reads_what_the_loop_feeds(dispatchers: Dispatchers) -> None:
    """In order, and it waits where there is nothing."""
    read: list[bytes] = []

    def script(call: Scripted) -> None:
        while len(read) < 3:
            read.append(call.read())

    call = Scripted(dispatchers.here(), script)
    call.dispatcher.submit(call)
    call.feed(b"1")
    await eventually(lambda: read == [b"1"])
    call.feed(b"2")
    call.feed(b"3")
    await finished(call)

    assert read == [b"1", b"2", b"3"]


@pytest.mark.anyio
async def test_who_feeds_too_much_waits(dispatchers: Dispatchers) -> None:
    """The loop waits for room until the thread has taken most of what it was fed."""
    go = Flag()
    read: list[bytes] = []

    def script(call: Scripted) -> None:
        call.read()
        go.wait()
        while data := call.read():
            read.append(data)

    call = Scripted(dispatchers.here(), script)
    call.dispatcher.submit(call)
    fed = 0

    async def feed() -> None:
        nonlocal fed
        for _ in range(100):
            await call.wait_for_room()
            call.feed(b"x" * 10_000)
            fed += 1
        call.feed(b"")

    call.feed(b"first")
    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        with anyio.move_on_after(0.1):
            await eventually(lambda: fed > 10)
        before = fed
        go.set()
        await finished(call)

    assert before == HIGH_WATER_BYTES // 10_000 + 1
    assert read == [b"x" * 10_000] * 100


@pytest.mark.anyio
async def test_room_does_not_wait_for_a_call_that_is_over(dispatchers: Dispatchers) -> None:
    """What nobody will take any more holds nobody up."""
    call = Scripted(dispatchers.here(), lambda _call: None)
    call.dispatcher.submit(call)
    call.feed(b"x" * 2 * HIGH_WATER_BYTES)
    with anyio.fail_after(PATIENCE):
        await call.wait_for_room()

    await finished(call)


@pytest.mark.anyio
async def test_an_abandoned_call_that_waits_for_a_thread_is_never_run(dispatchers: Dispatchers) -> None:
    """It is over at once."""
    go = Flag()
    dispatcher = dispatchers.here()
    held = [Scripted(dispatcher, lambda _call: go.wait()) for _ in range(2)]
    for call in held:
        dispatcher.submit(call)
    await eventually(lambda: all(call.ident for call in held))
    waiting = Scripted(dispatcher, lambda _call: None)
    dispatcher.submit(waiting)
    waiting.abandon()
    go.set()
    for call in held:
        await finished(call)

    assert (waiting.finished, waiting.abandoned, waiting.ident) == (True, True, None)
    assert dispatcher.pool.waiting == 0


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["writing too much", "reading", "at its next step", "writing"])
async def test_an_abandoned_call_is_told_when_it_next_asks(dispatchers: Dispatchers, where: str) -> None:
    """Its thread leaves every wait with `PeerGone`, and what it has begun is ended there."""
    go, cleaned = Flag(), Flag()
    raised: list[type[BaseException]] = []
    threads: list[int] = []

    def steps(call: Scripted) -> Generator[None]:
        try:
            if where == "reading":
                call.read()
            elif where == "writing":
                go.wait()
                call.write([b"1"], 1)
            elif where == "at its next step":
                call.write([b"1"], 1)
                go.wait()
                yield
            else:
                while True:
                    call.write([b"x" * 1000], 1000)
                    yield
        except BaseException as error:
            raised.append(type(error))
            raise
        finally:
            threads.append(threading.get_ident())
            cleaned.set()

    call = Scripted(dispatchers.here(), steps)
    call.dispatcher.submit(call)
    await eventually(lambda: call.ident and (call.full or where != "writing too much"))
    call.abandon()
    go.set()
    await cleaned.waited()
    await finished(call)

    assert raised == [GeneratorExit if where in ("writing too much", "at its next step") else PeerGone]
    assert threads == [call.ident]


@pytest.mark.anyio
async def test_what_the_clean_up_of_an_abandoned_call_raises_is_kept(dispatchers: Dispatchers) -> None:
    """It ends neither the thread nor the silence: whoever asks finds it."""
    error = ValueError("while cleaning up")

    def steps(call: Scripted) -> Generator[None]:
        try:
            while True:
                call.write([b"x" * 1000], 1000)
                yield
        finally:
            raise error

    call = Scripted(dispatchers.here(), steps)
    call.dispatcher.submit(call)
    await eventually(lambda: call.full)
    call.abandon()
    await finished(call)

    assert call.error is error


@pytest.mark.anyio
async def test_a_call_that_is_over_cannot_be_abandoned(dispatchers: Dispatchers) -> None:
    """It stays what it is."""
    call = Scripted(dispatchers.here(), lambda _call: None)
    call.dispatcher.submit(call)
    await finished(call)
    call.abandon()

    assert call.abandoned is False


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.anyio
async def test_the_work_has_the_context_in_which_the_call_was_made(dispatchers: Dispatchers) -> None:
    """A copy, which all steps share and nobody else sees."""
    seen: list[str] = []

    def steps(_call: Scripted) -> Generator[None]:
        seen.append(variable.get())
        variable.set("by the work")
        yield
        seen.append(variable.get())

    variable.set("by the task")
    call = Scripted(dispatchers.here(), steps)
    variable.set("too late")
    call.dispatcher.submit(call)
    await finished(call)

    assert seen == ["by the task", "by the work"]
    assert variable.get() == "too late"


@pytest.mark.anyio
async def test_a_slow_call_says_so_once(dispatchers: Dispatchers) -> None:
    """`on_slow` is called on the loop when a call has taken longer than a tick or two."""
    go = Flag()
    threads: list[int] = []
    call = Scripted(dispatchers.here(), lambda _call: go.wait())
    call.on_slow = lambda: threads.append(threading.get_ident())
    call.dispatcher.submit(call)
    async with anyio.create_task_group() as group:
        if not call.dispatcher.loop.is_asyncio:
            group.start_soon(tick_until_finished, call)
        await eventually(lambda: threads)
        go.set()
        await finished(call)
    assert call.slow
    assert threads == [threading.get_ident()]


@pytest.mark.anyio
async def test_no_tick_goes_on_for_ever(dispatchers: Dispatchers) -> None:
    """The dispatcher does not tick for calls that are over."""
    dispatcher = dispatchers.here()
    for _ in range(3):
        call = Scripted(dispatcher, lambda _call: None)
        dispatcher.submit(call)
        await finished(call)

    await eventually(lambda: not dispatcher.live and not dispatcher._ticking)


@pytest.mark.anyio
async def test_the_end_of_the_pool_ends_its_waiting_calls(dispatchers: Dispatchers) -> None:
    """Who waits for a call that was dropped is told."""
    go = Flag()
    dispatcher = dispatchers.here()
    held = [Scripted(dispatcher, lambda _call: go.wait()) for _ in range(2)]
    waiting = Scripted(dispatcher, lambda _call: None)
    for call in [*held, waiting]:
        dispatcher.submit(call)
        await eventually(lambda call=call: call.ident or call is waiting)
    dispatcher.pool.close(None)
    assert len(dispatcher.pool.join(0)) == 2
    await finished(waiting)
    go.set()
    for call in held:
        await finished(call)

    assert waiting.ident is None
    assert isinstance(waiting.error, PoolClosed)


@pytest.mark.anyio
async def test_a_stack_is_logged_once(log: LogWatch) -> None:
    """A call over the bound is logged when it ticks, and then no more."""
    entered, go = Flag(), Flag()

    def stuck_here(_call: Scripted) -> None:
        entered.set()
        go.wait()

    dispatchers = Dispatchers(1, 2.0, 0.0001)
    call = Scripted(dispatchers.here(), stuck_here)
    call.dispatcher.submit(call)
    await entered.waited()
    await eventually(lambda: call.dispatcher.tick(call) or log.at(logging.WARNING))
    for _ in range(3):
        call.dispatcher.tick(call)
    go.set()
    await finished(call)
    await anyio.to_thread.run_sync(dispatchers.close)
    [line] = log.at(logging.WARNING)

    assert "bridge-wsgi-1" in line
    assert "in stuck_here" in line


@pytest.mark.parametrize(
    "new_loop",
    [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")],
)
@pytest.mark.parametrize("where", ["writing too much", "reading", "writing for ever"])
def test_a_loop_that_is_closed(
    dispatchers: Dispatchers, monkeypatch: pytest.MonkeyPatch, new_loop: Any, where: str
) -> None:
    """The thread finds out by itself that nobody is there any more, also where nothing wakes it."""
    monkeypatch.setattr("bridge._concurrency.calls._LOOP_CHECK_SECONDS", 0.01)
    go, cleaned = Flag(), Flag()

    def steps(call: Scripted) -> Generator[None]:
        try:
            if where == "reading":
                call.read()
            if where == "writing for ever":
                go.wait()
            while True:
                call.write([b"x" * 100], 100)
                yield
        finally:
            cleaned.set()

    async def begin() -> Scripted:
        call = Scripted(dispatchers.here(), steps)
        call.dispatcher.submit(call)
        await eventually(lambda: call.ident and (call.full or where != "writing too much"))
        return call

    loop = new_loop()
    call = loop.run_until_complete(begin())
    loop.close()
    go.set()
    cleaned.wait()
    until(lambda: call.finished)

    assert call.abandoned


@pytest.mark.anyio
async def test_a_function_in_a_thread_returns(dispatchers: Dispatchers) -> None:
    """Its result comes back."""
    assert await run_in_thread(dispatchers.here(), threading.get_ident) != threading.get_ident()


@pytest.mark.anyio
async def test_a_function_in_a_thread_raises(dispatchers: Dispatchers) -> None:
    """What it raises is raised."""

    def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await run_in_thread(dispatchers.here(), fail)


@pytest.mark.anyio
async def test_a_function_in_a_thread_is_given_up(dispatchers: Dispatchers) -> None:
    """Who is cancelled does not wait for it."""
    entered, go = Flag(), Flag()

    def hold() -> None:
        entered.set()
        go.wait()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(run_in_thread, dispatchers.here(), hold)
            await entered.waited()
            scope.cancel()
    assert not go.is_set()
    go.set()

    assert await run_in_thread(dispatchers.here(), lambda: 5) == 5
