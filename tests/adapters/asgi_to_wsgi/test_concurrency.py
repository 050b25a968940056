"""Many requests at once on one loop, and the context variables of each."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from support.asgi_apps import chunk, end, read_body, reply, returns_nothing, start
from support.plain_servers import environ_for
from support.python_process import run_script
from support.scripted_wsgi_server import Input, Served, adapted, ask, upload
from support.waiting import Work, bounded, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


class TestContext:
    """The app runs in a copy of the caller's context."""

    def test_contextvars_of_the_caller_are_seen_and_stay_as_they_are(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen = user.get()
            user.set("mallory")
            await reply(send, seen.encode())

        with adapted(app) as adapter, Served(adapter) as served, Served(adapter) as another:

            def enter() -> None:
                user.set("alice")

            served.thread.run(enter)
            served.run()
            assert b"alice" == served.body
            assert "alice" == served.thread.run(user.get)
            with pytest.raises(LookupError):
                another.call()

    def test_locals_of_asgiref_are_seen_on_the_loop_and_in_the_thread(self) -> None:
        """Django keeps the active language in one, for instance."""
        from asgiref.local import Local
        from asgiref.sync import sync_to_async

        local = Local()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen = [local.language, await sync_to_async(lambda: local.language)()]
            await reply(send, repr(seen).encode())

        with adapted(app) as adapter, Served(adapter) as served:
            served.thread.run(lambda: setattr(local, "language", "la"))
            assert b"['la', 'la']" == served.run().body

    def test_contextvars_of_one_request_are_not_seen_in_the_next(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            before = user.get("nobody")
            user.set("somebody")
            await reply(send, before.encode())

        with adapted(app) as adapter:
            assert [b"nobody"] * 3 == [ask(adapter).body for _ in range(3)]

    def test_the_environ_is_in_the_scope(self) -> None:
        scopes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await reply(send)

        environ = environ_for("GET", "/")
        with adapted(app) as adapter:
            ask(adapter, environ)

        assert environ is scopes[0]["wsgi_environ"]
        assert {} == scopes[0]["state"]

    @pytest.mark.parametrize(
        ("key", "value"), [("CONTENT_LENGTH", "-1"), ("CONTENT_LENGTH", "1, 2"), ("HTTP_X", "a\nb")]
    )
    def test_a_request_that_must_be_refused_never_reaches_the_app(self, key: str, value: str) -> None:
        with adapted(returns_nothing) as adapter:
            served = ask(adapter, environ_for("POST", "/", **{key: value}))

            assert "400 Bad Request" == served.status
            assert [str(len(served.body))] == served.header("content-length")
            assert 1 == adapter.stats().rejected


class TestManyAtOnce:
    """One loop serves all callers."""

    def test_eight_caller_threads(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            body = await read_body(receive)
            await asyncio.sleep(0)
            if len(body) % 2:
                await start(send)
                for at in range(0, len(body), 1000):
                    await chunk(send, body[at : at + 1000])
                await end(send)
            else:
                await reply(send, body)

        def caller(number: int) -> Callable[[], int]:
            def run() -> int:
                good = 0
                for turn in range(25):
                    body = bytes([number]) * (turn * 307 % 5000)
                    seen: list[bytes] = []
                    iterable = adapter(environ_for("POST", "/", body), lambda *_: None)
                    seen.extend(iterable)
                    if hasattr(iterable, "close"):
                        iterable.close()
                    good += b"".join(seen) == body
                return good

            return run

        with adapted(app) as adapter:
            callers = [Work(caller(number)) for number in range(8)]
            assert [25] * 8 == [work.result() for work in callers]
            assert 200 == adapter.stats().served

    def test_two_hundred_requests_meet_on_one_loop(self) -> None:
        """None waits for another to be answered first."""
        count = 200
        waiting = 0
        everybody: asyncio.Event | None = None

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal waiting, everybody
            everybody = everybody or asyncio.Event()
            waiting += 1
            if waiting == count:
                everybody.set()
            await everybody.wait()
            await reply(send, scope["path"].encode())

        with adapted(app) as adapter:

            def caller(number: int) -> Callable[[], bytes]:
                return lambda: b"".join(adapter(environ_for("GET", f"/{number}"), lambda *_: None))

            callers = [Work(caller(number)) for number in range(count)]
            assert [f"/{number}".encode() for number in range(count)] == [work.result() for work in callers]
            until(lambda: adapter.stats().busy == 0)  # the last task may have its last step to take
            assert count == adapter.stats().served

    def test_a_caller_whose_thread_runs_a_loop_of_its_own(self) -> None:
        """A WSGI test client within an async test, say: that loop would stand still, so it is told to use a thread."""
        loops: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await reply(send, b"ok")

        def call() -> bytes:
            return b"".join(adapter(environ_for("GET", "/"), lambda *_: None))

        async def caller() -> None:
            loops.append(asyncio.get_running_loop())
            with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
                call()
            assert b"ok" == await asyncio.to_thread(call)

        with adapted(app) as adapter:
            bounded(lambda: asyncio.run(caller()))

        assert loops[0] is not loops[1]

    def test_a_call_on_the_private_loop_itself_is_refused(self) -> None:
        """Its thread would wait for itself, and every other request for it."""
        script = """
from bridge import AsgiToWsgi, WsgiToAsgi
from support.plain_servers import environ_for
from support.asgi_apps import reply
from support.scripted_wsgi_server import ask

async def app(scope, receive, send):
    if scope["path"] == "/":
        try:
            adapter(environ_for("GET", "/inner"), lambda *_: None)
        except RuntimeError as error:
            print("refused", "loop" in str(error))
    await reply(send, b"ok")

with AsgiToWsgi(app, lifespan="off") as adapter:
    print(ask(adapter).body)
"""
        assert ["refused True", "b'ok'"] == run_script(script)

    @pytest.mark.parametrize("streams", [False, True])
    def test_a_request_leaves_no_garbage(self, streams: bool) -> None:
        """What refers to itself stays until the collector comes, which costs every request a little."""

        class Tracer:
            pass

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await read_body(receive)
            await start(send)
            if streams:
                await chunk(send, b"x")
                await asyncio.sleep(0)
            await chunk(send, b"y", more=False)

        def request() -> "weakref.ref[Tracer]":
            tracer = Tracer()
            environ = environ_for("POST", "/", b"body") | {"tracer": tracer}
            iterable = adapter(environ, lambda *_: None)
            assert b"".join(iterable)
            if hasattr(iterable, "close"):
                iterable.close()
            return weakref.ref(tracer)

        with adapted(app) as adapter:
            gc.collect()
            gc.disable()
            try:
                tracers = [bounded(request) for _ in range(3)]
                # The task may have had its last step to take when the thread had left already.
                bounded(request)
                assert [None, None] == [tracer() for tracer in tracers[:2]]
            finally:
                gc.enable()

    @pytest.mark.parametrize("mode", ["debug", *(["eager"] if hasattr(asyncio, "eager_task_factory") else [])])
    def test_modes_of_the_loop(self, mode: str) -> None:
        """The debug mode checks, for one, that other threads make threadsafe calls alone; eager tasks begin at once."""

        def factory() -> asyncio.AbstractEventLoop:
            loop = asyncio.new_event_loop()
            if mode == "debug":
                loop.set_debug(True)
            else:
                loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
            return loop

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/sin":
                raise LookupError("at once")
            body = await read_body(receive)
            await start(send)
            await chunk(send, body)
            await chunk(send, body, more=False)

        with adapted(app, loop_factory=factory) as adapter:
            data = b"x" * 200_000
            assert 2 * data == ask(adapter, upload(Input(data), len(data))).body
            assert b"" == ask(adapter).body
            with Served(adapter, environ_for("GET", "/sin")) as served, pytest.raises(LookupError):
                served.call()
            until(lambda: adapter.stats().busy == 0)

    def test_uvloop(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
            await reply(send, await read_body(receive))

        with adapted(app, loop_factory=uvloop.new_event_loop) as adapter:
            assert b"body" == ask(adapter, environ_for("POST", "/", b"body")).body
