"""PEP 3333, The start_response() Callable, Content-Length, Buffering and Streaming; see `test_pep3333_overview.py`."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import WsgiToAsgi
from bridge.errors import ApplicationProtocolError, ClientDisconnected
from spec.harness import Environ, Event, Exchange, fetch, get, opened, play, serve, wsgi_environ
from support.asgi_apps import asgi
from support.failures import AppError
from support.waiting import Flag, LogWatch
from support.wsgi_apps import Chunks, simple


class TestStartResponseServer:
    """PEP 3333, The start_response() Callable."""

    def test_it_returns_a_write_callable(self) -> None:
        """The return value takes a bytestring."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"written")
            return []

        assert b"written" == serve(app).body

    @pytest.mark.parametrize(("status", "code"), [("200 OK", 200), ("404 Not Found", 404), ("299 Made up", 299)])
    def test_the_status_is_the_code_of_the_string(self, status: str, code: int) -> None:
        """The three digits count, the reason is free."""
        assert code == serve(simple(b"x", status=status)).status

    def test_a_status_without_a_reason_is_taken(self) -> None:
        """The PEP wants a reason; HTTP has done without since HTTP/2, so a bare code is not refused."""
        assert 204 == serve(simple(status="204")).status

    @pytest.mark.parametrize(
        "status",
        ["", "OK", "20 OK", "2000 OK", "abc OK", 200, b"200 OK", None, "200 O\nK", "200 OK\r\n", "200 \x00", " 200 OK"],
    )
    def test_a_bad_status_is_refused_in_the_call(self, status: Any) -> None:
        """What is no string of three digits and a reason, or has control characters, raises in the application."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                start_response(status, [])
            except Exception as error:
                raised.append(error)
                raise
            return [b"x"]

        exchange = serve(app, fails=True)

        assert [ApplicationProtocolError] == [type(error) for error in raised]
        assert not exchange.started

    @pytest.mark.parametrize(
        "headers",
        [
            None,
            {"X-A": "1"},
            [("X-A",)],
            [("X-A", "1", "2")],
            ["X-A: 1"],
            [(b"X-A", b"1")],
            [("X-A", 1)],
            [(1, "X")],
            [("", "x")],
            [("X A", "x")],
            [("X-A:", "x")],
            [("X\r\nSet-Cookie", "x")],
            [("X-A", "x\r\nSet-Cookie: y")],
            [("X-A", "x\n")],
            [("X-A", "x\r")],
            [("X-A", "x\0")],
            [("X-A", "x\x0b")],
            [("X-A", "x\x7f")],
        ],
    )
    def test_a_bad_header_is_refused_in_the_call(self, headers: Any) -> None:
        """A list of pairs of strings, names that are names, values without control characters; else it raises there."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                start_response("200 OK", headers)
            except Exception as error:
                raised.append(error)
                raise
            return [b"x"]

        exchange = serve(app, fails=True)

        assert [ApplicationProtocolError] == [type(error) for error in raised]
        assert not exchange.started

    @pytest.mark.parametrize(
        "name",
        [
            "Connection",
            "keep-alive",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
        ],
    )
    def test_a_hop_by_hop_header_does_not_get_out(self, name: str) -> None:
        """These are the server's alone, and are left out: views hand on those of another server."""
        exchange = serve(simple(b"x", headers=[(name, "x"), ("X-A", "b")]))

        assert [(b"x-a", b"b"), (b"content-length", b"1")] == exchange.headers
        assert b"x" == exchange.body

    def test_headers_keep_order_and_repeats(self) -> None:
        """What the application supplies arrives in its order, repeats included."""
        headers = [("Set-Cookie", "a=1"), ("X-B", "2"), ("Set-Cookie", "c=3"), ("Date", "then"), ("Server", "mine")]
        exchange = serve(simple(b"x", headers=headers))
        names = {b"set-cookie", b"x-b", b"date", b"server"}

        assert [(name.lower().encode(), value.encode()) for name, value in headers] == [
            pair for pair in exchange.headers if pair[0] in names
        ]

    def test_the_list_may_be_used_again(self) -> None:
        """A list that the application keeps for all its responses does not grow."""
        shared = [("X-A", "1")]

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", shared)
            return [b"x"]

        assert serve(app).headers == serve(app).headers

    def test_an_empty_chunk_does_not_send_the_headers(self) -> None:
        """Until there is a byte of body the application may change its mind: `exc_info` replaces the headers."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("X-Old", "1")])
            yield b""
            yield b""
            try:
                raise AppError
            except AppError:
                start_response("500 Oops", [("X-New", "1")], sys.exc_info())
            yield b"sorry"

        exchange = serve(app)

        assert (500, b"sorry") == (exchange.status, exchange.body)
        assert ([], [b"1"]) == (exchange.header(b"x-old"), exchange.header(b"x-new"))

    def test_the_headers_leave_with_the_first_bytes(self) -> None:
        """The first chunk that is not empty takes the headers along, while the application goes on."""
        gate = Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b""
            yield b"x"
            gate.wait()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body == b"x")
                gate.set()

        play(app, story)

    def test_the_headers_leave_at_the_end_of_an_empty_body(self) -> None:
        """An exhausted iterable sends what `start_response` stored."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("404 Not Found", [])
            yield b""

        exchange = serve(app)

        assert (404, True) == (exchange.status, exchange.complete)

    def test_exc_info_after_the_headers_raises_it_again(self, log: LogWatch) -> None:
        """Once the headers have left, the trapped exception comes back out of `start_response`, traceback and all."""
        came_back: list[BaseException] = []
        cause = AppError("late")

        def fail() -> None:
            raise cause

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"part"
            try:
                fail()
            except AppError:
                try:
                    start_response("500 Oops", [], sys.exc_info())
                except AppError as error:
                    came_back.append(error)
                    raise
            yield b"an error page in the middle of a page"

        exchange = serve(app, fails=True)

        assert [cause] == came_back
        assert cause is exchange.error
        assert b"part" == exchange.body
        assert not exchange.complete
        assert "in fail" in log.wait_for("late", level=40)

    def test_a_second_call_without_exc_info_is_an_error(self) -> None:
        """Only an error handler may call again."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            start_response("201 Created", [])
            return [b"x"]

        exchange = serve(app, fails=True)

        assert isinstance(exchange.error, ApplicationProtocolError)
        assert not exchange.started

    def test_a_call_after_a_failed_one_needs_exc_info(self) -> None:
        """The first call counts as a call also where it raised; with `exc_info` the next one is heard."""
        errors: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            with pytest.raises(ApplicationProtocolError):
                start_response("200 OK", [("bad name", "x")])
            try:
                start_response("200 OK", [])
            except ApplicationProtocolError as error:
                errors.append(error)
                start_response("500 Oops", [], sys.exc_info())
            return [b"page"]

        exchange = serve(app)

        assert 1 == len(errors)
        assert (500, b"page") == (exchange.status, exchange.body)

    def test_no_reference_to_exc_info_is_kept(self) -> None:
        """The exception is gone when the application has dropped it, without the garbage collector's help."""
        alive: list[bool] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                raise AppError("short-lived")
            except AppError as error:
                watch = weakref.ref(error)
                start_response("500 Oops", [], sys.exc_info())
            alive.append(watch() is not None)
            return [b"x"]

        gc.disable()
        try:
            serve(app)
        finally:
            gc.enable()

        assert [False] == alive

    def test_none_for_exc_info_is_none_given(self) -> None:
        """`exc_info=None` is the default, so it is no error handler's call."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [], None)
            return [b"x"]

        assert 200 == serve(app).status


class TestContentLengthServer:
    """PEP 3333, Handling the Content-Length Header."""

    @pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH"])
    def test_no_more_than_it_says_is_sent(self, name: str, log: LogWatch) -> None:
        """The surplus is cut and logged, and the application is asked for no more; header names have no case."""
        chunks = Chunks([b"abc", b"def", b"ghi", b"jkl"])

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [(name, "5")])
            return chunks

        exchange = serve(app)

        assert b"abcde" == exchange.body
        assert exchange.complete
        assert (2, 1) == (chunks.pulled, len(chunks.closings))
        log.wait_for("Content-Length", level=30)

    def test_a_list_that_is_too_long_is_cut(self, log: LogWatch) -> None:
        """The same for a body that is there as a whole."""
        exchange = serve(simple(b"abcdef", headers=[("Content-Length", "3")]))

        assert (b"abc", True) == (exchange.body, exchange.complete)
        log.wait_for("Content-Length", level=30)

    def test_iteration_stops_when_enough_was_sent(self) -> None:
        """What follows the last byte is not asked for."""
        chunks = Chunks([b"abc", b"def", AppError("never reached")])

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [("Content-Length", "6")])
            return chunks

        exchange = serve(app)

        assert (b"abcdef", True, 2) == (exchange.body, exchange.complete, chunks.pulled)

    def test_writing_past_it_is_an_error(self) -> None:
        """`write()` past the Content-Length raises in the application, and no surplus byte is sent."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [("Content-Length", "4")])
            write(b"abcd")
            try:
                write(b"ef")
            except Exception as error:
                raised.append(error)
            return []

        exchange = serve(app)

        assert b"abcd" == exchange.body
        assert [ApplicationProtocolError] == [type(error) for error in raised]

    def test_too_little_aborts_the_connection(self, log: LogWatch) -> None:
        """A stream that ends before its Content-Length is not ended as if it were whole; the server hears why."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Length", "10")])
            yield b"abc"

        exchange = serve(app, fails=True)

        assert (b"abc", False) == (exchange.body, exchange.complete)
        assert isinstance(exchange.error, ApplicationProtocolError)
        log.wait_for("Content-Length", level=40)

    def test_too_little_at_once_is_not_sent_at_all(self, log: LogWatch) -> None:
        """A list that is too short is an error before its headers leave, so the server can say so."""
        exchange = serve(simple(b"abc", headers=[("Content-Length", "10")]), fails=True)

        assert not exchange.started
        log.wait_for("Content-Length", level=40)

    @pytest.mark.parametrize("value", ["abc", "-1", "1.5", "", "1, 2", "+5", "0x10", "\u0663"])
    def test_a_length_that_is_no_number_is_refused(self, value: str) -> None:
        """It could be enforced by nobody, so `start_response` raises."""
        exchange = serve(simple(b"abc", headers=[("Content-Length", value)]), fails=True)

        assert not exchange.started

    def test_two_lengths_that_differ_are_refused(self) -> None:
        """Two different Content-Length headers describe no response."""
        exchange = serve(simple(b"abc", headers=[("Content-Length", "3"), ("content-length", "4")]), fails=True)

        assert not exchange.started

    def test_zero_is_a_length(self) -> None:
        """A Content-Length of zero is sent as it is, with no body."""
        exchange = serve(simple(headers=[("Content-Length", "0")]))

        assert ([b"0"], b"", True) == (exchange.header(b"content-length"), exchange.body, exchange.complete)

    def test_a_stream_without_it_gets_none(self) -> None:
        """Where the length is not known, the framing is the ASGI server's."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"a"
            yield b"b"

        exchange = serve(app)

        assert [] == exchange.header(b"content-length") + exchange.header(b"transfer-encoding")
        assert exchange.complete


class TestStreamingServer:
    """PEP 3333, Buffering and Streaming; The write() Callable."""

    def test_no_block_is_delayed(self) -> None:
        """Each block is at the server while the application produces the next, for many blocks in a row."""
        sent = [Flag() for _ in range(5)]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for flag in sent:
                yield b"block"
                flag.wait()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, get()) as exchange:
                for count, flag in enumerate(sent, 1):
                    await exchange.until(lambda count=count: exchange.body == b"block" * count)
                    flag.set()

        play(app, story)

    def test_what_is_written_is_sent_while_the_application_runs(self) -> None:
        """`write()` takes the headers along and does not wait for the application's return."""
        gate = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"written ")
            gate.wait()
            return [b"yielded"]

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body == b"written ")
                gate.set()
            return exchange

        assert b"written yielded" == play(app, story).body

    def test_what_is_yielded_follows_what_was_written(self) -> None:
        """Bytestrings of the iterable come after all that `write()` was given, in order."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            for chunk in (b"1", b"2", b"3"):
                write(chunk)
            return [b"4", b"5"]

        assert b"12345" == serve(app).body

    def test_an_iterable_is_needed_also_after_write(self) -> None:
        """An application that has written must still return an iterable; one that does not is aborted."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])(b"written")

        exchange = serve(app, fails=True)

        assert not exchange.complete

    @pytest.mark.parametrize("data", ["text", 5, None])
    def test_write_takes_bytes_alone(self, data: Any) -> None:
        """Anything else raises in the application."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            try:
                write(data)
            except Exception as error:
                raised.append(error)
            return [b"x"]

        exchange = serve(app)

        assert 1 == len(raised)
        assert b"x" == exchange.body

    def test_writing_nothing_sends_nothing(self) -> None:
        """`write(b"")` brings no body data, so the headers stay replaceable."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"")
            try:
                raise AppError
            except AppError:
                start_response("500 Oops", [], sys.exc_info())
            return [b"x"]

        assert 500 == serve(app).status

    def test_exc_info_after_write_raises_it_again(self) -> None:
        """`write()` has sent the headers, so an error page comes too late."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"part")
            try:
                raise AppError("late")
            except AppError:
                start_response("500 Oops", [], sys.exc_info())
            return [b"x"]

        exchange = serve(app, fails=True)

        assert isinstance(exchange.error, AppError)
        assert (b"part", False) == (exchange.body, exchange.complete)

    def test_writing_waits_for_a_slow_client(self) -> None:
        """An application that only writes is held back as one that yields."""
        written_all, blocked = Flag(), Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            for _ in range(64):
                write(bytes(2**20))
            written_all.set()
            return []

        async def story(adapter: WsgiToAsgi) -> None:
            opening = asyncio.Event()

            async def slow(event: Event) -> None:
                blocked.set()
                await opening.wait()

            async with opened(adapter, get(), slow):
                await blocked.waited()
                assert not await asyncio.to_thread(written_all.comes)
                opening.set()

        play(app, story)

    def test_writing_to_a_client_that_left_raises(self) -> None:
        """An application that only writes hears of the disconnect, and ends."""
        ended = Flag()
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            try:
                while True:
                    write(b"tick" * 1000)
            except OSError as error:
                raised.append(error)
                raise
            finally:
                ended.set()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await ended.waited()

        play(app, story)

        assert [ClientDisconnected] == [type(error) for error in raised]


class TestStartResponseApplication:
    """PEP 3333, The start_response() Callable."""

    @pytest.mark.parametrize("code", [200, 201, 299, 404, 418, 500, 599])
    def test_the_status_has_code_and_reason(self, code: int) -> None:
        """Also a code without a registered reason gives a string of the form `999 Message here`."""
        assert code == fetch(asgi(b"x", status=code)).code  # the scripted server checks the form

    def test_headers_are_a_list_of_pairs_of_native_strings(self) -> None:
        """Bytes become one code point each, order and repeats stay."""
        headers = [(b"set-cookie", b"a=1"), (b"x-name", b"J\xf6rg"), (b"set-cookie", b"b=2")]
        call = fetch(asgi(b"x", headers=headers))

        assert [("set-cookie", "a=1"), ("x-name", "J\xf6rg"), ("set-cookie", "b=2")] == [
            (name.lower(), value) for name, value in call.headers
        ]

    @pytest.mark.parametrize(
        "pair",
        [
            (b"x-a", b"x\r\nset-cookie: y"),
            (b"x-a", b"x\n"),
            (b"x-a", b"x\0"),
            (b"x\r\ny", b"x"),
            (b"bad name", b"x"),
            (b"", b"x"),
            (b":status", b"200"),
        ],
    )
    def test_a_header_that_breaks_the_head_does_not_get_out(self, pair: tuple[bytes, bytes], log: LogWatch) -> None:
        """What no server may send is an error of the ASGI app, and never reaches `start_response`."""
        call = fetch(asgi(b"x", headers=[pair]), fails=True)

        assert 0 == call.starts
        log.wait_for("header", level=40)

    @pytest.mark.parametrize(
        "name", [b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"]
    )
    def test_no_hop_by_hop_header_gets_out(self, name: bytes) -> None:
        """They are common in ASGI apps and forbidden here: they are left out, and the response is served."""
        call = fetch(asgi(b"x", headers=[(name, b"close"), (b"x-a", b"1")]))

        assert ["1"] == call.header("x-a")
        assert [] == call.header(name.decode())

    def test_content_length_passes(self) -> None:
        """The app's Content-Length reaches the server."""
        assert ["2"] == fetch(asgi(b"x", b"y", headers=[(b"content-length", b"2")])).header("content-length")

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_a_response_that_has_no_body_carries_none(self, method: str, status: int) -> None:
        """Responses to HEAD, 204 and 304 yield nothing."""
        call = fetch(asgi(b"body", status=status, headers=[(b"etag", b'"1"')]), wsgi_environ(method))

        assert (status, b"") == (call.code, call.body)
        assert ['"1"'] == call.header("etag")

    def test_write_is_not_used(self) -> None:
        """New applications should do without it, and so does the adapter."""
        assert b"abc" == fetch(asgi(b"a", b"b", b"c")).body  # the scripted server's write() raises
