"""What async code that a WSGI app calls finds in its thread: the server's loop."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest
import sniffio
import trio
import uvloop
from asgiref.local import Local
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

from bridge._concurrency import interop
from bridge._concurrency.jobs import request_executor
from bridge._concurrency.per_process import PerProcess
from support.event_loops import on_asyncio
from support.patience import PATIENCE
from support.plain_servers import call_asgi
from support.python_process import run_script
from support.scripted_asgi_server import Adapt, Environ, Scope, get, opened, serve
from support.waiting import Flag, LogWatch, until
from support.wsgi_apps import reply


class AsyncError(Exception):
    """What the coroutines here fail with."""


def running(function: Callable[[], Any], outcomes: list[Any]) -> Any:
    """An app that notes what a function returns or raises in its thread."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        try:
            outcomes.append(function())
        except Exception as error:
            outcomes.append(error)
        return reply(start_response)

    return app


async def outcome_of(adapt: Adapt, function: Callable[[], Any]) -> Any:
    """What a function returns or raises in the thread of an app."""
    outcomes: list[Any] = []
    await serve(adapt(running(function, outcomes)), *get())
    [outcome] = outcomes
    return outcome


async def loop_and_thread() -> tuple[Any, int, str]:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    return loop, threading.get_ident(), sniffio.current_async_library()


async def library_and_thread() -> tuple[str, int]:
    await anyio.sleep(0)
    return sniffio.current_async_library(), threading.get_ident()


@on_asyncio
@pytest.mark.anyio
async def test_async_to_sync_runs_on_the_servers_loop(adapt: Adapt) -> None:
    """What Django and Flask call async views with finds the loop that the request came from."""
    outcome = await outcome_of(adapt, async_to_sync(loop_and_thread))

    assert outcome == (asyncio.get_running_loop(), threading.get_ident(), "asyncio")


@on_asyncio
@pytest.mark.anyio
async def test_async_to_sync_in_each_step_of_a_response(adapt: Adapt) -> None:
    """The loop is found in the app, in its iterable, and in `close()`."""
    loops: list[Any] = []

    def note() -> None:
        loops.append(async_to_sync(loop_and_thread)()[0])

    class Body:
        def __iter__(self) -> Any:
            note()
            yield b"1"
            note()

        def close(self) -> None:
            note()

    def app(environ: Environ, start_response: Any) -> Any:
        note()
        start_response("200 OK", [])
        return Body()

    await serve(adapt(app), *get())

    assert loops == [asyncio.get_running_loop()] * 4


@on_asyncio
@pytest.mark.anyio
async def test_async_to_sync_several_times_and_with_an_error(adapt: Adapt) -> None:
    """What the coroutine raises is raised in the app, and the next one works."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise AsyncError("no")

    def calls() -> Any:
        with pytest.raises(AsyncError, match="no"):
            async_to_sync(fail)()
        return async_to_sync(loop_and_thread)()[0]

    assert await outcome_of(adapt, calls) is asyncio.get_running_loop()


@on_asyncio
@pytest.mark.anyio
async def test_sync_code_of_that_async_code_runs_in_the_apps_thread(adapt: Adapt) -> None:
    """`sync_to_async` within `async_to_sync` comes back to the thread that waits, with its database connections."""

    async def there_and_back() -> int:
        return await sync_to_async(threading.get_ident)()

    same = await outcome_of(adapt, lambda: async_to_sync(there_and_back)() == threading.get_ident())

    assert same is True


@on_asyncio
@pytest.mark.anyio
async def test_sync_code_in_a_thread_sensitive_context(adapt: Adapt) -> None:
    """The same below ASGI middleware that has opened a context for thread-sensitive code, as Django does."""

    async def there_and_back() -> int:
        return await sync_to_async(threading.get_ident)()

    outcomes: list[Any] = []
    adapter = adapt(running(lambda: async_to_sync(there_and_back)() == threading.get_ident(), outcomes))

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        async with ThreadSensitiveContext():
            await adapter(scope, receive, send)

    await serve(middleware, *get())

    assert outcomes == [True]


@pytest.mark.anyio
async def test_anyio_runs_on_the_servers_loop(adapt: Adapt) -> None:
    """`anyio.from_thread.run` finds the loop too, also on trio."""
    outcome = await outcome_of(adapt, lambda: anyio.from_thread.run(library_and_thread))

    assert outcome == (sniffio.current_async_library(), threading.get_ident())


@pytest.mark.anyio
async def test_anyio_runs_sync_code_on_the_servers_loop(adapt: Adapt) -> None:
    """`anyio.from_thread.run_sync`, with which sync code sets events and the like."""
    event = anyio.Event()
    outcome = await outcome_of(adapt, lambda: anyio.from_thread.run_sync(event.set))

    assert outcome is None
    assert event.is_set()


@pytest.mark.anyio
async def test_anyio_hands_on_errors(adapt: Adapt) -> None:
    """What the coroutine raises is raised in the app."""

    async def fail() -> None:
        raise AsyncError("no")

    assert isinstance(await outcome_of(adapt, lambda: anyio.from_thread.run(fail)), AsyncError)


@pytest.mark.anyio
async def test_no_async_library_runs_in_the_thread(adapt: Adapt) -> None:
    """Code that asks in which library it runs is told that it runs in none, whatever the server's task is in."""
    outcome = await outcome_of(adapt, sniffio.current_async_library)

    assert isinstance(outcome, sniffio.AsyncLibraryNotFoundError)


@pytest.mark.anyio
async def test_a_loop_of_ones_own(adapt: Adapt) -> None:
    """`asyncio.run` and `anyio.run` work in the app, twice."""

    def calls() -> list[Any]:
        return [asyncio.run(library_and_thread()), anyio.run(library_and_thread), asyncio.run(library_and_thread())]

    outcome = await outcome_of(adapt, calls)

    assert [name for name, _ in outcome] == ["asyncio"] * 3
    assert threading.get_ident() not in [thread for _, thread in outcome]


@pytest.mark.anyio
async def test_no_loop_runs_in_the_thread(adapt: Adapt) -> None:
    """Django's guard around its ORM asks for that."""

    def loop_here() -> Any:
        return asyncio.get_running_loop()

    assert isinstance(await outcome_of(adapt, loop_here), RuntimeError)


@pytest.mark.anyio
async def test_async_to_sync_on_trio_and_elsewhere(adapt: Adapt) -> None:
    """Where the server's loop is none of asyncio's, the coroutine gets one of its own."""

    async def library() -> str:
        return sniffio.current_async_library()

    assert await outcome_of(adapt, async_to_sync(library)) == "asyncio"


local = Local()
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@on_asyncio
@pytest.mark.anyio
async def test_asgiref_locals_of_middleware_are_seen(adapt: Adapt) -> None:
    """What ASGI middleware puts into an asgiref `Local` is there in the app, and in the async code that it runs."""

    async def user_there() -> str:
        return str(local.user)

    outcomes: list[Any] = []
    adapter = adapt(running(lambda: (local.user, async_to_sync(user_there)()), outcomes))

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        local.user = "alice"
        await adapter(scope, receive, send)

    await serve(middleware, *get())

    assert outcomes == [("alice", "alice")]


@on_asyncio
@pytest.mark.anyio
async def test_asgiref_locals_of_requests_are_apart(adapt: Adapt) -> None:
    """What one request puts into a `Local` is not seen by the next one in the same thread."""

    def swap() -> str:
        before = getattr(local, "user", "nobody")
        local.user = "bob"
        return before

    outcomes: list[Any] = []
    adapter = adapt(running(swap, outcomes), threads=1)
    await serve(adapter, *get())
    await serve(adapter, *get())

    assert outcomes == ["nobody", "nobody"]


@on_asyncio
@pytest.mark.anyio
async def test_context_variables_go_with_async_code(adapt: Adapt) -> None:
    """What the app sets is seen by its coroutine, and what that sets by the app."""

    async def swap() -> str:
        before = variable.get()
        variable.set("by the coroutine")
        return before

    def calls() -> list[str]:
        variable.set("by the app")
        return [async_to_sync(swap)(), variable.get()]

    assert await outcome_of(adapt, calls) == ["by the app", "by the coroutine"]


@pytest.mark.parametrize(
    "new_loop",
    [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")],
)
def test_a_thread_that_has_worked_for_another_loop(adapt: Adapt, new_loop: Any) -> None:
    """Each request finds its own loop, also in a thread that has served others, and closed ones."""
    found: list[Any] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        scope = environ["asgi.scope"]
        found.append((async_to_sync(loop_and_thread)()[0], anyio.from_thread.run(loop_and_thread)[0], scope["loop"]))
        return reply(start_response)

    adapter = adapt(app, threads=1)

    async def request() -> None:
        scope, events = get(loop=asyncio.get_running_loop())
        assert (await call_asgi(adapter, scope, events)).failure() is None

    for _ in range(3):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(request())
            runner.run(request())

    assert len(found) == 6
    assert all(first is second is third for first, second, third in found)


def test_a_thread_that_has_worked_for_trio(adapt: Adapt) -> None:
    """In requests of an asyncio loop nothing in it leads to a trio run that is over."""
    found: list[Any] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        try:
            found.append(trio.from_thread.run_sync(sniffio.current_async_library))
        except RuntimeError as error:
            found.append(type(error))
        return reply(start_response)

    adapter = adapt(app, threads=1)
    scope, events = get()
    trio.run(call_asgi, adapter, scope, events, trio.Event)
    asyncio.run(call_asgi(adapter, scope, events))
    trio.run(call_asgi, adapter, scope, events, trio.Event)

    assert found == ["trio", RuntimeError, "trio"]
    assert adapter.stats().alive == 1


@on_asyncio
@pytest.mark.anyio
async def test_two_adapters_at_once(adapt: Adapt) -> None:
    """An app that calls another adapter's app on the server's loop gets its answer."""
    inner = adapt(running(async_to_sync(loop_and_thread), found := []))

    async def ask_inner() -> bytes:
        return (await call_asgi(inner, *get())).body

    outcome = await outcome_of(adapt, async_to_sync(ask_inner))

    assert outcome == b"served"
    assert found[0][0] is asyncio.get_running_loop()


@on_asyncio
@pytest.mark.anyio
async def test_what_is_cancelled_is_that_requests_own(adapt: Adapt) -> None:
    """A client that leaves cancels no async code of the next request in the same thread."""
    entered, go = Flag(), Flag()
    outcomes: list[Any] = []

    async def wait_for_go() -> str:
        while not go.is_set():
            await asyncio.sleep(0)
        return "went on"

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/first":
            entered.set()
            until(environ["bridge.client_disconnected"])
        else:
            outcomes.append(async_to_sync(wait_for_go)())
        return reply(start_response)

    adapter = adapt(app, threads=1)
    async with opened(adapter, *get("/first")) as first:
        await entered.waited()
        first.leave()
        await first.ended()
        first.cancel()
        async with opened(adapter, *get("/second")):
            await asyncio.sleep(0)
            go.set()

    assert outcomes == ["went on"]


# --- work that no request's thread waits for ---


@pytest.fixture
def own_fallback(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The thread for such work is one of this test's own."""
    fallback = PerProcess(interop._fallback._make)
    monkeypatch.setattr(interop, "_fallback", fallback)
    yield
    pool = fallback.known()
    if pool is not None:
        pool.close(None)
        assert pool.join(PATIENCE) == []


@pytest.mark.usefixtures("own_fallback")
def test_work_that_nobody_waits_for_has_one_thread() -> None:
    """It runs one piece after the other, in a thread that is named for it."""
    names: list[str] = []
    done = Flag()

    for _ in range(10):
        interop.run_in_fallback_thread(lambda: names.append(threading.current_thread().name))
    interop.run_in_fallback_thread(done.set)
    done.wait()

    assert names == ["bridge-sensitive-1"] * 10


@pytest.mark.usefixtures("own_fallback")
@pytest.mark.parametrize("waits", [True, False])
def test_thread_sensitive_work_goes_to_the_thread_that_waits(waits: bool) -> None:
    """`sync_to_async` runs in the thread that waits for the request while it does, then in the fallback one."""
    ran: list[str] = []

    class Executor:
        def run_call(self, job: Any) -> bool:
            return False

        def submit(self, job: Callable[[], None]) -> bool:
            if waits:
                ran.append("here")
                job()
            return waits

    async def main() -> str:
        request_executor.set(Executor())
        interop.serve_sensitive(inherits=False)
        with pytest.raises(AsyncError):
            await sync_to_async(fail)()
        return await sync_to_async(lambda: threading.current_thread().name)()

    def fail() -> None:
        raise AsyncError

    name = contextvars.copy_context().run(asyncio.run, main())

    assert name == (threading.current_thread().name if waits else "bridge-sensitive-1")
    assert ran == (["here", "here"] if waits else [])


def no_thread(monkeypatch: pytest.MonkeyPatch, *, meanwhile: Callable[[], object] = int) -> None:
    """The operating system starts no thread for such work; `meanwhile` happens just before it says so, once."""
    start, refused = threading.Thread.start, [meanwhile]

    def refuse(thread: threading.Thread) -> None:
        if not thread.name.startswith("bridge-sensitive"):
            start(thread)
            return
        if refused:
            refused.pop()()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("own_fallback")
def test_thread_sensitive_work_without_any_thread_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the piece that the thread was to be started for and one that came to the queue meanwhile; nobody waits."""
    second = interop.SensitiveWork(int)
    no_thread(monkeypatch, meanwhile=lambda: interop.run_in_fallback_thread(second))

    first = interop.RequestThreadExecutor().submit(int)

    with pytest.raises(RuntimeError, match="can't start new thread"):
        first.result(PATIENCE)
    with pytest.raises(RuntimeError, match="no thread could be started for it"):
        second.future.result(PATIENCE)


@pytest.mark.usefixtures("own_fallback")
def test_the_end_of_a_response_without_any_thread_is_logged(monkeypatch: pytest.MonkeyPatch, log: LogWatch) -> None:
    no_thread(monkeypatch)

    interop.run_in_fallback_thread(lambda: None)

    assert ["ERROR the end of a response could not be run: can't start new thread"] == log.at(logging.ERROR)


FORK = """
import asyncio, os, signal, threading, warnings
from asgiref.sync import async_to_sync, sync_to_async
from bridge._concurrency import interop
warnings.simplefilter("ignore", DeprecationWarning)  # there are other threads: that is what it is about

def in_child(function):
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            function()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_after_a_fork_no_thread_of_the_parent_waits() -> None:
    """A thread of the child may have its identity, and what it was given would never be done."""
    script = """
inside, over = threading.Event(), threading.Event()
async def stays():
    inside.set()
    await asyncio.to_thread(over.wait, 60)
waiting = threading.Thread(target=async_to_sync(stays))
waiting.start()
inside.wait(60)
ident = waiting.ident
while (served := interop.submit_to_waiting(ident, threading.get_ident, for_others=True)) is None:
    pass  # it is about to wait
print("parent", served.result(60) == ident)
in_child(lambda: print("child", interop.submit_to_waiting(ident, threading.get_ident, for_others=True), flush=True))
print("parent", interop.submit_to_waiting(ident, threading.get_ident, for_others=True).result(60) == ident)
over.set()
waiting.join()
print("parent", interop.submit_to_waiting(ident, threading.get_ident, for_others=True))
"""
    assert ["parent True", "child None", "parent True", "parent None"] == run_script(FORK + script)


def test_a_fork_in_the_middle_of_a_wait() -> None:
    """What the thread that waits does may fork. The child waits for its own async code, and leaves no trace."""
    script = """
ident = threading.get_ident()
def ask():
    served = interop.submit_to_waiting(ident, threading.get_ident, for_others=True)
    return served is not None and served.result(60) == ident

async def asks():
    return await asyncio.to_thread(ask)

def child():
    print("child", interop._waiting.here(), flush=True)
    print("child", async_to_sync(asks)(), flush=True)
    print("child", interop._waiting.here(), flush=True)

async def forks():
    await sync_to_async(in_child)(child)
    return await asks()
print("parent", async_to_sync(forks)())
print("parent", interop._waiting.here())

class Forked(BaseException):
    pass

def leaves():
    if os.fork():
        os.wait()
    else:
        signal.alarm(60)
        raise Forked

# In the child it is the thread itself that ends the wait.
executor = interop.CurrentThreadExecutor(None)
future = interop.Future()
executor._work_items.append(type("Item", (), {"run": staticmethod(leaves)}))
future.set_result(None)
try:
    executor.run_until_future(future)
except Forked:
    print("child", interop._waiting.here(), flush=True)
    os._exit(0)
print("parent", interop._waiting.here())
"""
    assert [
        "child {}",
        "child True",
        "child {}",
        "parent True",
        "parent {}",
        "child {}",
        "parent {}",
    ] == run_script(FORK + script)
