"""A WSGI app between two adapters comes home, to the server's thread for its request.

WSGI server -> AsgiToWsgi -> ASGI middleware -> WsgiToAsgi -> WSGI app    in the thread of the server
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from asgiref.sync import async_to_sync, sync_to_async

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge._concurrency.calls import Call
from support.asgi_apps import reply
from support.lenient_asgi_server import LenientRequest, fetch, opened_leniently
from support.plain_servers import Environ, Event, environ_for, scope_for
from support.scripted_wsgi_server import Input, Served, ask, upload
from support.waiting import PATIENCE, Flag, Work, adapters_own_threads, bounded
from support.wsgi_apps import Chunks

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


MUCH = 2**21  # more than all of them together can hold


user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


class Sandwich:
    """A WSGI app within ASGI middleware, for a WSGI server."""

    def __init__(self, app: Any, middleware: Any = None, **options: Any) -> None:
        self.inner = WsgiToAsgi(app, shutdown_timeout=3.0, **options)
        wrapped = self.inner if middleware is None else middleware(self.inner)
        self.outer = AsgiToWsgi(wrapped, lifespan="off", shutdown_timeout=3.0)

    def __enter__(self) -> "Sandwich":
        return self

    def __exit__(self, *exc_info: object) -> None:
        bounded(self.outer.close)
        bounded(self.inner.close)

    def serve(self, environ: Environ | None = None) -> Served:
        return Served(self.outer, environ)


def wsgi_echo(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Full duplex: each piece is answered before the next one is read."""
    start_response("200 OK", [])
    while piece := environ["wsgi.input"].read(30_000):
        yield piece
        yield piece


class TestWsgiAppOnAWsgiServer:
    """`AsgiToWsgi(middleware(WsgiToAsgi(app)))`: there is one thread."""

    def test_the_app_runs_in_the_servers_thread(self) -> None:
        threads: list[Any] = []
        iterable = Chunks([b"one", b"two"])

        def app(environ: Environ, start_response: Any) -> Chunks:
            threads.append(threading.get_ident())
            start_response("200 OK", [("X-A", "1")])
            return iterable

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            served.run()
            assert (b"onetwo", ["1"]) == (served.body, served.header("x-a"))
            assert [served.thread.ident] * 2 == threads + iterable.closings
            assert ["bridge-loop"] == adapters_own_threads()

    def test_each_chunk_is_there_before_the_next_is_made(self) -> None:
        """PEP 3333, "Buffering and Streaming": no block is delayed, though the one thread makes it and takes it on."""
        taken = [Flag() for _ in range(3)]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for number, flag in enumerate(taken):
                yield b"%d" % number
                flag.wait()

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            served.call()
            for number, flag in enumerate(taken):
                assert b"%d" % number == served.next()
                flag.set()
            assert b"" == served.rest()
            served.close()

    def test_each_piece_of_the_body_is_answered_before_the_next_is_there(self) -> None:
        pieces = [b"first", b"other", b"third"]
        answered = [Flag() for _ in pieces]

        class Waiting(Input):
            def read(self, size: int = -1, /) -> bytes:
                if self.asked:
                    answered[len(self.asked) - 1].wait()
                super().read(0)
                return pieces[len(self.asked) - 1]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for _ in pieces:
                yield environ["wsgi.input"].read(5)

        with Sandwich(app, collect=0) as sandwich, sandwich.serve(upload(Waiting(), 15)) as served:
            served.call()
            for piece, flag in zip(pieces, answered, strict=True):
                assert piece == served.next()
                flag.set()
            assert b"" == served.rest()
            served.close()

    @pytest.mark.usefixtures("heads_wait_for_bodies")
    def test_a_list_is_a_list_again(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Length", "5")])
            return [b"he", b"llo"]

        with Sandwich(app) as sandwich:
            assert [b"hello"] == ask(sandwich.outer).result

    def test_many_requests_need_no_thread_of_ours(self) -> None:
        threads: set[int] = set()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            together.wait()
            threads.add(threading.get_ident())
            start_response("200 OK", [])
            return [environ["PATH_INFO"].encode()]

        together = threading.Barrier(6, timeout=PATIENCE)
        with Sandwich(app) as sandwich:
            requests = [sandwich.serve(environ_for("GET", f"/{number}")) for number in range(6)]
            for ended in [served.begin() for served in requests]:
                ended()
            assert [f"/{number}".encode() for number in range(6)] == [served.rest() for served in requests]
            assert {served.thread.ident for served in requests} == threads
            assert ["bridge-loop"] == adapters_own_threads()
            for served in requests:
                served.close()
                served.thread.end()

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("options", [{}, {"collect": 0}, {"stream_chunked": True}], ids=str)
    def test_large_streams_in_both_directions_do_not_wait_for_each_other(
        self, framing: str, options: dict[str, Any]
    ) -> None:
        data = bytes(range(256)) * (MUCH // 256)
        length, chunked = (len(data), {}) if framing == "length" else (None, {"HTTP_TRANSFER_ENCODING": "chunked"})
        with Sandwich(wsgi_echo, **options) as sandwich:
            served = ask(sandwich.outer, upload(Input(data), length, **chunked))

        assert 2 * len(data) == len(served.body)
        assert data[:30_000] * 2 + data[30_000:60_000] == served.body[:90_000]

    def test_a_large_response_to_a_body_that_nobody_reads(self) -> None:
        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            return iter([b"x" * 50_000] * 60)

        with Sandwich(app) as sandwich:
            served = ask(sandwich.outer, upload(Input(b"y" * MUCH), MUCH))

        assert 3_000_000 == len(served.body)

    def test_a_large_body_before_any_response(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            size = sum(map(len, iter(lambda: environ["wsgi.input"].read(10_000), b"")))
            start_response("200 OK", [])
            return [str(size).encode()]

        with Sandwich(app) as sandwich:
            body = Input(b"y" * MUCH)
            assert str(MUCH).encode() == ask(sandwich.outer, upload(body, MUCH)).body
            assert max(body.asked) <= 2**16

    def test_write_streams_through(self) -> None:
        """More than all buffers hold, while the one thread is in the app: it must deliver what it writes itself."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            for number in range(60):
                write(bytes([number]) * 50_000)
            return [b"and the rest"]

        with Sandwich(app) as sandwich:
            served = ask(sandwich.outer)

        assert b"".join(bytes([number]) * 50_000 for number in range(60)) + b"and the rest" == served.body

    def test_write_and_read_in_turns(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            while piece := environ["wsgi.input"].read(50_000):
                write(piece)
                write(piece)
            return []

        with Sandwich(app, collect=0) as sandwich:
            served = ask(sandwich.outer, upload(Input(b"z" * MUCH), MUCH))

        assert 2 * MUCH == len(served.body)

    def test_lines_of_the_body(self) -> None:
        body = b"first\nsecond\n" + b"x" * 200_000 + b"\nlast"

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            lines = [environ["wsgi.input"].readline(), *environ["wsgi.input"]]
            start_response("200 OK", [])
            return [repr([len(line) for line in lines]).encode()]

        with Sandwich(app, collect=0) as sandwich:
            assert b"[6, 7, 200001, 4]" == ask(sandwich.outer, upload(Input(body), len(body))).body

    def test_a_body_that_breaks_off_raises_in_the_app(self) -> None:
        errors: list[BaseException] = []
        raised = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                environ["wsgi.input"].read()
            except OSError as error:
                errors.append(error)
                raised.set()
                raise
            raise AssertionError("it looked whole")

        with Sandwich(app, collect=0) as sandwich, sandwich.serve(upload(Input(b"half"), 1000)) as served:
            with pytest.raises(OSError, match="left"):
                served.call()
            served.close()
            # The thread may have left before the app was called; then the app is not called at all.
            assert raised.is_set() == bool(errors)

    @pytest.mark.parametrize("when", ["before", "start", "middle"])
    def test_an_exception_reaches_the_server(self, when: str) -> None:
        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            if when != "before":
                start_response("200 OK", [])
            if when == "middle":
                yield b"half"
            raise LookupError("of the app")

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            with pytest.raises(LookupError, match="of the app"):
                served.run()
            assert (b"half" if when == "middle" else b"") == served.body

    def test_a_server_that_closes_early_closes_the_iterable_in_its_thread(self) -> None:
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            assert served.call().next()
            served.close()
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_a_server_that_closes_at_once_closes_the_iterable(self) -> None:
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            served.call()
            served.close()
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_middleware_that_answers_itself_closes_the_iterable(self) -> None:
        """The app is at work in the thread while the response is made on the loop."""
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        class Enough(Exception):
            pass

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                async def first_only(event: Event) -> None:
                    if event["type"] == "http.response.body":
                        raise Enough

                with contextlib.suppress(Enough):
                    await inner(scope, receive, first_only)
                await reply(send, b"my own")

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"my own" == served.run().body
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_two_calls_at_once_within_one_request(self) -> None:
        """The thread can be in one of them only; the other gets a worker thread, and they do meet."""
        together = threading.Barrier(2, timeout=PATIENCE)
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            together.wait()
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return [environ["PATH_INFO"].encode()]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                parts = [LenientRequest(inner, scope_for("GET", f"/{number}")) for number in range(2)]
                await asyncio.gather(*[part.run() for part in parts])
                await reply(send, b"".join(part.body for part in parts))

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"/0/1" == served.run().body
            assert served.thread.ident in threads
            assert 2 == len(set(threads))

    def test_calls_one_after_the_other_are_all_in_the_thread(self) -> None:
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            yield environ["PATH_INFO"].encode()

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                parts = [await fetch(inner, scope_for("GET", f"/{number}")) for number in range(3)]
                await reply(send, b"".join(part.body for part in parts))

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"/0/1/2" == served.run().body
            assert [served.thread.ident] * 3 == threads

    def test_the_thread_is_free_before_the_loop_hears_of_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The loop may make the next call at once, and would else look for another thread."""
        states: list[Any] = []
        post = Call._post

        def watched(call: Any) -> None:
            if call.finished:
                states.append((call.thread._busy, call.thread._reserved))
            post(call)

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"x"

        monkeypatch.setattr(Call, "_post", watched)
        with Sandwich(app) as sandwich, sandwich.serve() as served:
            assert b"x" == served.run().body

        assert [(False, False)] == states

    def test_a_call_that_is_given_up_frees_the_thread_for_the_next(self) -> None:
        threads: list[int] = []
        at_work = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            threads.append(threading.get_ident())
            if environ["PATH_INFO"] == "/slow":
                at_work.set()
                environ["wsgi.input"].read()
            start_response("200 OK", [])
            return [b"next"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                async with opened_leniently(inner, scope_for("POST", "/slow", [(b"content-length", b"9")])) as slow:
                    slow.feed({"type": "http.request", "body": b"some", "more_body": True})
                    await at_work.waited()
                    slow.cancel_scope.cancel()
                await reply(send, (await fetch(inner)).body)

            return run

        with Sandwich(app, middleware, collect=0) as sandwich, sandwich.serve() as served:
            assert b"next" == served.run().body
            assert served.thread.ident == threads[0]

    def test_a_call_from_thread_sensitive_work_is_served(self) -> None:
        """The thread is in that work, and waits for it: the app gets a worker thread."""
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return [b"nested"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                def work() -> bytes:
                    threads.append(threading.get_ident())
                    return async_to_sync(fetch)(inner).body  # type: ignore[no-any-return]

                await reply(send, await sync_to_async(work)())

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"nested" == served.run().body
            assert served.thread.ident == threads[0]

    def test_thread_sensitive_work_runs_beside_a_call(self) -> None:
        """While the app in the thread waits for its body, the thread does what else the request needs."""
        threads: list[int] = []
        reading = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            threads.append(threading.get_ident())
            reading.set()
            body = environ["wsgi.input"].read()
            start_response("200 OK", [])
            return [body]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                async with opened_leniently(inner, scope_for("POST", "/", [(b"content-length", b"4")])) as call:
                    call.feed({"type": "http.request", "body": b"bo", "more_body": True})
                    await reading.waited()
                    threads.append(await sync_to_async(threading.get_ident)())
                    call.feed({"type": "http.request", "body": b"dy", "more_body": False})
                    await call.ended()
                await reply(send, call.body)

            return run

        with Sandwich(app, middleware, collect=0) as sandwich, sandwich.serve() as served:
            assert b"body" == served.run().body
            assert [served.thread.ident] * 2 == threads

    def test_async_code_of_the_app_runs_on_the_private_loop(self) -> None:
        loops: list[Any] = []

        async def coroutine() -> None:
            loops.append(asyncio.get_running_loop())

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            async_to_sync(coroutine)()
            start_response("200 OK", [])
            return [b"ok"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                loops.append(asyncio.get_running_loop())
                await inner(scope, receive, send)

            return run

        with Sandwich(app, middleware) as sandwich:
            assert b"ok" == ask(sandwich.outer).body

        assert loops[0] is loops[1]

    def test_a_lent_call_leaves_no_trace_in_the_servers_thread(self) -> None:
        """Another application may use that thread next, and its async code has nothing to do with our loop."""
        loops: list[Any] = []

        async def coroutine() -> None:
            loops.append(asyncio.get_running_loop())

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            async_to_sync(coroutine)()
            start_response("200 OK", [])
            return [b"ok"]

        async def run_from_anyio() -> str:
            return "ran"

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            assert b"ok" == served.run().body
            served.thread.run(async_to_sync(coroutine))
            assert loops[0] is not loops[1]
            with pytest.raises(RuntimeError):
                served.thread.run(lambda: anyio.from_thread.run(run_from_anyio))

    def test_a_call_after_the_response_is_served(self) -> None:
        """As background work: the thread has left, or is about to."""
        ran = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            ran.set()
            return [b"in the background"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                await reply(send, b"answer")
                await fetch(inner)

            return run

        with Sandwich(app, middleware) as sandwich:
            assert b"answer" == ask(sandwich.outer).body
            ran.wait()

    def test_a_call_that_comes_as_the_thread_leaves_is_served(self) -> None:
        """It was lent the thread, which then had no turn for it any more."""
        lent, over = Flag(), Flag()
        bodies: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [b"in the background"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                await reply(send, b"answer")
                asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, lent.set)
                bodies.append((await fetch(inner)).body)
                over.set()

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            served.on_start = lent.wait
            assert b"answer" == served.run().body
            over.wait()

        assert [b"in the background"] == bodies

    def test_contextvars_reach_the_app(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            seen = user.get()
            user.set("of the app")
            start_response("200 OK", [])
            return [seen.encode()]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                user.set(user.get() + ", middleware")
                await inner(scope, receive, send)

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            served.thread.run(lambda: user.set("server"))
            assert b"server, middleware" == served.run().body
            assert "server" == served.thread.run(user.get)

    def test_the_environ_of_the_server_can_be_reached(self) -> None:
        environs: list[Environ] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            environs.append(environ["asgi.scope"]["wsgi_environ"])
            start_response("200 OK", [])
            return [b""]

        environ = environ_for("GET", "/", mod_wsgi__version=(6, 1))
        with Sandwich(app) as sandwich:
            ask(sandwich.outer, environ)

        assert environ is environs[0]

    def test_two_layers_more_are_at_home_too(self) -> None:
        """`AsgiToWsgi(WsgiToAsgi(AsgiToWsgi(WsgiToAsgi(app))))`, in full duplex, with more than all can hold."""
        threads: set[int] = set()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            threads.add(threading.get_ident())
            return wsgi_echo(environ, start_response)

        data = bytes(range(256)) * (MUCH // 256)
        environ = upload(Input(data), len(data))
        with Sandwich(app) as deep, Sandwich(deep.outer) as sandwich, sandwich.serve(environ) as served:
            assert 2 * len(data) == len(served.run().body)
            assert {served.thread.ident} == threads
            assert ["bridge-loop"] == adapters_own_threads()

    def test_two_layers_more_are_closed_early(self) -> None:
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        with Sandwich(app) as deep, Sandwich(deep.outer) as sandwich, sandwich.serve() as served:
            assert served.call().next()
            served.close()
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_middleware_and_app_of_several_callers_do_not_mix(self) -> None:
        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("X-Thread", str(threading.get_ident()))])
            while piece := environ["wsgi.input"].read(1000):
                yield environ["PATH_INFO"].encode() + piece

        with Sandwich(app) as sandwich:

            def caller(number: int) -> Callable[[], bool]:
                def run() -> bool:
                    good = True
                    for turn in range(10):
                        body, head = bytes([number]) * turn * 700, list[Any]()
                        environ = environ_for("POST", f"/{number}", body)
                        iterable = sandwich.outer(environ, lambda *given, head=head: head.extend(given))
                        got = b"".join(iterable)
                        if hasattr(iterable, "close"):
                            iterable.close()
                        good &= got.replace(f"/{number}".encode(), b"") == body
                        good &= head[1] == [("x-thread", str(threading.get_ident()))]
                    return good

                return run

            assert [True] * 6 == [work.result() for work in [Work(caller(number)) for number in range(6)]]
