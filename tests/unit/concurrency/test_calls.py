"""One call of a thread: what it tells and hears, how it waits, and how it ends."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import anyio
import pytest
import uvloop

from bridge._concurrency.calls import HIGH_WATER_BYTES, ITEM_OVERHEAD_BYTES, PeerGone, Side
from bridge._concurrency.calls import Call
from bridge._concurrency.jobs import PoolClosed
from bridge._wsgi_to_asgi.dispatchers import Dispatchers, run_in_thread
from support.waiting import Flag, LogWatch, eventually, until

Script = Callable[["Scripted"], Generator[None] | None]


class Scripted(Call):
    """A call whose work is a function of the test's."""

    def __init__(self, side: Side, script: Script) -> None:
        super().__init__(side)
        self._script = script
        self.thread: int | None = None

    def work(self) -> Generator[None] | None:
        self.thread = threading.get_ident()
        return self._script(self)


@pytest.fixture
def calls() -> Iterator[Dispatchers]:
    """The calls of one adapter, with two threads."""
    calls = Dispatchers(2, 2.0, None)
    yield calls
    calls.close()


async def finished(call: Call) -> None:
    """Wait for the end of a call."""
    with anyio.fail_after(5):
        while not call.finished:
            await call.arrival()


async def told(call: Call, number: int) -> list[Any]:
    """Wait until a call has told so many items."""
    with anyio.fail_after(5):
        while len(call.out) < number:
            await call.arrival()
    return list(call.out)


@pytest.mark.anyio
async def test_work_runs_in_a_thread(calls: Dispatchers) -> None:
    """It is done elsewhere, and its end arrives on the loop."""
    call = Scripted(calls.here(), lambda _call: None)
    call.side.submit(call)
    await finished(call)

    assert call.thread not in (None, threading.get_ident())
    assert call.error is None


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("later", [False, True])
async def test_what_the_work_raises_is_kept(calls: Dispatchers, error: BaseException, later: bool) -> None:
    """Whatever it is, it ends the call and not the thread."""

    def steps() -> Generator[None]:
        yield
        raise error

    def script(_call: Scripted) -> Generator[None] | None:
        if later:
            return steps()
        raise error

    call = Scripted(calls.here(), script)
    call.side.submit(call)
    await finished(call)
    following = Scripted(calls.here(), lambda _call: None)
    following.side.submit(following)
    await finished(following)

    assert call.error is error
    assert following.error is None


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_a_call_that_cannot_tell_is_ended(calls: Dispatchers, monkeypatch: pytest.MonkeyPatch, streams: bool) -> None:
    """No memory to reach the loop, once: the loop hears of the end all the same, and what was begun is closed."""
    side = calls.here()
    genuine, closed, failed = side.crossing.post, Flag(), Flag()

    def steps(call: Scripted) -> Generator[None]:
        try:
            call.tell([b"1"], 1)
            yield
        finally:
            closed.set()

    def post(target: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise MemoryError("no memory to tell")
        genuine(target)

    call = Scripted(side, steps if streams else lambda _call: None)
    monkeypatch.setattr(side.crossing, "post", post)
    side.submit(call)
    await finished(call)
    following = Scripted(side, lambda _call: None)
    side.submit(following)
    await finished(following)

    assert isinstance(call.error, MemoryError)
    assert closed.is_set() is streams
    assert following.error is None


@pytest.mark.anyio
async def test_items_arrive_in_their_order(calls: Dispatchers) -> None:
    """What is told is in `out`, and wakes the task."""
    go = Flag()

    def script(call: Scripted) -> Generator[None]:
        call.tell([b"1", b"2"], 2)
        yield
        go.wait()
        call.tell([None], 0)
        yield

    call = Scripted(calls.here(), script)
    call.side.submit(call)
    assert await told(call, 2) == [b"1", b"2"]
    go.set()
    assert await told(call, 3) == [b"1", b"2", None]
    await finished(call)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_who_tells_too_much_waits(calls: Dispatchers, size: int) -> None:
    """No more than a bounded number of bytes is on its way, however small the items are."""
    item = b"x" * size
    count = 3 * HIGH_WATER_BYTES // (size + ITEM_OVERHEAD_BYTES)
    over = Flag()

    def script(call: Scripted) -> Generator[None]:
        for _ in range(count):
            call.tell([item], size)
            yield
        over.set()

    call = Scripted(calls.here(), script)
    call.side.submit(call)
    await told(call, 2)
    await over.held()
    waiting = len(call.out)
    total = 0
    with anyio.fail_after(5):
        while not (call.finished and not call.out):
            if not call.out:
                await call.arrival()
            size_so_far = call.told_size
            total += len(call.out)
            call.out.clear()
            call.took(size_so_far)

    assert waiting * size <= HIGH_WATER_BYTES + size
    assert waiting <= HIGH_WATER_BYTES // 16
    assert total == count


@pytest.mark.anyio
async def test_the_thread_hears_what_the_loop_gives(calls: Dispatchers) -> None:
    """In order, and it waits where there is nothing."""
    heard: list[bytes] = []

    def script(call: Scripted) -> None:
        while len(heard) < 3:
            heard.append(call.listen())

    call = Scripted(calls.here(), script)
    call.side.submit(call)
    call.give(b"1")
    await eventually(lambda: heard == [b"1"])
    call.give(b"2")
    call.give(b"3")
    await finished(call)

    assert heard == [b"1", b"2", b"3"]


@pytest.mark.anyio
async def test_who_gives_too_much_waits(calls: Dispatchers) -> None:
    """The loop waits for room until the thread has taken most of what it was given."""
    go = Flag()
    heard: list[bytes] = []

    def script(call: Scripted) -> None:
        call.listen()
        go.wait()
        while data := call.listen():
            heard.append(data)

    call = Scripted(calls.here(), script)
    call.side.submit(call)
    given = 0

    async def give() -> None:
        nonlocal given
        for _ in range(100):
            await call.room()
            call.give(b"x" * 10_000)
            given += 1
        call.give(b"")

    call.give(b"first")
    async with anyio.create_task_group() as group:
        group.start_soon(give)
        with anyio.move_on_after(0.1):
            await eventually(lambda: given > 10)
        before = given
        go.set()
        await finished(call)

    assert before == HIGH_WATER_BYTES // 10_000 + 1
    assert heard == [b"x" * 10_000] * 100


@pytest.mark.anyio
async def test_room_does_not_wait_for_a_call_that_is_over(calls: Dispatchers) -> None:
    """What nobody will take any more holds nobody up."""
    call = Scripted(calls.here(), lambda _call: None)
    call.side.submit(call)
    call.give(b"x" * 2 * HIGH_WATER_BYTES)
    with anyio.fail_after(5):
        await call.room()

    await finished(call)


@pytest.mark.anyio
async def test_an_abandoned_call_that_waits_for_a_thread_is_never_run(calls: Dispatchers) -> None:
    """It is over at once."""
    go = Flag()
    side = calls.here()
    held = [Scripted(side, lambda _call: go.wait()) for _ in range(2)]
    for call in held:
        side.submit(call)
    await eventually(lambda: all(call.thread for call in held))
    waiting = Scripted(side, lambda _call: None)
    side.submit(waiting)
    waiting.abandon()
    go.set()
    for call in held:
        await finished(call)

    assert (waiting.finished, waiting.gone, waiting.thread) == (True, True, None)
    assert side.threads.waiting == 0


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["telling too much", "listening", "at its next step", "telling"])
async def test_an_abandoned_call_is_told_when_it_next_asks(calls: Dispatchers, where: str) -> None:
    """Its thread leaves every wait with `PeerGone`, and what it has begun is ended there."""
    go, cleaned = Flag(), Flag()
    raised: list[type[BaseException]] = []
    threads: list[int] = []

    def steps(call: Scripted) -> Generator[None]:
        try:
            if where == "listening":
                call.listen()
            elif where == "telling":
                go.wait()
                call.tell([b"1"], 1)
            elif where == "at its next step":
                call.tell([b"1"], 1)
                go.wait()
                yield
            else:
                while True:
                    call.tell([b"x" * 1000], 1000)
                    yield
        except BaseException as error:
            raised.append(type(error))
            raise
        finally:
            threads.append(threading.get_ident())
            cleaned.set()

    call = Scripted(calls.here(), steps)
    call.side.submit(call)
    await eventually(lambda: call.thread and (call.stalled or where != "telling too much"))
    call.abandon()
    go.set()
    await cleaned.waited()
    await finished(call)

    assert raised == [GeneratorExit if where in ("telling too much", "at its next step") else PeerGone]
    assert threads == [call.thread]


@pytest.mark.anyio
async def test_what_the_clean_up_of_an_abandoned_call_raises_is_kept(calls: Dispatchers) -> None:
    """It ends neither the thread nor the silence: whoever asks finds it."""
    error = ValueError("while cleaning up")

    def steps(call: Scripted) -> Generator[None]:
        try:
            while True:
                call.tell([b"x" * 1000], 1000)
                yield
        finally:
            raise error

    call = Scripted(calls.here(), steps)
    call.side.submit(call)
    await eventually(lambda: call.stalled)
    call.abandon()
    await finished(call)

    assert call.error is error


@pytest.mark.anyio
async def test_a_call_that_is_over_cannot_be_abandoned(calls: Dispatchers) -> None:
    """It stays what it is."""
    call = Scripted(calls.here(), lambda _call: None)
    call.side.submit(call)
    await finished(call)
    call.abandon()

    assert call.gone is False


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.anyio
async def test_the_work_has_the_context_in_which_the_call_was_made(calls: Dispatchers) -> None:
    """A copy, which all steps share and nobody else sees."""
    seen: list[str] = []

    def steps(_call: Scripted) -> Generator[None]:
        seen.append(variable.get())
        variable.set("by the work")
        yield
        seen.append(variable.get())

    variable.set("by the task")
    call = Scripted(calls.here(), steps)
    variable.set("too late")
    call.side.submit(call)
    await finished(call)

    assert seen == ["by the task", "by the work"]
    assert variable.get() == "too late"


@pytest.mark.anyio
async def test_a_slow_call_says_so_once(calls: Dispatchers) -> None:
    """`on_slow` is called on the loop when a call has taken longer than a tick or two."""
    go = Flag()
    threads: list[int] = []
    call = Scripted(calls.here(), lambda _call: go.wait())
    call.on_slow = lambda: threads.append(threading.get_ident())
    call.side.submit(call)
    async with anyio.create_task_group() as group:
        if not call.side.crossing.is_asyncio:
            group.start_soon(call.tick_until_finished)
        await eventually(lambda: threads)
        go.set()
        await finished(call)
    assert call.slow
    assert threads == [threading.get_ident()]


@pytest.mark.anyio
async def test_no_tick_goes_on_for_ever(calls: Dispatchers) -> None:
    """The side does not tick for calls that are over."""
    side = calls.here()
    for _ in range(3):
        call = Scripted(side, lambda _call: None)
        side.submit(call)
        await finished(call)

    await eventually(lambda: not side.calls)


@pytest.mark.anyio
async def test_the_end_of_the_pool_ends_its_waiting_calls(calls: Dispatchers) -> None:
    """Who waits for a call that was dropped is told."""
    go = Flag()
    side = calls.here()
    held = [Scripted(side, lambda _call: go.wait()) for _ in range(2)]
    waiting = Scripted(side, lambda _call: None)
    for call in [*held, waiting]:
        side.submit(call)
        await eventually(lambda call=call: call.thread or call is waiting)
    side.threads.close(None)
    assert len(side.threads.join(0)) == 2
    await finished(waiting)
    go.set()
    for call in held:
        await finished(call)

    assert waiting.thread is None
    assert isinstance(waiting.error, PoolClosed)


@pytest.mark.anyio
async def test_a_stack_is_logged_once(log: LogWatch) -> None:
    """A call over the bound is logged when it ticks, and then no more."""
    entered, go = Flag(), Flag()

    def stuck_here(_call: Scripted) -> None:
        entered.set()
        go.wait()

    calls = Dispatchers(1, 2.0, 0.0001)
    call = Scripted(calls.here(), stuck_here)
    call.side.submit(call)
    await entered.waited()
    await eventually(lambda: call.tick() or log.at(logging.WARNING))
    for _ in range(3):
        call.tick()
    go.set()
    await finished(call)
    await anyio.to_thread.run_sync(calls.close)
    [line] = log.at(logging.WARNING)

    assert "bridge-wsgi-1" in line
    assert "in stuck_here" in line


@pytest.mark.parametrize(
    "new_loop",
    [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")],
)
@pytest.mark.parametrize("where", ["telling too much", "listening", "telling for ever"])
def test_a_loop_that_is_closed(calls: Dispatchers, monkeypatch: pytest.MonkeyPatch, new_loop: Any, where: str) -> None:
    """The thread finds out by itself that nobody is there any more, also where nothing wakes it."""
    monkeypatch.setattr("bridge._concurrency.calls._LOOP_CHECK_SECONDS", 0.01)
    go, cleaned = Flag(), Flag()

    def steps(call: Scripted) -> Generator[None]:
        try:
            if where == "listening":
                call.listen()
            if where == "telling for ever":
                go.wait()
            while True:
                call.tell([b"x" * 100], 100)
                yield
        finally:
            cleaned.set()

    async def begin() -> Scripted:
        call = Scripted(calls.here(), steps)
        call.side.submit(call)
        await eventually(lambda: call.thread and (call.stalled or where != "telling too much"))
        return call

    loop = new_loop()
    call = loop.run_until_complete(begin())
    loop.close()
    go.set()
    cleaned.wait()
    until(lambda: call.finished)

    assert call.gone


@pytest.mark.anyio
async def test_a_function_in_a_thread_returns(calls: Dispatchers) -> None:
    """Its result comes back."""
    assert await run_in_thread(calls.here(), threading.get_ident) != threading.get_ident()


@pytest.mark.anyio
async def test_a_function_in_a_thread_raises(calls: Dispatchers) -> None:
    """What it raises is raised."""

    def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await run_in_thread(calls.here(), fail)


@pytest.mark.anyio
async def test_a_function_in_a_thread_is_given_up(calls: Dispatchers) -> None:
    """Who is cancelled does not wait for it."""
    entered, go = Flag(), Flag()

    def hold() -> None:
        entered.set()
        go.wait()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(run_in_thread, calls.here(), hold)
            await entered.waited()
            scope.cancel()
    assert not go.is_set()
    go.set()

    assert await run_in_thread(calls.here(), lambda: 5) == 5
