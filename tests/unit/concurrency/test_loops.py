"""The way from threads to a loop: what is posted arrives, soon, in order, in batches."""

import asyncio
import contextvars
import gc
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from bridge._concurrency.loops import (
    AsyncioLoop,
    GroupClosed,
    LoopClosed,
    LoopHandle,
    TrioLoop,
    refuse_on_loop,
    runs_loop,
    spawner,
)
from support.event_loops import loop_factories
from support.patience import PATIENCE
from support.waiting import eventually


class Parcel:
    """What is posted; notes when it arrives, and in which thread."""

    def __init__(self, arrived: list[Any], then: Callable[[], object] = lambda: None) -> None:
        self._arrived = arrived
        self._then = then

    def run_on_loop(self) -> None:
        self._arrived.append((self, threading.get_ident()))
        self._then()


def here() -> LoopHandle:
    """The handle on the running loop."""
    try:
        return AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        return TrioLoop()


@pytest.mark.anyio
async def test_what_is_posted_arrives_on_the_loop() -> None:
    """In the order in which it was posted, in the thread of the loop."""
    handle = here()
    arrived: list[Any] = []
    parcels = [Parcel(arrived) for _ in range(100)]

    def post() -> None:
        for parcel in parcels:
            handle.post(parcel)

    await anyio.to_thread.run_sync(post)
    await eventually(lambda: len(arrived) == 100)

    assert arrived == [(parcel, threading.get_ident()) for parcel in parcels]


@pytest.mark.anyio
async def test_timers_have_no_context_of_a_request() -> None:
    """They are for all requests: a filter of the log must not find the first one's user where another is warned of."""
    handle = here()
    if isinstance(handle, TrioLoop):
        return  # has no timers
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    user.set("Ann")
    seen: list[str] = []
    handle.call_later(0.0, lambda: seen.append(user.get("nobody")))
    await eventually(lambda: seen)

    assert ["nobody"] == seen


@pytest.mark.anyio
async def test_nothing_is_lost_between_threads() -> None:
    """All that several threads post at once arrives, and what is posted on arrival too."""
    handle = here()
    arrived: list[Any] = []

    def post() -> None:
        for _ in range(200):
            handle.post(Parcel(arrived, lambda: handle.post(Parcel(arrived))))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(anyio.to_thread.run_sync, post)
    await eventually(lambda: len(arrived) == 1600)


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that counts how often it is woken."""

    woken = 0

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        self.woken += 1
        return super().call_soon_threadsafe(*args, **kwargs)


def test_one_wake_up_serves_all_that_is_there() -> None:
    """Results come back in batches: waking a loop costs more than handing over."""
    arrived: list[Any] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handle = AsyncioLoop(loop)
        before = loop.woken
        for _ in range(100):
            handle.post(Parcel(arrived))
        await asyncio.sleep(0)
        assert len(arrived) == 100
        handle.post(Parcel(arrived))
        await asyncio.sleep(0)
        assert len(arrived) == 101
        return loop.woken - before

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) == 2


@pytest.mark.anyio
async def test_a_wait_is_ended() -> None:
    """By `wake`, once or twice, before the wait or within it."""
    handle = here()
    waiter = handle.waiter()
    over: list[bool] = []

    async def wait() -> None:
        await waiter
        over.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert over == []
        handle.wake(waiter)
        handle.wake(waiter)
    early = handle.waiter()
    handle.wake(early)
    with anyio.fail_after(PATIENCE):
        await early

    assert over == [True]


@pytest.mark.anyio
async def test_the_wake_of_a_wait_that_was_cancelled() -> None:
    """It is harmless."""
    handle = here()
    waiter = handle.waiter()

    async def wait() -> None:
        await waiter

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    handle.wake(waiter)


@loop_factories
def test_a_loop_that_is_closed(new_loop: Any) -> None:
    """Whoever posts to it is told, each time."""
    loop = new_loop()
    handle = AsyncioLoop(loop)
    assert handle.closed is False
    loop.close()

    for _ in range(3):
        with pytest.raises(LoopClosed):
            handle.post(Parcel([]))
    assert handle.closed is True


@loop_factories
def test_a_post_that_finds_no_memory(new_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails; the next one wakes the loop for both."""
    loop = new_loop()
    handle = AsyncioLoop(loop)
    arrived: list[str] = []

    class Refusing:
        @staticmethod
        def call_soon_threadsafe(function: Any) -> None:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(handle, "loop", Refusing)
        with pytest.raises(MemoryError):
            handle.post(Named("first", arrived))
    handle.post(Named("second", arrived))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    assert ["first", "second"] == arrived


@loop_factories
def test_what_cannot_be_taken_keeps_nobody_waiting(new_loop: Any) -> None:
    """One that raises when it arrives; those behind it arrive all the same."""
    loop = new_loop()
    handle = AsyncioLoop(loop)
    arrived: list[str] = []
    complaints: list[str] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(type(context["exception"]).__name__))
    broken = Named("", arrived)
    broken.run_on_loop = lambda: arrived[7]
    for parcel in (Named("first", arrived), broken, Named("second", arrived)):
        handle.post(parcel)
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()

    assert (["first", "second"], ["IndexError"]) == (arrived, complaints)


class Named:
    """A parcel that tells its name when it arrives."""

    def __init__(self, name: str, arrived: list[str]) -> None:
        self.run_on_loop = lambda: arrived.append(name)


def test_a_trio_run_that_is_over() -> None:
    """Whoever posts to it is told, each time."""

    async def main() -> TrioLoop:
        handle = TrioLoop()
        assert handle.closed is False
        return handle

    handle = trio.run(main)

    for _ in range(3):
        with pytest.raises(LoopClosed):
            handle.post(Parcel([]))
    assert handle.closed is True


@pytest.mark.parametrize("owner", ["is about to know", "knows"])
def test_a_task_for_a_group_that_is_closed(owner: str) -> None:
    """It is refused, also in the moment between the end of the group and the next turn of the task that it belongs to.
    No coroutine is left that was never awaited.
    """
    refusals: list[str] = []
    began: list[bool] = []

    async def task() -> None:
        began.append(True)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            spawn = spawner(group)
            spawn(task, contextvars.Context())

        def refused() -> None:
            with pytest.raises(GroupClosed) as refusal:
                spawn(task, contextvars.Context())
            refusals.append(str(refusal.value))

        if owner == "knows":
            refused()
            return

        class AfterTheGroup(trio.abc.Instrument):
            def after_task_step(self, task: trio.lowlevel.Task) -> None:
                if task is parent and left:
                    trio.lowlevel.remove_instrument(self)
                    refused()

        left, parent = False, trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(AfterTheGroup())
        async with anyio.create_task_group() as group:
            spawn = spawner(group)
            left = True

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trio.run(main)
        gc.collect()

    assert refusals == ["the task group is closed"]
    assert began == [True]
    assert [str(warning.message) for warning in warned] == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_task_of_a_group() -> None:
    """It begins in the given context, and can be cancelled by itself."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    context.run(variable.set, "set")
    seen: list[str] = []
    began = anyio.Event()

    async def stays() -> None:
        seen.append(variable.get())
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            cancel = spawner(group)(stays, context)
            await began.wait()
            cancel()

    assert seen == ["set", "cancelled"]
    assert variable.get() == "unset"


@loop_factories
def test_what_is_posted_to_a_loop_that_does_not_run(new_loop: Any) -> None:
    """It arrives when the loop runs again."""
    loop = new_loop()
    handle = AsyncioLoop(loop)
    arrived: list[Any] = []
    handle.post(Parcel(arrived))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    assert len(arrived) == 1


@loop_factories
@pytest.mark.parametrize("eager", [False, True])
def test_a_task_in_a_context(new_loop: Any, eager: bool) -> None:
    """A task can be started in a context of one's own, which an eager task enters while it is being made."""
    if eager and new_loop is not asyncio.new_event_loop and (3, 13) <= sys.version_info < (3, 13, 3):
        pytest.xfail("uvloop gives task factories an argument that asyncio's eager one does not take there")
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    context.run(variable.set, "set")
    seen: list[str] = []

    async def note() -> None:
        seen.append(variable.get())

    async def main() -> None:
        handle = AsyncioLoop(asyncio.get_running_loop())
        if eager:
            handle.loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))  # since Python 3.12
        await handle.spawn(note(), context)
        await handle.spawn(note(), contextvars.Context())

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())

    assert seen == ["set", "unset"]


@loop_factories
def test_the_first_step_of_a_task(new_loop: Any) -> None:
    """It is over at once if Python can do that, and the loop has no task factory of its own."""
    steps: list[str] = []

    async def step(name: str) -> None:
        steps.append(name)

    def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[None]:
        steps.append("factory")
        return asyncio.Task(coroutine, loop=loop, **options)

    async def main() -> None:
        handle = AsyncioLoop(asyncio.get_running_loop())
        first = handle.spawn(step("first"), contextvars.Context())
        steps.append("after the first")
        handle.loop.set_task_factory(factory)
        second = handle.spawn(step("second"), contextvars.Context())
        steps.append("after the second")
        handle.loop.set_task_factory(None)
        await asyncio.gather(first, second)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())

    if sys.version_info >= (3, 12):
        assert steps == ["first", "after the first", "factory", "after the second", "second"]
    else:
        assert steps == ["after the first", "factory", "after the second", "first", "second"]


@loop_factories
def test_what_posts_again_and_again_lets_others_run(new_loop: Any) -> None:
    """What is posted during a delivery waits for the next turn of the loop."""
    turns: list[str] = []

    class Again:
        def __init__(self, handle: AsyncioLoop) -> None:
            self.handle = handle

        def run_on_loop(self) -> None:
            turns.append("posted")
            if turns.count("posted") < 100:
                self.handle.post(self)

    async def main() -> None:
        handle = AsyncioLoop(asyncio.get_running_loop())
        handle.post(Again(handle))
        while turns.count("posted") < 100:
            turns.append("other")
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())

    assert turns.count("other") >= 100


@loop_factories
def test_a_wait_is_refused_where_a_loop_runs(new_loop: Any) -> None:
    """With what it was and what to do instead; in a thread beside the loop nothing is refused."""

    async def main() -> None:
        assert runs_loop()
        with pytest.raises(RuntimeError, match=r"^a test waited on an event loop, .*; do it elsewhere$"):
            refuse_on_loop("a test waited", "do it elsewhere")
        await asyncio.to_thread(refuse_on_loop, "a test waited", "do it elsewhere")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert not runs_loop()
    refuse_on_loop("a test waited", "do it elsewhere")


def test_a_wait_is_refused_where_trio_runs() -> None:
    """As on asyncio."""

    async def main() -> None:
        assert runs_loop()
        with pytest.raises(RuntimeError, match="on an event loop"):
            refuse_on_loop("a test waited", "do it elsewhere")
        await trio.to_thread.run_sync(refuse_on_loop, "a test waited", "do it elsewhere")

    trio.run(main)
    assert not runs_loop()
