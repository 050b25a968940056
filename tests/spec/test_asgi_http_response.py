"""ASGI HTTP: the response, and clients that disconnect; see `test_asgi.py` for the classes."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import WsgiToAsgi
from bridge.errors import ApplicationProtocolError
from spec.harness import play, serve_on_asgi, serve_on_wsgi, wsgi_environ
from support.asgi_apps import END, START, part, reply, sending
from support.failures import AppError
from support.scripted_asgi_server import Environ, Event, Request, Scope, Sent, get, opened, post
from support.scripted_wsgi_server import Call, adapted, ask
from support.waiting import Flag, LogWatch, bounded
from support.wsgi_apps import simple


class TestResponseServer:
    """ASGI HTTP, Response Start; Response Body."""

    def test_headers_are_optional(self) -> None:
        """`headers` defaults to none."""
        call = serve_on_wsgi(sending(START, {"type": "http.response.body", "body": b"x"}))

        assert (200, b"x") == (call.code, call.body)

    @pytest.mark.parametrize(
        "headers", [((b"x-a", b"1"),), iter([(b"x-a", b"1")]), [[b"x-a", b"1"]], {b"x-a": b"1"}.items()]
    )
    def test_headers_are_any_iterable_of_pairs(self, headers: Any) -> None:
        """Tuples, lists, iterators: an iterable of two-item iterables."""
        assert ["1"] == serve_on_wsgi(sending({**START, "headers": headers}, END)).header("x-a")

    def test_header_names_may_have_capitals(self) -> None:
        """Applications must send lower case; those that do not are served all the same."""
        headers = [(b"X-Mixed", b"1"), (b"Content-Length", b"1")]

        assert ["1"] == serve_on_wsgi(sending({**START, "headers": headers}, {**END, "body": b"x"})).header("x-mixed")

    def test_body_and_more_body_are_optional(self) -> None:
        """They default to nothing and to the end."""
        call = serve_on_wsgi(sending(START, END))

        assert (b"", True) == (call.body, call.complete)

    def test_bodies_are_concatenated_in_order(self) -> None:
        """Many events make one body."""
        numbers = [b"%d," % number for number in range(500)]

        assert b"".join(numbers) == serve_on_wsgi(sending(START, *map(part, numbers), END)).body

    def test_several_tasks_may_send(self) -> None:
        """Nothing is lost or doubled when tasks of the application send at once, more than is taken at a time."""
        chunks = [b"%d" % number * 50_000 for number in range(10)]

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await asyncio.gather(*(send(part(chunk)) for chunk in chunks))
            await send(END)

        assert sorted(b"".join(chunks)) == sorted(serve_on_wsgi(app).body)

    def test_a_transfer_encoding_is_ignored(self) -> None:
        """An application may send it, a server must not heed it."""
        call = serve_on_wsgi(sending({**START, "headers": [(b"transfer-encoding", b"chunked")]}, {**END, "body": b"x"}))

        assert ([], b"x") == (call.header("transfer-encoding"), call.body)

    def test_the_start_waits_for_a_body(self) -> None:
        """Until the first body event an error still becomes an error response."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            raise AppError

        assert 0 == serve_on_wsgi(app, fails=True).starts

    def test_a_chunk_is_on_its_way_when_send_returns(self) -> None:
        """What was sent reaches the server without a further call of the application."""
        gate = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await send(part(b"one"))
            await gate.waited()
            await send(END)

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                assert b"one" == call.next()
                gate.set()
                assert call.next() is None
                call.close()

            bounded(story)

    def test_an_empty_first_body_event_sends_the_headers(self) -> None:
        """A stream whose first event is empty starts at once: its headers do not wait for its first byte."""
        gate = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await send(part(b""))
            await gate.waited()
            await send({**END, "body": b"x"})

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                assert 1 == call.starts
                gate.set()
                assert b"x" == call.next()
                call.close()

            bounded(story)

    def test_send_waits_for_a_slow_client(self) -> None:
        """While the server takes nothing, a bounded number of bytes is in flight."""
        sent_all = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            for _ in range(64):
                await send(part(bytes(2**20)))
            sent_all.set()
            await send(END)

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                call.next()
                assert not sent_all.comes()
                while call.next():
                    pass
                call.close()

            bounded(story)

        assert 64 * 2**20 == len(call.body)

    @pytest.mark.parametrize(
        "event",
        [START, part(b"more"), END, {"type": "http.response.trailers", "headers": []}, {"type": "http.nonsense"}],
        ids=repr,
    )
    def test_events_after_the_end_are_ignored(self, event: Event) -> None:
        """Further messages are neither an error nor part of the response, and nobody waits for them."""
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await reply(send, b"whole")
            await send(event)
            await send(event)
            done.set()

        with adapted(app) as adapter:
            call = ask(adapter)
            done.wait()

        assert (b"whole", 1) == (call.body, call.starts)

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_a_response_that_has_no_body_carries_none(self, method: str, status: int) -> None:
        """The application may send one, which goes nowhere. Only HEAD keeps the length, which a server could miss."""
        call = serve_on_wsgi(
            sending(
                {**START, "status": status, "headers": [(b"content-length", b"9")]},
                part(b"some"),
                {**END, "body": b"thing"},
            ),
            wsgi_environ(method),
        )

        assert (status, b"", True) == (call.code, call.body, call.complete)
        assert (["9"] if method == "HEAD" else []) == call.header("content-length")

    def test_more_than_content_length_is_cut(self, log: LogWatch) -> None:
        """The surplus stays out and is logged."""
        call = serve_on_wsgi(
            sending({**START, "headers": [(b"content-length", b"3")]}, part(b"ab"), part(b"cd"), {**END, "body": b"ef"})
        )

        assert b"abc" == call.body
        log.wait_for("Content-Length", level=30)

    @pytest.mark.parametrize("parts", [0, 1])
    def test_less_than_content_length_is_an_error(self, parts: int, log: LogWatch) -> None:
        """A response that ends early is not passed off as a whole one."""
        call = serve_on_wsgi(
            sending({**START, "headers": [(b"content-length", b"10")]}, *[part(b"ab")] * parts, {**END, "body": b"cd"}),
            fails=True,
        )

        assert not call.complete
        assert parts == call.starts
        log.wait_for("Content-Length", level=40)


class TestDisconnectServer:
    """ASGI HTTP, Disconnect; Disconnected Client."""

    def test_receive_after_the_response_says_disconnect(self) -> None:
        """After the last body event `receive` answers at once, as often as it is asked."""
        events: list[Event] = []
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await receive()
            await reply(send)
            events.extend([await receive(), await receive()])
            done.set()

        with adapted(app) as adapter:
            ask(adapter)
            done.wait()

        assert [{"type": "http.disconnect"}] * 2 == events

    def test_receive_that_waits_hears_of_the_end(self) -> None:
        """A task that watches for the disconnect ends with the response."""
        events: list[Event] = []
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await receive()
            watch = asyncio.ensure_future(receive())
            await reply(send, b"x")
            events.append(await watch)
            done.set()

        with adapted(app) as adapter:
            assert b"x" == ask(adapter).body
            done.wait()

        assert [{"type": "http.disconnect"}] == events

    def test_receive_waits_while_the_client_is_there(self) -> None:
        """After the body, and before the response, `receive` has nothing to say."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await receive()
            watch = asyncio.ensure_future(receive())
            await asyncio.wait([watch], timeout=0.1)
            await reply(send, b"waiting" if not watch.done() else repr(watch.result()).encode())

        assert b"waiting" == serve_on_wsgi(app).body

    def test_closing_early_reaches_a_waiting_receive(self) -> None:
        """`close()` of the server before the end is the disconnect."""
        events: list[Event] = []
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await receive()
            await send(START)
            await send(part(b"first"))
            events.append(await receive())
            done.set()

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                call.next()
                call.close()

            bounded(story)
            done.wait()

        assert [{"type": "http.disconnect"}] == events

    def test_send_to_a_client_that_left_raises_an_os_error(self) -> None:
        """Since version 2.4 `send` on a closed connection raises; the scope says that version."""
        raised: list[BaseException] = []
        versions: list[str] = []
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            versions.append(scope["asgi"]["spec_version"])
            await send(START)
            try:
                while True:
                    await send(part(bytes(1000)))
            except OSError as error:
                raised.append(error)
                raise
            finally:
                done.set()

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                call.next()
                call.close()

            bounded(story)
            done.wait()

        assert 1 == len(raised)
        assert ["2.4"] <= versions

    def test_that_error_is_no_error_in_the_log(self, log: LogWatch) -> None:
        """An application that lets the `OSError` out has done nothing wrong."""
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            try:
                await send(START)
                while True:
                    await send(part(bytes(1000)))
            finally:
                done.set()

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                call.next()
                call.close()

            bounded(story)
            done.wait()

        assert [] == log.at(40)

    def test_an_application_that_does_not_listen_is_cancelled(self) -> None:
        """One that neither receives nor sends gets a grace and is cancelled; its cleanup is awaited on the loop."""
        cleaned: list[str] = []
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await send(part(b"first"))
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append((asyncio.current_task() is not None and "awaited") or "")
                done.set()

        with adapted(app, disconnect_grace=0.05) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                call.next()
                call.close()

            bounded(story)
            done.wait()

        assert ["awaited"] == cleaned


class TestResponseApplication:
    """ASGI HTTP, Response Start; Response Body."""

    def test_one_start_then_bodies_then_the_end(self) -> None:
        """The order and the types of the events; the scripted server notes every fault."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("201 Created", [("X-Mixed", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b")])
            yield b"a"
            yield b""
            yield b"b"

        exchange = serve_on_asgi(app)

        assert (201, b"ab", True) == (exchange.status, exchange.body, exchange.complete)
        assert [(b"x-mixed", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b")] == exchange.headers

    def test_the_reason_is_dropped(self) -> None:
        """`status` is the integer."""
        assert 404 == serve_on_asgi(simple(b"x", status="404 No Such Thing")).status

    def test_the_start_always_has_headers(self) -> None:
        """The key is optional in the specification and missed by some servers."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"x"

        assert [] == serve_on_asgi(app).sent[0]["headers"]

    def test_nothing_is_sent_after_the_end(self) -> None:
        """An application that kept `write` cannot add to a response that is over."""
        kept: list[Any] = []
        request = get()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            kept.append(start_response("200 OK", []))
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *request) as exchange:
                pass
            with contextlib.suppress(ApplicationProtocolError, OSError):
                await asyncio.to_thread(kept[0], b"too late")
            async with opened(adapter, *get()):
                pass
            return exchange

        assert b"x" == play(app, story).body

    def test_send_is_called_from_the_task_of_the_request(self) -> None:
        """All events, streamed ones too, come from the task that the server called us in, one at a time."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for _ in range(50):
                yield b"x"

        async def slow(event: Event) -> None:
            await asyncio.sleep(0)

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *get(), slow) as exchange:
                pass
            return exchange

        assert b"x" * 50 == play(app, story).body  # the scripted server compares the tasks


class TestDisconnectApplication:
    """ASGI HTTP, Disconnect; Disconnected Client."""

    def test_a_disconnect_stops_a_stream(self) -> None:
        """An endless response ends when `receive()` says so, though `send()` never fails; it is not called again."""
        closed = Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            try:
                while True:
                    yield b"tick"
            finally:
                closed.set()

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.leave()
                await closed.waited()
            return exchange

        assert not play(app, story, threads=1).complete

    def test_the_application_can_ask(self) -> None:
        """`bridge.client_disconnected` turns true while the application still computes."""
        asked, left = Flag(), Flag()
        answers: list[bool] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            answers.append(environ["bridge.client_disconnected"]())
            asked.set()
            left.wait()
            for _ in range(500):
                if environ["bridge.client_disconnected"]():
                    answers.append(True)
                    break
                threading.Event().wait(0.01)
            start_response("200 OK", [])
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, *get()) as exchange:
                await asked.waited()
                exchange.leave()
                left.set()

        play(app, story)

        assert [False, True] == answers

    @pytest.mark.parametrize("event", ["http.response.start", "http.response.body"])
    def test_send_that_raises_stops_the_application(self, event: str) -> None:
        """An `OSError` of `send()` is a client that left: the iterable is closed, and no event follows."""
        closed = Flag()
        after: list[str] = []

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            try:
                while True:
                    yield b"tick"
            finally:
                closed.set()

        async def story(adapter: WsgiToAsgi) -> Request:
            async def broken(sent: Event) -> None:
                after.append(sent["type"])
                if sent["type"] == event:
                    raise ConnectionResetError("client gone")

            exchange = Request(adapter, *get(), broken)
            await exchange.run()
            await closed.waited()
            return exchange

        exchange = play(app, story, threads=1)

        assert [] == exchange.broken
        assert exchange.error is None or isinstance(exchange.error, OSError)
        assert event == after[-1]

    def test_a_request_whose_client_left_before_is_not_run(self) -> None:
        """A client that leaves while its body is collected costs no call of the application."""
        calls: list[str] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            calls.append("called")
            start_response("200 OK", [])
            return [environ["wsgi.input"].read()]

        request = post(b"abcd", length=None, ends=False)

        async def story(adapter: WsgiToAsgi) -> Request:
            exchange = Request(adapter, *Sent(request.scope, [*request.events, {"type": "http.disconnect"}]))
            await exchange.run()
            return exchange

        exchange = play(app, story)

        assert [] == calls
        assert ([], []) == (exchange.broken, [event for event in exchange.sent if event.get("status") == 200])

    def test_a_cancelled_request_stops_the_application(self) -> None:
        """Cancellation is one more way for a client to leave: it gets through, and the iterable is closed."""
        closed = Flag()
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            try:
                while True:
                    yield b"tick"
            finally:
                threads.append(threading.get_ident())
                closed.set()

        async def story(adapter: WsgiToAsgi) -> None:
            exchange = Request(adapter, *get())
            task = asyncio.create_task(exchange.run())
            await exchange.until(lambda: exchange.body)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await closed.waited()
            assert exchange.broken == []

        play(app, story, threads=1)

        assert 1 == len(set(threads))

    def test_a_client_that_leaves_is_no_error_in_the_log(self, log: LogWatch) -> None:
        """It is everyday life, not a failure of the application."""
        closed = Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            try:
                while True:
                    yield b"tick"
            finally:
                closed.set()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, *get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.leave()
                await closed.waited()

        play(app, story)

        assert [] == log.at(30)
