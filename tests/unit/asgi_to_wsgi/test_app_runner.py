"""The tasks of an adapter over its life: loops shared and given up, what closing does, and what a fork does."""

import asyncio
import threading
from typing import Any

import pytest
import uvloop

from bridge import AsgiToWsgi
from bridge._concurrency.loops import AsyncioLoop
from bridge.errors import ClientDisconnected
from support.asgi_apps import Lifespan, chunk, end, hello, reply, start
from support.plain_servers import environ_for
from support.python_process import run_script
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import FOREVER, Flag, LogWatch, Work, bounded, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


def loop_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "bridge-loop"]


class LoopRecorder:
    """An app that keeps the loops it ran on."""

    def __init__(self) -> None:
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.loops.append(asyncio.get_running_loop())
        await reply(send, b"ok")


class TestSharing:
    """One private loop a process, as long as somebody needs it."""

    def test_all_adapters_share_one_loop(self) -> None:
        app = LoopRecorder()
        with adapted(app) as first, adapted(app) as second, adapted(app) as third:
            for adapter in (first, second, third, first):
                ask(adapter)
            assert ["bridge-loop"] == loop_threads()

        assert 1 == len(set(app.loops))

    def test_another_factory_makes_another_loop(self) -> None:
        app = LoopRecorder()
        with adapted(app) as plain, adapted(app, loop_factory=uvloop.new_event_loop) as other:
            for adapter in (plain, other, plain, other):
                ask(adapter)
            assert ["bridge-loop"] * 2 == loop_threads()

        assert [False, True, False, True] == [isinstance(loop, uvloop.Loop) for loop in app.loops]
        assert 2 == len(set(app.loops))

    def test_the_last_close_stops_the_loop(self) -> None:
        first, second = AsgiToWsgi(hello), AsgiToWsgi(hello)
        ask(first)
        ask(second)
        bounded(first.close)
        assert ["bridge-loop"] == loop_threads()
        assert b"hello" == ask(second).body
        bounded(second.close)
        assert [] == loop_threads()

    def test_closing_one_leaves_the_requests_of_another_alone(self) -> None:
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"before")
            await go_on.waited()
            await chunk(send, b"after", more=False)

        with adapted(app) as other, Served(other) as served:
            assert b"before" == served.call().next()
            with adapted(hello) as closed:
                ask(closed)
            go_on.set()
            assert b"after" == served.rest()
            served.close()

    def test_twenty_adapters_leave_no_thread(self) -> None:
        """Each with an executor's thread too."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, await asyncio.to_thread(lambda: b"from a thread"))

        before = threading.active_count()
        adapters = [AsgiToWsgi(app) for _ in range(20)]
        for adapter in adapters:
            with Served(adapter) as served:
                served.run()
        for adapter in adapters:
            bounded(adapter.close)
        del served, adapter

        # The servers' threads, which are the test's, may take a moment.
        left = [thread.name for thread in threading.enumerate() if thread.name != "server-thread"]
        assert before >= len(left), left

    def test_an_adapter_that_was_never_closed_does_not_keep_the_next_from_it(self) -> None:
        """It goes with its last reference, as far as the loop's thread is concerned at exit; here it is closed late."""
        forgotten = AsgiToWsgi(hello)
        ask(forgotten)
        with adapted(hello) as adapter:
            assert b"hello" == ask(adapter).body
        assert ["bridge-loop"] == loop_threads()
        bounded(forgotten.close)
        assert [] == loop_threads()


class TestClose:
    """`close()` ends what runs, in order, within its deadline; then everything may begin anew."""

    def test_without_a_request_there_is_nothing_to_close(self) -> None:
        adapter = AsgiToWsgi(hello)
        bounded(adapter.close)
        bounded(adapter.close)
        assert [] == loop_threads()

    def test_as_a_context_manager(self) -> None:
        app = Lifespan()
        with AsgiToWsgi(app) as adapter:
            ask(adapter)
            assert ["startup"] == app.events
        assert ["startup", "shutdown"] == app.events

    def test_afterwards_the_adapter_serves_again(self) -> None:
        app = Lifespan()
        adapter = AsgiToWsgi(app)
        for _ in range(3):
            assert b"hello" == ask(adapter).body
            bounded(adapter.close)

        assert ["startup", "shutdown"] * 3 == app.events
        assert [] == loop_threads()

    def test_by_several_threads_at_once(self) -> None:
        """Each returns when the adapter is closed."""
        app = Lifespan()
        adapter = AsgiToWsgi(app)
        for _ in range(10):
            ask(adapter)
            for closing in [Work(adapter.close) for _ in range(4)]:
                closing.result()
                assert "shutdown" == app.events[-1]

        assert ["startup", "shutdown"] * 10 == app.events

    def test_a_request_at_work_may_end(self) -> None:
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"half")
            await go_on.waited()
            await chunk(send, b", and whole", more=False)

        adapter = AsgiToWsgi(app, shutdown_timeout=FOREVER)
        with Served(adapter) as served:
            assert b"half" == served.call().next()
            closing = Work(adapter.close)
            go_on.set()
            assert b", and whole" == served.rest()
            served.close()
            closing.result()

    def test_a_request_that_does_not_end_hears_of_it(self) -> None:
        """By `http.disconnect`; its server's thread is freed by an error."""
        kinds: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"half")
            kinds.append((await receive())["type"])

        adapter = AsgiToWsgi(app, shutdown_timeout=0.1)
        with Served(adapter) as served:
            assert b"half" == served.call().next()
            waiting = served.begin_next()
            bounded(adapter.close)
            with pytest.raises(ClientDisconnected):
                waiting()
            served.close()

        assert ["http.disconnect"] == kinds

    def test_a_request_that_does_not_listen_is_cancelled(self, log: LogWatch) -> None:
        at_work, cleaned = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            at_work.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.set()

        adapter = AsgiToWsgi(app, shutdown_timeout=0.1, lifespan="off")
        with Served(adapter) as served:
            ended = served.begin()
            at_work.wait()
            bounded(adapter.close)
            with pytest.raises(ClientDisconnected):
                ended()
        assert cleaned.is_set()

    def test_background_tasks_may_end_before_the_shutdown(self) -> None:
        go_on, closing = Flag(), Flag()
        events: list[str] = []

        async def http(scope: Any, receive: Any, send: Any) -> None:
            await reply(send)
            closing.set()
            await go_on.waited()
            await asyncio.sleep(0.02)
            events.append("work done")

        app = Lifespan(http)
        app.events = events
        adapter = AsgiToWsgi(app, shutdown_timeout=FOREVER)
        ask(adapter)
        closing.wait()
        work = Work(adapter.close)
        go_on.set()
        work.result()

        assert ["startup", "work done", "shutdown"] == events

    def test_background_tasks_that_do_not_end_are_cancelled_and_clean_up_before_the_shutdown(
        self, log: LogWatch
    ) -> None:
        """Their cleanup may need what the shutdown takes down."""
        at_work = Flag()
        events: list[str] = []

        async def http(scope: Any, receive: Any, send: Any) -> None:
            await reply(send)
            at_work.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                events.append("cleaned")

        app = Lifespan(http)
        app.events = events
        adapter = AsgiToWsgi(app, shutdown_timeout=0.05)
        ask(adapter)
        at_work.wait()
        bounded(adapter.close)

        assert ["startup", "cleaned", "shutdown"] == events
        assert log.having("WARNING", "cancelling 1 task")

    def test_tasks_that_the_app_has_left_on_the_loop_are_cancelled_and_awaited(self) -> None:
        events: list[str] = []

        async def orphan() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                events.append("cleaned")

        tasks: list[asyncio.Task[None]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            tasks.append(asyncio.create_task(orphan()))
            await asyncio.sleep(0)
            await reply(send)

        adapter = AsgiToWsgi(app, lifespan="off")
        ask(adapter)
        bounded(adapter.close)

        assert ["cleaned"] == events
        assert tasks[0].cancelled()

    def test_async_generators_that_were_left_are_closed(self) -> None:
        events: list[str] = []

        async def numbers() -> Any:
            try:
                yield 1
                yield 2
            finally:
                events.append("closed")

        kept: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            generator = numbers()
            kept.append(generator)
            await anext(generator)
            await reply(send)

        adapter = AsgiToWsgi(app, lifespan="off")
        ask(adapter)
        assert [] == events
        bounded(adapter.close)
        assert ["closed"] == events

    def test_a_request_that_comes_meanwhile_is_served_whole(self) -> None:
        """By a life of its own, which the close that was under way leaves alone."""
        shutting_down, go_on, at_work, answer = Flag(), Flag(), Flag(), Flag()
        events: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                events.append("startup")
                await send({"type": "lifespan.startup.complete"})
                await receive()
                events.append("shutdown")
                shutting_down.set()
                await go_on.waited()
                await send({"type": "lifespan.shutdown.complete"})
                return
            if scope["path"] == "/slow":
                at_work.set()
                await answer.waited()
            await reply(send, b"whole")

        with adapted(app, lifespan="on") as adapter:
            ask(adapter)
            closing = Work(adapter.close)
            shutting_down.wait()
            with Served(adapter, environ_for("GET", "/slow")) as served:
                called = served.begin()
                at_work.wait()
                go_on.set()
                closing.result()
                assert ["startup", "shutdown", "startup"] == events
                answer.set()
                called()
                assert b"whole" == served.rest()
                served.close()

        assert ["startup", "shutdown"] * 2 == events
        assert [] == loop_threads()

    @pytest.mark.parametrize("what", ["close", "request"])
    def test_a_call_from_the_shutdown_itself_is_refused(self, what: str) -> None:
        """The loop would wait for its own end; nothing is begun that the close would have to end as well."""
        refused: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                try:
                    adapter.close() if what == "close" else adapter(environ_for("GET", "/"), lambda *_: None)
                except RuntimeError as error:
                    refused.append(str(error))
                await send({"type": "lifespan.shutdown.complete"})
                return
            await reply(send, b"ok")

        with adapted(app, lifespan="on", shutdown_timeout=FOREVER) as adapter:
            ask(adapter)
            bounded(adapter.close)
            assert [] == loop_threads()

        assert 1 == len(refused)
        assert "on an event loop, which this would block" in refused[0]

    def test_what_ends_meanwhile_is_counted(self) -> None:
        at_work, go_on = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"half")
            at_work.set()
            await go_on.waited()
            await end(send)

        adapter = AsgiToWsgi(app, lifespan="off", shutdown_timeout=FOREVER)
        with Served(adapter) as served:
            served.call()
            at_work.wait()
            closing = Work(adapter.close)
            go_on.set()
            assert b"half" == served.rest()
            served.close()
            closing.result()

        assert 1 == adapter.stats().served

    def test_again_and_again_while_others_send_requests(self) -> None:
        """Each request is served, by the life that ends or by the next."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0)
            await reply(send, b"ok")

        adapter = AsgiToWsgi(app, lifespan="off")
        stop = Flag()

        def caller() -> int:
            served = 0
            while not stop.is_set():
                assert b"ok" == b"".join(adapter(environ_for("GET", "/"), lambda *_: None))
                served += 1
            return served

        callers = [Work(caller) for _ in range(3)]
        for _ in range(60):
            bounded(adapter.close)
        stop.set()
        served = sum(work.result() for work in callers)
        bounded(adapter.close)

        assert served == adapter.stats().served


def test_a_task_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for it: the thread that waits for it is told, and the next request is served."""
    genuine = AsyncioLoop.spawn
    failed = Flag()

    def spawn(handle: AsyncioLoop, coroutine: Any, context: Any = None) -> Any:
        if not failed.is_set():
            failed.set()
            coroutine.close()
            raise MemoryError("no memory for a task")
        return genuine(handle, coroutine, context)

    monkeypatch.setattr(AsyncioLoop, "spawn", spawn)
    with adapted(hello, lifespan="off") as adapter:
        with Served(adapter) as served, pytest.raises(MemoryError, match="no memory for a task"):
            served.call()
        until(lambda: adapter.stats().busy == 0)
        ask(adapter)


class TestStats:
    """Counts survive the loop they were made on."""

    def test_they_add_up_over_several_lives(self) -> None:
        adapter = AsgiToWsgi(hello, lifespan="off")
        for number in range(1, 4):
            ask(adapter)
            bounded(adapter.close)
            assert (number, 0, 0) == (adapter.stats().served, adapter.stats().tasks, adapter.stats().busy)

    def test_each_adapter_counts_its_own_requests(self) -> None:
        with adapted(hello) as first, adapted(hello) as second:
            ask(first)
            ask(first)
            ask(second)
            assert (2, 1) == (first.stats().served, second.stats().served)


FORK = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of os.fork in a process with threads, which is what is tested
from bridge import AsgiToWsgi
from support.asgi_apps import Lifespan, chunk, end, reply, start
from support.scripted_wsgi_server import Served, ask

async def http(scope, receive, send):
    await reply(send, f"{os.getpid()} {scope['state']['pid']}".encode())

class App(Lifespan):
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            self._state = {"pid": os.getpid()}
        await super().__call__(scope, receive, send)

app = App(http)
adapter = AsgiToWsgi(app)

def serves(who):
    pid = str(os.getpid()).encode()
    good = all(ask(adapter).body == pid + b" " + pid for _ in range(3))
    print(who, "serves" if good else "FAILS", adapter.stats().served)

def in_child(function, fork=os.fork):
    pid = fork()
    if not pid:
        code = 1
        try:
            function()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
"""


class TestFork:
    """A child has none of its parent's threads, and begins anew; so does a child that Python is not told of."""

    def test_before_the_first_request(self) -> None:
        lines = run_script(FORK + "in_child(lambda: serves('child'))\nserves('parent')\nadapter.close()\n")

        assert ["child serves 3", "parent serves 3"] == lines

    def test_after_the_first_request(self) -> None:
        """uWSGI, or a master that warms its application up."""
        script = """
serves("parent")
def child():
    serves("child")
    adapter.close()
    serves("child again")
    print(app.events)
    in_child(lambda: serves("grandchild"))
in_child(child)
serves("parent")
adapter.close()
print(app.events)
"""
        assert [
            "parent serves 3",
            "child serves 3",
            "child again serves 6",
            "['startup', 'startup', 'shutdown', 'startup']",
            "grandchild serves 3",
            "parent serves 6",
            "['startup', 'shutdown']",
        ] == run_script(FORK + script)

    def test_in_the_middle_of_a_request(self) -> None:
        """What the parent's threads were at, and held, at that moment is not waited for."""
        script = """
from support.plain_servers import environ_for
from support.waiting import Flag
go_on = Flag()
async def http(scope, receive, send):
    if scope["path"] == "/slow":
        await start(send)
        await chunk(send, b"half")
        await go_on.waited()
        await chunk(send, b", whole", more=False)
    else:
        await reply(send, f"{os.getpid()} {scope['state']['pid']}".encode())
app._http = http
with Served(adapter, environ_for("GET", "/slow")) as served:
    served.call().next()
    waiting = served.begin_next()
    def child():
        serves("child")
        adapter.close()
        print("child", adapter.stats().busy)
    in_child(child)
    go_on.set()
    waiting()
    print(served.body.decode())
    served.close()
serves("parent")
adapter.close()
"""
        assert ["child serves 3", "child 0", "half, whole", "parent serves 4"] == run_script(FORK + script)

    def test_that_python_is_not_told_of(self) -> None:
        """uWSGI forks in C: no hook runs, and threading still lists the parent's threads as alive."""
        script = """
import ctypes
import time
libc = ctypes.PyDLL(None)  # keeps the interpreter's lock, as uWSGI does

def all_at_rest():
    # A thread that is about to take the interpreter's lock, and that the child does not have, would keep a part of it.
    me, runs, same = threading.get_native_id(), None, 0
    while same < 3:
        time.sleep(0.01)
        before, runs = runs, {}
        for task in os.listdir("/proc/self/task"):
            if int(task) != me:
                with open(f"/proc/self/task/{task}/schedstat") as file:
                    runs[task] = file.read()
        same = same + 1 if runs == before else 0

hooked = []
os.register_at_fork(after_in_child=lambda: hooked.append(1))
serves("parent")
all_at_rest()
def child():
    assert not hooked
    assert "bridge-loop" in [thread.name for thread in threading.enumerate()]
    serves("child")
    adapter.close()
    serves("child again")
    print(app.events)
in_child(child, libc.fork)
all_at_rest()
in_child(lambda: serves("second child"), libc.fork)
serves("parent")
adapter.close()
"""
        assert [
            "parent serves 3",
            "child serves 3",
            "child again serves 6",
            "['startup', 'startup', 'shutdown', 'startup']",
            "second child serves 3",
            "parent serves 6",
        ] == run_script(FORK + script)

    def test_each_process_shuts_its_own_application_down_at_its_exit(self) -> None:
        script = """
async def lifespan(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("shutdown in the", who, flush=True)
    await send({"type": "lifespan.shutdown.complete"})
who = "parent"
async def both(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    else:
        await reply(send, b"ok")
adapter = AsgiToWsgi(both)
ask(adapter)
pid = os.fork()
if not pid:
    who = "child"
    ask(adapter)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
pid = os.fork()
if not pid:
    who = "child that served nothing"
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
        # asyncio says something of the parent's tasks when they are destroyed in a child that exits.
        assert ["shutdown in the child", "shutdown in the parent"] == run_script(FORK + script, quiet=False)


def test_what_is_dropped_at_the_end_of_the_process_is_ended_before() -> None:
    """As a CGI script does that gives its adapter to a handler and keeps no name for it: the shutdown is run whole."""
    script = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await reply(send, b"ok")
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.sleep(0.2)  # longer than an exit takes that waits for nothing
    print("shutdown")
    await send({"type": "lifespan.shutdown.complete"})
print(ask(AsgiToWsgi(app)).body)
"""
    assert ["b'ok'", "shutdown"] == run_script(FORK + script)
