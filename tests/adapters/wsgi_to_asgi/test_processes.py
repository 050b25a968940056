"""Loops one after the other and at once, forks, the exit of the process, and the end of the adapter."""

import asyncio
import logging
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from bridge import WsgiToAsgi
from bridge._concurrency.wake_policy import threads_take_turns
from support.event_loops import loop_factories
from support.failures import AppError
from support.plain_servers import call_asgi
from support.python_process import run_script
from support.scripted_asgi_server import Adapt, Environ, Request, get, opened
from support.stages import Blocked, ReadingFirst
from support.waiting import LogWatch, eventually, until
from support.wsgi_apps import Gate, hello, reply


def ask(adapter: Any, new_loop: Callable[[], asyncio.AbstractEventLoop], path: str = "/") -> bytes:
    """One request on an event loop of its own."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        seen = runner.run(call_asgi(adapter, *get(path)))
    assert seen.failure() is None
    return seen.body


@loop_factories
def test_loops_one_after_the_other(adapt: Adapt, new_loop: Any) -> None:
    """An adapter serves any number of loops, as test clients make them, with the same threads."""
    adapter = adapt(hello)
    for _ in range(5):
        assert ask(adapter, new_loop) == b"served"
        until(lambda: adapter.stats().busy == 0)  # the thread has answered, and may not be waiting again yet

    assert adapter.stats().served == 5
    # Without a lock each request wakes a thread.
    assert adapter.stats().alive == 1 if threads_take_turns() else adapter.stats().alive <= 5


@loop_factories
def test_loops_at_once(adapt: Adapt, new_loop: Any) -> None:
    """Requests of two loops run at the same time, each with the loop that it came from."""
    from asgiref.sync import async_to_sync

    both = threading.Barrier(2)
    pairs: dict[str, tuple[Any, Any]] = {}

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        async def here() -> Any:
            return asyncio.get_running_loop()

        both.wait(60)
        pairs[environ["PATH_INFO"]] = (environ["asgi.scope"]["loop"], async_to_sync(here)())
        return reply(start_response)

    adapter = adapt(app)

    def run(path: str) -> None:
        async def main() -> None:
            scope, events = get(path, loop=asyncio.get_running_loop())
            assert (await call_asgi(adapter, scope, events)).failure() is None

        with asyncio.Runner(loop_factory=new_loop) as runner:
            for _ in range(20):
                runner.run(main())

    runs = [threading.Thread(target=run, args=(path,)) for path in ("/1", "/2")]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()

    assert all(first is second for first, second in pairs.values())
    assert pairs["/1"] != pairs["/2"]
    assert adapter.stats().served == 40


@loop_factories
@pytest.mark.parametrize("streams", [True, False])
def test_a_loop_that_is_closed_under_a_request(
    adapt: Adapt, new_loop: Any, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    """The thread of a request whose loop is gone ends, and the adapter goes on with other loops."""
    monkeypatch.setattr("bridge._concurrency.calls._LOOP_CHECK_SECONDS", 0.01)
    stage = Blocked() if streams else ReadingFirst()
    adapter = adapt(stage, threads=1, collect=0)
    loop = new_loop()
    request: list[Request] = []

    async def begin() -> asyncio.Task[None]:
        scope, events = stage.request()
        request.append(Request(adapter, scope, events, lambda event: stage.slow(request[0], event)))
        task = asyncio.get_running_loop().create_task(request[0].run())
        if streams:
            await stage.reached(request[0])
        else:
            await stage.entered.waited()
            await request[0].asked()
        return task

    task = loop.run_until_complete(begin())
    tasks = asyncio.all_tasks(loop)
    for left in tasks:
        left._log_destroy_pending = False  # type: ignore[attr-defined]  # as intended here
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    until(lambda: adapter.stats().busy == 0)

    assert stage.chunks.closings == (stage.ran if streams else [])
    assert ask(adapter, new_loop, "/next") == b"served"
    for left in tasks:
        left.get_coro().close()
    del task, tasks, left


PRELUDE = """
import asyncio, logging, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of os.fork in a process with threads, which is what is tested
from bridge import WsgiToAsgi
from support.plain_servers import call_asgi, scope_for

logging.basicConfig(stream=sys.stdout)
go = threading.Event()
entered = threading.Event()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/held":
        entered.set()
        stuck_here()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]

def stuck_here():
    go.wait(60)

def ask(path="/"):
    seen = asyncio.run(call_asgi(adapter, scope_for("GET", path), []))
    assert seen.failure() is None, seen
    return int(seen.body)
"""


@pytest.mark.parametrize("used", [False, True], ids=["before the first request", "after requests"])
def test_a_fork(used: bool) -> None:
    """A child has threads of its own, made by its first request; parent and child both serve."""
    script = f"""
    adapter = WsgiToAsgi(app)
    if {used}:
        ask(), ask()
    child = os.fork()
    if not child:
        assert adapter.stats().alive == adapter.stats().served == 0, adapter.stats()
        assert ask() == ask() == os.getpid()
        assert adapter.stats().alive == 1 and adapter.stats().served == 2, adapter.stats()
        adapter.close()
        os._exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert ask() == os.getpid()
    print("served", adapter.stats().served)
    """
    assert run_script(PRELUDE + textwrap.dedent(script)) == [f"served {3 if used else 1}"]


def test_a_fork_while_a_request_runs() -> None:
    """A child knows nothing of the requests of its parent, and ends without waiting for them."""
    script = """
    adapter = WsgiToAsgi(app, threads=1)
    held = threading.Thread(target=ask, args=("/held",))
    held.start()
    entered.wait()
    child = os.fork()
    if not child:
        assert ask() == os.getpid()
        sys.exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    go.set()
    held.join()
    assert ask() == os.getpid()
    print("served", adapter.stats().served)
    """
    assert run_script(PRELUDE + textwrap.dedent(script)) == ["served 2"]


def test_the_exit_with_a_thread_that_is_stuck() -> None:
    """The interpreter ends after `shutdown_timeout`, with a line that says which thread was where."""
    script = """
    adapter = WsgiToAsgi(app, shutdown_timeout=0.1)

    async def main():
        task = asyncio.create_task(call_asgi(adapter, scope_for("GET", "/held"), []))
        await asyncio.to_thread(entered.wait)
        task.cancel()

    asyncio.run(main())
    print("the end")
    """
    end, *logged = run_script(PRELUDE + textwrap.dedent(script))

    assert end == "the end"
    assert "bridge-wsgi-1" in "".join(logged)
    assert "in stuck_here" in "".join(logged)


def test_the_exit_with_idle_threads() -> None:
    """Nothing is said, and nobody waits."""
    assert run_script(PRELUDE + "adapter = WsgiToAsgi(app)\nask()\nprint('the end')") == ["the end"]


@loop_factories
def test_close(new_loop: Any) -> None:
    """It ends the threads; a later request makes new ones, and the counts go on."""
    adapter = WsgiToAsgi(hello)
    ask(adapter, new_loop)
    adapter.close()
    closed = (adapter.stats().alive, adapter.stats().served)
    ask(adapter, new_loop)
    again = (adapter.stats().alive, adapter.stats().served)
    adapter.close()
    adapter.close()

    assert (closed, again) == ((0, 1), (1, 2))


def test_close_of_an_adapter_that_was_never_used() -> None:
    """There is nothing to close."""
    adapter = WsgiToAsgi(hello)
    adapter.close()

    assert adapter.stats().alive == 0


@loop_factories
def test_the_context_manager_closes(new_loop: Any) -> None:
    """`with WsgiToAsgi(app) as adapter` is `close()` at the end, also where the block raises."""
    adapter = WsgiToAsgi(hello)

    def use() -> None:
        with adapter as entered:
            ask(entered, new_loop)
            raise AppError

    with pytest.raises(AppError):
        use()
    assert (adapter.stats().alive, adapter.stats().served) == (0, 1)


@pytest.mark.anyio
async def test_close_waits_for_running_requests(adapt: Adapt, log: LogWatch) -> None:
    """Requests that run, or wait for a thread, are served to their end."""
    app = Gate()
    adapter = adapt(app, threads=1)
    async with opened(adapter, *get("/held")) as first:
        await app.entered.waited()
        async with opened(adapter, *get("/queued")) as second:
            await eventually(lambda: adapter.stats().waiting == 1)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, adapter.close)
                await eventually(lambda: adapter.stats().alive == 0)  # it has begun: those threads are no longer ours
                app.go.set()

    assert (first.status, second.status) == (200, 200)
    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_close_names_the_threads_that_did_not_stop(adapt: Adapt, log: LogWatch) -> None:
    """After `shutdown_timeout` seconds a line says which thread is where."""
    app = Gate()
    adapter = adapt(app, shutdown_timeout=0.05)
    async with opened(adapter, *get("/held")):
        await app.entered.waited()
        await anyio.to_thread.run_sync(adapter.close)
        line = log.wait_for("not stopped", level=30)
        app.go.set()

    assert "bridge-wsgi-1" in line
    assert "wsgi_apps.py" in line


@pytest.mark.anyio
async def test_a_request_that_close_has_dropped(adapt: Adapt) -> None:
    """A request that still waits when the time is up is answered with 503 or an error, and never run."""
    app = Gate()
    adapter = adapt(app, threads=1, shutdown_timeout=0.05)
    async with opened(adapter, *get("/held")):
        await app.entered.waited()
        async with opened(adapter, *get("/queued")) as queued:
            await eventually(lambda: adapter.stats().waiting == 1)
            await anyio.to_thread.run_sync(adapter.close)
            await queued.ended()
        app.go.set()

    assert queued.status == 503 or queued.error is not None
    assert adapter.stats().client_disconnects == 0
    assert app.paths == ["/held"]


def test_nothing_is_made_before_the_first_request() -> None:
    """An adapter is plain data until then: no thread, no lock that a fork could find held."""
    threads = threading.enumerate()
    adapter = WsgiToAsgi(hello, startup=lambda: None)

    assert threading.enumerate() == threads
    assert adapter.app is hello
    assert not any(isinstance(value, type(threading.Lock())) for value in vars(adapter).values())
