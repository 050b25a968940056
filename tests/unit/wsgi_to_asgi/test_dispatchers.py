"""What one adapter has in one process: its threads, and its side of each loop."""

import asyncio
import functools
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from bridge._concurrency.pool import ThreadPool
from bridge._wsgi_to_asgi import dispatchers
from bridge._wsgi_to_asgi.dispatchers import Dispatchers, run_hook, run_in_thread
from support.event_loops import loop_factories
from support.waiting import Flag, LogWatch, eventually


class HookError(Exception):
    """What the hooks here fail with."""


@pytest.fixture
def calls() -> Iterator[Dispatchers]:
    """The calls of one adapter."""
    calls = Dispatchers(2, 2.0, None)
    yield calls
    calls.close()


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], function: Callable[[], Any]) -> Any:
    """Call a function on a loop of its own."""

    async def main() -> Any:
        return function()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


@pytest.mark.anyio
async def test_a_loop_has_one_side(calls: Dispatchers) -> None:
    """Each request of a loop finds the same."""
    assert calls.here() is calls.here()
    assert calls.stats().alive == 0


@loop_factories
def test_loops_share_the_threads(calls: Dispatchers, new_loop: Any) -> None:
    """Each loop has a side of its own, and all have the same threads."""
    first, second = run(new_loop, calls.here), run(new_loop, calls.here)

    assert first is not second
    assert first.threads is second.threads


@loop_factories
def test_loops_that_are_gone_are_forgotten(calls: Dispatchers, new_loop: Any) -> None:
    """Their sides and loops are freed, what they counted is kept."""

    def served() -> None:
        calls.here().counters.served += 1

    for _ in range(20):
        run(new_loop, served)
    gc.collect()
    loops = [thing for thing in gc.get_objects() if isinstance(thing, asyncio.AbstractEventLoop)]

    assert calls.stats().served == 20
    assert len(loops) <= 2


@pytest.mark.anyio
async def test_new_threads_after_close(calls: Dispatchers) -> None:
    """A closed adapter serves again, on the same loop too."""
    before = calls.here()
    await run_in_thread(before, lambda: None)
    await anyio.to_thread.run_sync(calls.close)
    after = calls.here()

    assert await run_in_thread(after, lambda: 5) == 5
    assert before.threads is not after.threads


@pytest.mark.anyio
async def test_a_close_before_the_first_call(calls: Dispatchers) -> None:
    """It has nothing to do."""
    calls.close()
    calls.close()

    assert calls.stats().alive == 0


@loop_factories
def test_a_fork_has_nothing_of_its_parent(calls: Dispatchers, new_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ThreadPool, sides and counts are those of a process."""
    parent = run(new_loop, calls.here)
    parent.counters.served += 1
    with monkeypatch.context() as patch:
        pid = os.getpid()
        patch.setattr(os, "getpid", lambda: pid + 1)
        child = run(new_loop, calls.here)
        counted = calls.stats().served
        calls.close()

    assert child.threads is not parent.threads
    assert counted == 0
    assert calls.stats().served == 1


@loop_factories
def test_a_fork_while_a_lock_is_held(calls: Dispatchers, new_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another thread held when this process was forked is never waited for."""
    run(new_loop, calls.here)
    pid = os.getpid()
    process = calls._processes[pid]
    with process.lock, monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid + 1)
        run(new_loop, calls.here)
        assert calls.stats().alive == 0
        calls.close()


def test_one_process_whoever_comes_first(calls: Dispatchers) -> None:
    """Loops that come at the same moment get the same threads."""
    start = threading.Barrier(8)
    found: list[Any] = []

    def find() -> None:
        async def main() -> None:
            found.append(calls.here().threads)

        start.wait(5)
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
async def test_an_async_hook_runs_on_the_loop(calls: Dispatchers, hook: Any) -> None:
    """However it is written: what it makes there (pools, locks) belongs to the loop."""
    threads: list[int] = []
    await run_hook(calls.here(), hook, (threads,))

    assert threads == [threading.get_ident()]


@pytest.mark.anyio
@pytest.mark.parametrize("hook", [plain_hook, functools.partial(plain_hook, 1)], ids=["function", "partial"])
async def test_another_hook_runs_in_a_thread(calls: Dispatchers, hook: Any) -> None:
    """It may block."""
    threads: list[int] = []
    await run_hook(calls.here(), hook, (threads,))

    assert len(threads) == 1
    assert threads != [threading.get_ident()]


# --- the end ---


@pytest.mark.anyio
async def test_drain_waits_on_the_loop(calls: Dispatchers, log: LogWatch) -> None:
    """The loop goes on while running calls finish, and then no thread is left."""
    entered, go = Flag(), Flag()
    side = calls.here()
    before = threading.enumerate()

    def hold() -> None:
        entered.set()
        go.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(run_in_thread, side, hold)
        await entered.waited()
        group.start_soon(calls.drain, side)
        await eventually(lambda: not side.threads.usable)
        go.set()
    await eventually(lambda: not [t for t in threading.enumerate() if t not in before and "bridge-" in t.name])

    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_drain_of_nothing(calls: Dispatchers) -> None:
    """It is over at once, twice too."""
    side = calls.here()
    with anyio.fail_after(5):
        await calls.drain(side)
        await calls.drain(side)


@pytest.mark.anyio
async def test_drain_has_a_deadline(log: LogWatch) -> None:
    """What does not stop is named, with its stack, and left alone; its end later does no harm."""
    calls = Dispatchers(2, 0.05, None)
    entered, go = Flag(), Flag()
    side = calls.here()

    def hold() -> None:
        entered.set()
        go.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(run_in_thread, side, hold)
        await entered.waited()
        await calls.drain(side)
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

    def wait(_threads: object, timeout: float) -> list[str]:
        waited.append(timeout)
        now[0] += timeout
        return []

    async def wait_on_the_loop(_signal: object, timeout: float) -> None:
        wait(None, timeout)

    calls = Dispatchers(2, 3.0, None)
    side = calls.here()
    both = [side.threads, side.spare()]
    monkeypatch.setattr(dispatchers, "monotonic", lambda: now[0])
    monkeypatch.setattr(dispatchers._Signal, "wait", wait_on_the_loop)
    monkeypatch.setattr(ThreadPool, "join", (lambda *_: []) if how == "drain" else wait)
    if how == "drain":
        await calls.drain(side)
    elif how == "close":
        calls.close()
    else:
        calls.exit(2.0)

    assert [2.0 if how == "exit" else 3.0, 0.0] == waited
    assert [True, True] == [threads.closing for threads in both]


@loop_factories
def test_a_thread_that_ends_after_its_loop(new_loop: Any) -> None:
    """ThreadPool that end when the loop that waited for them is closed have nobody to tell, and say nothing."""
    calls = Dispatchers(2, 0.05, None)
    entered, go = Flag(), Flag()

    def hold() -> None:
        entered.set()
        go.wait()

    async def main() -> None:
        side = calls.here()
        task = asyncio.create_task(run_in_thread(side, hold))
        await asyncio.to_thread(entered.wait)
        await calls.drain(side)
        task.cancel()
        await asyncio.wait([task])

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    go.set()
