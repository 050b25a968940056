"""What one adapter has in one process: its threads, and its dispatcher of each event loop."""

import asyncio
import functools
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from bridge._concurrency.calls import run_in_thread
from bridge._concurrency.loops import ThreadEvent
from bridge._concurrency.pool import ThreadPool
from bridge._wsgi_to_asgi.dispatchers import Dispatchers
from bridge._wsgi_to_asgi.lifespan import run_hook
from support.event_loops import loop_factories
from support.patience import PATIENCE
from support.waiting import Flag, LogWatch, Work, eventually, until


@pytest.fixture
def dispatchers() -> Iterator[Dispatchers]:
    """The dispatchers of one adapter."""
    dispatchers = Dispatchers(2, 2.0, None)
    yield dispatchers
    dispatchers.close()


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], function: Callable[[], Any]) -> Any:
    """Call a function on a loop of its own."""

    async def main() -> Any:
        return function()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


@pytest.mark.anyio
async def test_a_loop_has_one_dispatcher(dispatchers: Dispatchers) -> None:
    """Each request of a loop finds the same."""
    assert dispatchers.here() is dispatchers.here()
    assert dispatchers.stats().alive == 0


@loop_factories
def test_loops_share_the_threads(dispatchers: Dispatchers, new_loop: Any) -> None:
    """Each loop has a dispatcher of its own, and all have the same threads."""
    first, second = run(new_loop, dispatchers.here), run(new_loop, dispatchers.here)

    assert first is not second
    assert first.pool is second.pool


@loop_factories
def test_loops_that_are_gone_are_forgotten(dispatchers: Dispatchers, new_loop: Any) -> None:
    """Their dispatchers and loops are freed, what they counted is kept."""

    def served() -> None:
        dispatchers.here().counters.served += 1

    for _ in range(20):
        run(new_loop, served)
    gc.collect()
    loops = [thing for thing in gc.get_objects() if isinstance(thing, asyncio.AbstractEventLoop)]

    assert dispatchers.stats().served == 20
    assert len(loops) <= 2


@pytest.mark.anyio
async def test_new_threads_after_close(dispatchers: Dispatchers) -> None:
    """A closed adapter serves again, on the same loop too."""
    before = dispatchers.here()
    await run_in_thread(before, lambda: None)
    await anyio.to_thread.run_sync(dispatchers.close)
    after = dispatchers.here()

    assert await run_in_thread(after, lambda: 5) == 5
    assert before.pool is not after.pool


@pytest.mark.anyio
async def test_a_close_before_the_first_call(dispatchers: Dispatchers) -> None:
    """It has nothing to do."""
    dispatchers.close()
    dispatchers.close()

    assert dispatchers.stats().alive == 0


@loop_factories
def test_a_fork_has_nothing_of_its_parent(
    dispatchers: Dispatchers, new_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads, dispatchers and counts are those of a process."""
    parent = run(new_loop, dispatchers.here)
    parent.counters.served += 1
    with monkeypatch.context() as patch:
        pid = os.getpid()
        patch.setattr(os, "getpid", lambda: pid + 1)
        child = run(new_loop, dispatchers.here)
        counted = dispatchers.stats().served
        dispatchers.close()

    assert child.pool is not parent.pool
    assert counted == 0
    assert dispatchers.stats().served == 1


@loop_factories
def test_a_fork_while_a_lock_is_held(dispatchers: Dispatchers, new_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another thread held when this process was forked is never waited for."""
    run(new_loop, dispatchers.here)
    pid = os.getpid()
    pools = dispatchers._pools._found[pid]
    with pools.lock, monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid + 1)
        run(new_loop, dispatchers.here)
        assert dispatchers.stats().alive == 0
        dispatchers.close()


@loop_factories
def test_a_signal_ends_the_first_request_half_way(
    dispatchers: Dispatchers, new_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads of later requests are ended at exit all the same."""
    registered: list[Any] = []

    def register_once(closing: Any) -> None:
        if not registered:
            registered.append(None)
            raise KeyboardInterrupt
        registered.append(closing)

    monkeypatch.setattr("bridge._wsgi_to_asgi.dispatchers.register", register_once)
    with pytest.raises(KeyboardInterrupt):
        run(new_loop, dispatchers.here)
    run(new_loop, dispatchers.here)
    assert [None, dispatchers] == registered


@loop_factories
def test_what_is_counted_after_the_threads_were_replaced(dispatchers: Dispatchers, new_loop: Any) -> None:
    """A request whose thread is done may still be sent when the adapter is closed and serves the next."""

    async def main() -> None:
        before = dispatchers.here()
        await anyio.to_thread.run_sync(dispatchers.close)
        after = dispatchers.here()
        assert after.pool is not before.pool
        before.counters.served += 1
        after.counters.served += 1

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())

    assert dispatchers.stats().served == 2


def test_one_process_whoever_comes_first(dispatchers: Dispatchers) -> None:
    """Loops that come at the same moment get the same threads."""
    start = threading.Barrier(8)
    found: list[Any] = []

    def find() -> None:
        async def main() -> None:
            found.append(dispatchers.here().pool)

        start.wait(PATIENCE)
        asyncio.run(main())

    finders = [threading.Thread(target=find) for _ in range(8)]
    for finder in finders:
        finder.start()
    for finder in finders:
        finder.join()

    assert len(set(found)) == 1


# --- hooks ---


async def coroutine_hook(*given: Any) -> None:
    await anyio.sleep(0)
    given[-1].append(threading.get_ident())


class AsyncHook:
    async def __call__(self, *given: Any) -> None:
        await coroutine_hook(*given)


def plain_hook(*given: Any) -> None:
    given[-1].append(threading.get_ident())


@pytest.mark.anyio
@pytest.mark.parametrize(
    "hook",
    [
        coroutine_hook,
        functools.partial(coroutine_hook, 1),
        AsyncHook(),
        AsyncHook().__call__,
        lambda given: coroutine_hook(given),
    ],
    ids=["coroutine function", "partial", "object", "method", "lambda"],
)
async def test_an_async_hook_runs_on_the_loop(dispatchers: Dispatchers, hook: Any) -> None:
    """However it is written: what it makes there (pools, locks) belongs to the loop."""
    threads: list[int] = []
    await run_hook(hook, (threads,), lambda function: run_in_thread(dispatchers.here(), function))

    assert threads == [threading.get_ident()]


@pytest.mark.anyio
@pytest.mark.parametrize("hook", [plain_hook, functools.partial(plain_hook, 1)], ids=["function", "partial"])
async def test_another_hook_runs_in_a_thread(dispatchers: Dispatchers, hook: Any) -> None:
    """It may block."""
    threads: list[int] = []
    await run_hook(hook, (threads,), lambda function: run_in_thread(dispatchers.here(), function))

    assert len(threads) == 1
    assert threads != [threading.get_ident()]


# --- the end ---


@pytest.mark.anyio
async def test_drain_waits_on_the_loop(dispatchers: Dispatchers, log: LogWatch) -> None:
    """The loop goes on while running calls finish, and then no thread is left."""
    entered, go = Flag(), Flag()
    dispatcher = dispatchers.here()
    before = threading.enumerate()

    def hold() -> None:
        entered.set()
        go.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(run_in_thread, dispatcher, hold)
        await entered.waited()
        group.start_soon(dispatchers.drain, dispatcher)
        await eventually(lambda: not dispatcher.pool.usable)
        go.set()
    await eventually(lambda: not [t for t in threading.enumerate() if t not in before and "bridge-" in t.name])

    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_drain_of_nothing(dispatchers: Dispatchers) -> None:
    """It is over at once, twice too."""
    dispatcher = dispatchers.here()
    with anyio.fail_after(PATIENCE):
        await dispatchers.drain(dispatcher)
        await dispatchers.drain(dispatcher)


@pytest.mark.anyio
async def test_drain_has_a_deadline(log: LogWatch) -> None:
    """What does not stop is named, with its stack, and left alone; its end later does no harm."""
    dispatchers = Dispatchers(2, 0.05, None)
    entered, go = Flag(), Flag()
    dispatcher = dispatchers.here()

    def hold() -> None:
        entered.set()
        go.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(run_in_thread, dispatcher, hold)
        await entered.waited()
        await dispatchers.drain(dispatcher)
        [line] = log.at(logging.WARNING)
        go.set()

    assert "not stopped within" in line
    assert "bridge-wsgi-1" in line
    assert "in hold" in line


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["drain", "close", "exit"])
async def test_all_threads_share_the_deadline(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Those of the calls, and those of responses that go on without one: together they get as long as was said."""
    now = [100.0]
    waited: list[float] = []

    def wait(_pool: object, timeout: float) -> list[str]:
        waited.append(timeout)
        now[0] += timeout
        return []

    async def wait_on_the_loop(_event: object, timeout: float) -> None:
        wait(None, timeout)

    dispatchers = Dispatchers(2, 3.0, None)
    dispatcher = dispatchers.here()
    both = [dispatcher.pool, dispatcher.spare()]
    monkeypatch.setattr("bridge._wsgi_to_asgi.dispatchers.monotonic", lambda: now[0])
    monkeypatch.setattr(ThreadEvent, "wait", wait_on_the_loop)
    monkeypatch.setattr(ThreadPool, "join", (lambda *_: []) if how == "drain" else wait)
    if how == "drain":
        await dispatchers.drain(dispatcher)
    elif how == "close":
        await anyio.to_thread.run_sync(dispatchers.close)
    else:
        await anyio.to_thread.run_sync(dispatchers.exit, 2.0)

    assert [2.0 if how == "exit" else 3.0, 0.0] == waited
    assert [True, True] == [pool.closing for pool in both]


@loop_factories
def test_a_thread_that_ends_after_its_loop(new_loop: Any) -> None:
    """Threads that end when the loop that waited for them is closed have nobody to tell, and say nothing."""
    dispatchers = Dispatchers(2, 0.05, None)
    entered, go = Flag(), Flag()

    def hold() -> None:
        entered.set()
        go.wait()

    async def main() -> None:
        dispatcher = dispatchers.here()
        task = asyncio.create_task(run_in_thread(dispatcher, hold))
        await asyncio.to_thread(entered.wait)
        await dispatchers.drain(dispatcher)
        task.cancel()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    go.set()


@loop_factories
def test_close_on_a_loop_after_another_one_ended_in_a_request(dispatchers: Dispatchers, new_loop: Any) -> None:
    """The thread has ended its call, but its loop could not hear of that any more. Nothing is served, so nothing is
    refused.
    """
    entered, go = Flag(), Flag()

    def hold() -> None:
        entered.set()
        go.wait()

    async def give_up() -> None:
        task = asyncio.create_task(run_in_thread(dispatchers.here(), hold))
        await entered.waited()
        task.cancel()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(give_up())
    with pytest.raises(RuntimeError, match="while requests were served"):
        run(new_loop, dispatchers.close)
    go.set()
    until(lambda: dispatchers.stats().busy == 0)

    run(new_loop, dispatchers.close)


def test_loops_that_run_keep_the_threads(dispatchers: Dispatchers) -> None:
    """The end of one loop stops the threads only if no other loop runs that has used them."""
    here, over = Flag(), Flag()

    async def stay() -> Any:
        dispatcher = dispatchers.here()
        here.set()
        await over.waited()
        await dispatchers.drain(dispatcher)
        return dispatcher

    async def come_and_go() -> Any:
        dispatcher = dispatchers.here()
        await run_in_thread(dispatcher, lambda: None)
        await dispatchers.drain(dispatcher)
        return dispatcher

    other = Work(lambda: asyncio.run(stay()))
    here.wait()
    pool = asyncio.run(come_and_go()).pool
    assert pool.usable
    over.set()

    assert other.result().pool is pool
    assert not pool.usable


def test_a_loop_that_ended_before_keeps_no_threads(dispatchers: Dispatchers) -> None:
    """Of two that end at once, the one that has to wait for its own work stops the threads, though the other runs."""
    entered, waits, go = Flag(), Flag(), Flag()

    def hold() -> None:
        entered.set()
        go.wait()

    async def with_work() -> Any:
        dispatcher = dispatchers.here()
        work = asyncio.create_task(run_in_thread(dispatcher, hold))
        await entered.waited()
        draining = asyncio.create_task(dispatchers.drain(dispatcher, last=True))
        await asyncio.sleep(0)
        waits.set()
        await draining
        await work
        return dispatcher.pool

    async def without() -> bool:
        dispatcher = dispatchers.here()
        held = Work(lambda: asyncio.run(with_work()))
        await waits.waited()
        await dispatchers.drain(dispatcher, last=True)
        usable = dispatcher.pool.usable
        go.set()
        assert not held.result().usable
        return usable

    assert asyncio.run(without())


class ClosingStream:
    """A `LoopResponse` whose task has ended, and whose `end` has not."""

    stopping, done = False, True


def test_a_stream_whose_end_hangs_is_waited_for_once(dispatchers: Dispatchers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lifespan waits before its hook, and again after it."""
    monkeypatch.setattr(dispatchers, "_shutdown_timeout", 0.05)
    here, over = Flag(), Flag()

    async def stay() -> None:
        dispatchers.here()
        here.set()
        await over.waited()

    async def end() -> None:
        dispatcher = dispatchers.here()
        dispatcher.streams.add(ClosingStream())
        await dispatchers.drain(dispatcher)
        monkeypatch.setattr(dispatcher.loop, "wait_at_most", lambda *_: pytest.fail("it is waited for again"))
        await dispatchers.drain(dispatcher, last=True)

    other = Work(lambda: asyncio.run(stay()))
    here.wait()
    asyncio.run(end())
    over.set()
    other.result()
