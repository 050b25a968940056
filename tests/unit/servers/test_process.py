"""What is open is closed when the interpreter exits: while executors still work, within its deadline, once.

And what servers tell about the end of their process, and about its threads.
"""

import functools
import os
import signal
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from bridge._servers import process
from support.python_process import run_script

APP = """
import asyncio, atexit, sys, threading
from bridge import AsgiToWsgi
from support.plain_servers import environ_for
from support.asgi_apps import chunk, reply, start
from support.scripted_wsgi_server import ask

def app_with(shutdown, http=None):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await shutdown()
            await send({"type": "lifespan.shutdown.complete"})
        elif http is not None:
            await http(scope, receive, send)
        else:
            await reply(send, b"ok")
    return app

def say(words):
    sys.stdout.write(f"{words}\\n")  # in one piece, whichever thread it comes from

async def tell():
    say("shutdown")

def request(adapter):
    return b"".join(adapter(environ_for("GET", "/"), lambda *_: None))
"""


NO_THREADS_AT_EXIT = pytest.mark.xfail(
    (3, 12) <= sys.version_info < (3, 12, 3), reason="these Pythons start no thread at exit (gh-113964)"
)


class Closable:
    """Notes when it was closed."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self.closed = closed

    def exit(self, timeout: float | None = None) -> None:
        self.closed.append(self.name)
        process.unregister(self)


class TestRegister:
    """The register itself."""

    def test_what_is_registered_is_closed_once(self) -> None:
        closed: list[str] = []
        first, second = Closable("first", closed), Closable("second", closed)
        for closable in (first, second, first):
            process.register(closable)
        process.close_all()
        assert ["first", "second"] == sorted(closed)
        process.close_all()
        assert 2 == len(closed)

    def test_what_is_unregistered_is_not_closed(self) -> None:
        closed: list[str] = []
        closable = Closable("it", closed)
        process.register(closable)
        process.unregister(closable)
        process.unregister(closable)
        process.close_all()
        assert [] == closed

    def test_they_share_the_time_that_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many there are, a server that waits for so long does not kill the last of them."""
        now = [100.0]
        given: list[float | None] = []

        class Takes(Closable):
            def exit(self, timeout: float | None = None) -> None:
                super().exit(timeout)
                given.append(timeout)
                now[0] += (timeout or 0.0) * float(self.name)

        monkeypatch.setattr(process, "monotonic", lambda: now[0])
        for share in ("1.0", "0.0", "1.5", "1.0"):  # the third one takes longer than it may
            process.register(Takes(share, []))
        process.close_all(12.0)

        assert [3.0, 3.0, 4.5, 2.25] == given

    def test_without_a_limit_each_has_its_own(self) -> None:
        given: list[float | None] = []

        class Notes(Closable):
            def exit(self, timeout: float | None = None) -> None:
                super().exit(timeout)
                given.append(timeout)

        process.register(Notes("it", []))
        process.close_all()
        assert [None] == given

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_a_child_does_not_close_what_its_parent_had_open(self) -> None:
        closed: list[str] = []
        closable = Closable("of the parent", closed)
        process.register(closable)
        child = os.fork()
        if not child:
            code = 1
            try:
                process.close_all()
                mine = Closable("of the child", closed)
                process.register(mine)
                process.close_all()
                code = 0 if closed == ["of the child"] else 2
            finally:
                os._exit(code)
        assert (child, 0) == os.waitpid(child, 0)
        process.close_all()
        assert ["of the parent"] == closed


class TestExit:
    """The whole interpreter."""

    def test_the_application_is_shut_down(self) -> None:
        assert ["shutdown"] == run_script(APP + "adapter = AsgiToWsgi(app_with(tell))\nask(adapter)\n")

    def test_it_is_shut_down_once_where_it_was_closed_before(self) -> None:
        script = "adapter = AsgiToWsgi(app_with(tell))\nask(adapter)\nadapter.close()\nprint('closed')\n"
        assert ["shutdown", "closed"] == run_script(APP + script)

    def test_without_a_request_there_is_nothing_to_do(self) -> None:
        assert [] == run_script(APP + "adapter = AsgiToWsgi(app_with(tell))\n")

    @NO_THREADS_AT_EXIT
    @pytest.mark.parametrize("uses", ["asyncio.to_thread", "sync_to_async", "executor"])
    def test_its_shutdown_may_use_threads_of_executors(self, uses: str) -> None:
        """Python ends those before it calls what atexit knows."""
        script = f"""
import concurrent.futures
from asgiref.sync import sync_to_async
executor = concurrent.futures.ThreadPoolExecutor(1)
async def shutdown():
    use = {uses!r}
    if use == "asyncio.to_thread":
        print(await asyncio.to_thread(lambda: "from a thread"))
    elif use == "sync_to_async":
        print(await sync_to_async(lambda: "from a thread")())
    else:
        print(await asyncio.get_running_loop().run_in_executor(executor, lambda: "from a thread"))
adapter = AsgiToWsgi(app_with(shutdown))
ask(adapter)
"""
        assert ["from a thread"] == run_script(APP + script)

    def test_it_is_shut_down_before_what_atexit_knows(self) -> None:
        """The application may need that, and was there after it."""
        script = """
atexit.register(print, "atexit of the application")
adapter = AsgiToWsgi(app_with(tell))
ask(adapter)
"""
        assert ["shutdown", "atexit of the application"] == run_script(APP + script)

    @pytest.mark.parametrize(
        ("how", "code"), [("sys.exit(3)", 3), ("raise SystemExit(4)", 4), ("raise LookupError('of the script')", 1)]
    )
    def test_the_exit_code_stays(self, how: str, code: int) -> None:
        script = f"adapter = AsgiToWsgi(app_with(tell))\nask(adapter)\n{how}\n"
        assert ["shutdown"] == run_script(APP + script, code=code, quiet=False)

    def test_background_tasks_are_ended_first(self) -> None:
        script = """
async def http(scope, receive, send):
    await reply(send)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        say("cleaned")
adapter = AsgiToWsgi(app_with(tell, http), shutdown_timeout=0.1)
ask(adapter)
"""
        assert ["cleaned", "shutdown"] == run_script(APP + script, quiet=False)

    def test_a_live_stream_in_a_daemon_thread_does_not_keep_it(self) -> None:
        """A server's threads may still be in requests; those hear of the end."""
        script = """
async def http(scope, receive, send):
    try:
        await start(send)
        await chunk(send, b"first")
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        say("request over")
adapter = AsgiToWsgi(app_with(tell, http))
first = threading.Event()
def serve():
    try:
        for chunk in adapter(environ_for("GET", "/"), lambda *_: None):
            first.set()
    except OSError:
        pass
threading.Thread(target=serve, daemon=True).start()
assert first.wait(60)
"""
        assert ["request over", "shutdown"] == run_script(APP + script)

    def test_a_live_stream_in_a_thread_that_is_waited_for_ends_too(self) -> None:
        """Python waits for such a thread after it has told us."""
        script = """
async def http(scope, receive, send):
    await start(send)
    await chunk(send, b"first")
    while (await receive())["type"] != "http.disconnect":
        pass
adapter = AsgiToWsgi(app_with(tell, http))
first = threading.Event()
def serve():
    try:
        for chunk in adapter(environ_for("GET", "/"), lambda *_: None):
            first.set()
    except OSError as error:
        say(type(error).__name__)
threading.Thread(target=serve).start()
assert first.wait(60)
"""
        assert ["ClientDisconnected", "shutdown"] == sorted(run_script(APP + script))

    @NO_THREADS_AT_EXIT
    def test_a_thread_that_is_waited_for_may_get_its_first_request_then(self) -> None:
        """The interpreter calls more functions at exit, but `threading` takes no more."""
        script = """
adapter = AsgiToWsgi(app_with(tell))
def serve():
    threading.main_thread().join()
    say(request(adapter))
threading.Thread(target=serve).start()
"""
        assert ["b'ok'", "shutdown"] == run_script(APP + script)

    @NO_THREADS_AT_EXIT
    def test_such_a_thread_may_have_a_loop(self) -> None:
        script = """
from bridge import WsgiToAsgi
from support.scripted_asgi_server import get, serve
from support.wsgi_apps import hello
adapter = WsgiToAsgi(hello)
async def ask_twice():
    return [(await serve(adapter, *get())).status for _ in range(2)]
def run():
    threading.main_thread().join()
    say(asyncio.run(ask_twice()))
threading.Thread(target=run).start()
"""
        assert ["[200, 200]"] == run_script(APP + script)

    def test_a_shutdown_that_hangs_does_not_keep_it(self) -> None:
        script = """
async def hangs():
    say("hangs")
    await asyncio.Event().wait()
adapter = AsgiToWsgi(app_with(hangs), shutdown_timeout=0.1)
ask(adapter)
"""
        assert ["hangs"] == run_script(APP + script, quiet=False)

    def test_several_adapters_are_all_shut_down(self) -> None:
        script = """
adapters = [AsgiToWsgi(app_with(tell)) for _ in range(3)]
for adapter in adapters:
    ask(adapter)
"""
        assert ["shutdown"] * 3 == run_script(APP + script)

    def test_one_that_nobody_refers_to_any_more_is_shut_down_too(self) -> None:
        """Its application has been started, whoever still knows the adapter."""
        script = """
import gc
adapter = AsgiToWsgi(app_with(tell))
ask(adapter)
del adapter
gc.collect()
"""
        assert ["shutdown"] == run_script(APP + script)

    def test_a_server_that_is_stopped_by_ctrl_c(self) -> None:
        """The signal reaches the main thread, which waits for the app: the request ends, and then the application."""
        script = """
import os, signal
async def http(scope, receive, send):
    os.kill(os.getpid(), signal.SIGINT)
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        say("request over")
adapter = AsgiToWsgi(app_with(tell, http))
try:
    request(adapter)
except KeyboardInterrupt:
    say("interrupted")
"""
        lines = run_script(APP + script)
        assert "shutdown" == lines[-1]
        assert ["interrupted", "request over"] == sorted(lines[:-1])

    def test_with_uvloop(self) -> None:
        script = """
import uvloop
adapter = AsgiToWsgi(app_with(tell), loop_factory=uvloop.new_event_loop)
ask(adapter)
"""
        assert ["shutdown"] == run_script(APP + script)


def test_the_first_registration_hooks_into_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Early where the interpreter can do that, and by atexit in any case."""
    hooked: list[Any] = []
    monkeypatch.setattr(process, "_hook", functools.cache(process._hook.__wrapped__))
    monkeypatch.setattr("threading._register_atexit", hooked.append)
    monkeypatch.setattr("atexit.register", hooked.append)
    closable = Closable("it", [])
    process.register(closable)
    process.register(closable)
    process.unregister(closable)

    assert [process.close_all] * 2 == hooked


class TestThreadsThatStandStill:
    """uWSGI says whether it lets threads run between requests."""

    @pytest.mark.parametrize(
        ("module", "still"),
        [(SimpleNamespace(has_threads=0), True), (SimpleNamespace(has_threads=1), False), (None, False)],
    )
    def test_uwsgi(self, module: object, still: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """The reason names the option that is missing."""
        monkeypatch.setitem(sys.modules, "uwsgi", module)  # type: ignore[arg-type]
        reason = process.why_threads_stand_still()
        assert still is (reason is not None and "--enable-threads" in reason)


class TestCallAtShutdown:
    """mod_wsgi announces its shutdown."""

    def test_it_is_subscribed_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The function is called with nothing, whatever the announcement says."""
        subscribed: list[Any] = []
        called: list[bool] = []
        monkeypatch.setitem(sys.modules, "mod_wsgi", SimpleNamespace(subscribe_shutdown=subscribed.append))
        process.call_at_shutdown(lambda: called.append(True))
        [announce] = subscribed

        announce("process_stopping", shutdown_reason="shutdown_signal")

        assert [True] == called

    @pytest.mark.parametrize("module", [SimpleNamespace(), None])
    def test_elsewhere_nothing_is_done(self, module: object, monkeypatch: pytest.MonkeyPatch) -> None:
        """An older mod_wsgi, or none: atexit has to do."""
        monkeypatch.setitem(sys.modules, "mod_wsgi", module)  # type: ignore[arg-type]
        called: list[bool] = []
        process.call_at_shutdown(lambda: called.append(True))

        assert [] == called


class TestStopOf:
    """Where a server shows that it has been told to stop."""

    def test_waitress(self) -> None:
        dispatcher = SimpleNamespace(stop_count=0)

        class Channel:
            server = SimpleNamespace(task_dispatcher=dispatcher)

            def check_client_disconnected(self) -> bool:
                return False

        stops = process.stop_of({"waitress.client_disconnected": Channel().check_client_disconnected})
        assert stops is not None
        assert not stops()
        dispatcher.stop_count = 1
        assert stops()

    def test_cheroot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server = SimpleNamespace(ready=True)
        monkeypatch.setattr(threading.current_thread(), "server", server, raising=False)
        stops = process.stop_of({})
        assert stops is not None
        assert not stops()
        server.ready = False
        assert stops()

    def test_gunicorn(self) -> None:
        """The handler of SIGTERM is a method of its worker; with the hooks, they have told."""

        class Worker:
            alive = True

            def handle_exit(self, *_: object) -> None:
                self.alive = False

        worker = Worker()
        before = signal.signal(signal.SIGTERM, worker.handle_exit)
        try:
            stops = process.stop_of({})
            assert stops is not None
            assert not stops()
            signal.raise_signal(signal.SIGTERM)
            assert stops()
        finally:
            signal.signal(signal.SIGTERM, before)
        process.tell_stop(told := lambda: True)
        try:
            assert told is process.stop_of({})
        finally:
            process._stops.here().clear()

    def test_gevent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Server:
            closed = False

            def handle(self) -> None: ...

        server = Server()
        current = SimpleNamespace(args=(server.handle, "address"))
        monkeypatch.setitem(sys.modules, "gevent", SimpleNamespace(getcurrent=lambda: current))  # type: ignore[arg-type]
        stops = process.stop_of({})
        assert stops is not None
        assert not stops()
        server.closed = True
        assert stops()

    def test_of_others_nothing_is_known(self) -> None:
        assert process.stop_of({}) is None
