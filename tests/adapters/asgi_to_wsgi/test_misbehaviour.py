"""Apps that break the contract, fail, or do what would end the loop."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from bridge.errors import ApplicationProtocolError
from support.asgi_apps import Recorder, chunk, end, hello, reply, returns_nothing, start
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import Flag, LogWatch

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


async def returns_after_start(scope: Any, receive: Any, send: Any) -> None:
    await start(send)


async def sends_body_first(scope: Any, receive: Any, send: Any) -> None:
    await chunk(send, b"body")


async def sends_two_starts(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await start(send)


async def sends_text(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await send({"type": "http.response.body", "body": "text"})


async def sends_an_unknown_event(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.trailers", "headers": []})


async def sends_text_for_a_status(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": "200 OK"})


async def sends_a_header_that_is_two(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 200, [(b"x-a", b"1\r\nset-cookie: b=2")])
    await end(send)


async def is_too_short_at_once(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 200, [(b"content-length", b"10")])
    await chunk(send, b"short", more=False)


PROTOCOL_FAULTS = [
    (returns_nothing, "returned"),
    (returns_after_start, "returned"),
    (sends_body_first, "sent 'http.response.body'"),
    (sends_two_starts, "sent 'http.response.start'"),
    (sends_text, "body of str"),
    (sends_an_unknown_event, "http.response.trailers"),
    (sends_text_for_a_status, "200 OK"),
    (sends_a_header_that_is_two, "control characters"),
    (is_too_short_at_once, "after 5 of 10 bytes"),
]


class Impolite(BaseException):
    """Not an `Exception`."""


class TestMisbehaviour:
    """Each ends at once, is logged, and harms no other request."""

    @pytest.mark.parametrize(("sinner", "what"), PROTOCOL_FAULTS, ids=lambda value: getattr(value, "__name__", ""))
    def test_a_broken_protocol_before_the_body_is_raised_and_logged(
        self, sinner: Callable[..., Any], what: str, log: LogWatch
    ) -> None:
        """The server answers 500; middleware around us sees the exception."""
        with adapted(sinner) as adapter, Served(adapter, environ_for("GET", "/sin")) as served:
            with pytest.raises(ApplicationProtocolError) as raised:
                served.call()

            assert not served.started.is_set()
            assert 1 == adapter.stats().aborted
        assert what in str(raised.value)
        assert 1 == len(log.having("ERROR", "GET", "'/sin'", "raised", what))

    @pytest.mark.parametrize("awaits", [False, True])
    def test_an_error_before_the_body_is_raised_with_the_apps_traceback(self, awaits: bool, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if awaits:
                await asyncio.sleep(0)
            raise LookupError("of the app")

        with adapted(app) as adapter, Served(adapter) as served:
            with pytest.raises(LookupError, match="of the app") as raised:
                served.call()

            assert not served.started.is_set()
        assert "app" == traceback.extract_tb(raised.value.__traceback__)[-1].name
        assert log.having("ERROR", "raised", "Traceback", "LookupError: of the app")

    def test_an_error_right_after_the_start_is_still_a_500(self) -> None:
        """The head has not left, so that the server can answer."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            raise LookupError("of the app")

        with adapted(app) as adapter, Served(adapter) as served:
            with pytest.raises(LookupError):
                served.call()
            assert not served.started.is_set()

    def test_an_error_within_the_body_is_raised_from_the_iterator(self, log: LogWatch) -> None:
        """So that the server breaks the response off, instead of ending it as if it were whole."""
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"half")
            await go_on.waited()
            raise LookupError("of the app")

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"half" == served.call().next()
            go_on.set()
            with pytest.raises(LookupError, match="of the app"):
                served.next()
            served.close()
            assert 1 == adapter.stats().aborted
            assert 0 == adapter.stats().client_disconnects
        assert 1 == len(log.having("ERROR", "LookupError"))

    def test_chunks_before_an_error_are_handed_over_first(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await asyncio.sleep(0)
            await chunk(send, b"said")
            raise LookupError("and done")

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"said" == served.call().next()
            with pytest.raises(LookupError):
                served.next()
            served.close()

    @pytest.mark.parametrize("streams", [False, True])
    def test_half_a_response_is_an_error(self, streams: bool) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"half")
            if streams:
                await asyncio.sleep(0)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            with pytest.raises(ApplicationProtocolError, match="returned"):
                served.rest()
            served.close()

    @pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit, Impolite])
    @pytest.mark.parametrize("factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def test_what_is_no_exception_ends_the_request_and_nothing_else(
        self, kind: type[BaseException], factory: Any, log: LogWatch
    ) -> None:
        """The server gets an `Exception`: the others would end its thread or its process."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/sin":
                raise kind("of the app")
            await hello(scope, receive, send)

        with adapted(app, loop_factory=factory) as adapter:
            with Served(adapter, environ_for("GET", "/sin")) as served, pytest.raises(RuntimeError) as raised:
                served.call()
            assert b"hello" == ask(adapter).body

        assert isinstance(raised.value.__cause__, kind)
        assert log.having("ERROR", kind.__name__)

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    @pytest.mark.parametrize("factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def test_an_exit_in_a_task_of_the_app_does_not_stop_the_loop(
        self, kind: type[BaseException], factory: Any, log: LogWatch
    ) -> None:
        """asyncio lets these two out of its loop; the requests at work go on."""
        exited, loops = Flag(), []

        async def exits() -> None:
            raise kind("of a task")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            if scope["path"] == "/sin":
                with pytest.raises(kind):
                    await asyncio.create_task(exits())
                exited.set()
                await reply(send, b"sinned")
                return
            await start(send)
            await chunk(send, b"before")
            await exited.waited()
            await chunk(send, b"after", more=False)

        with adapted(app, loop_factory=factory) as adapter, Served(adapter) as other:
            assert b"before" == other.call().next()
            assert b"sinned" == ask(adapter, environ_for("GET", "/sin")).body
            assert b"after" == other.rest()
            other.close()
            assert b"before" == ask(adapter).chunks[0][:6]

        assert 1 == len(set(loops))
        assert log.having("ERROR", kind.__name__, "of a task")

    def test_an_app_that_stops_the_loop_does_not_stop_it(self, log: LogWatch) -> None:
        """As with an exit: the loop is not the application's."""
        stopped, loops = Flag(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            if scope["path"] == "/sin":
                loops[0].stop()
                stopped.set()
                await asyncio.sleep(0.001)
                await reply(send, b"sinned")
                return
            await start(send)
            await chunk(send, b"before")
            await stopped.waited()
            await chunk(send, b"after", more=False)

        with adapted(app) as adapter, Served(adapter) as other:
            assert b"before" == other.call().next()
            assert b"sinned" == ask(adapter, environ_for("GET", "/sin")).body
            assert b"after" == other.rest()
            other.close()

        assert 1 == len(set(loops))
        assert log.complaints()

    def test_a_sync_app_fails_its_requests(self, log: LogWatch) -> None:
        sync = lambda scope, receive, send: None  # noqa: E731
        with adapted(sync) as adapter, Served(adapter) as served, pytest.raises(TypeError, match="await"):
            served.call()

        assert log.having("ERROR", "TypeError")

    def test_what_exceeds_content_length_is_cut_and_logged(self, log: LogWatch) -> None:
        """RFC 9110 8.6: the surplus would be taken for the next response."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"5")])
            await chunk(send, b"hel")
            await chunk(send, b"lo, wor")
            await chunk(send, b"ld", more=False)

        with adapted(app) as adapter:
            assert b"hello" == ask(adapter).body
            assert 1 == adapter.stats().served

        assert 1 == len(log.having("ERROR", "more than its Content-Length"))

    def test_a_stream_that_is_too_short_is_broken_off(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"10")])
            await chunk(send, b"short")
            await asyncio.sleep(0)
            await end(send)

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"short" == served.call().next()
            with pytest.raises(ApplicationProtocolError, match="5 of 10 bytes"):
                served.next()
            served.close()

        assert log.having("ERROR", "5 of 10 bytes")

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "http.response.start", "status": 500, "headers": []},
            {"type": "http.response.body", "body": b"again"},
            {"type": "http.response.body", "body": b"again", "more_body": True},
        ],
    )
    def test_events_after_the_end_are_ignored(self, event: Any) -> None:
        """ASGI HTTP, "Response Body"."""
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"all")
            for _ in range(100):
                await send(event)
            over.set()

        with adapted(app) as adapter:
            served = ask(adapter)
            over.wait()
            assert 1 == adapter.stats().served

        assert ("200 OK", b"all") == (served.status, served.body)

    def test_an_error_after_the_end_is_logged_and_harms_nobody(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"all")
            raise LookupError("too late")

        with adapted(app) as adapter:
            assert b"all" == ask(adapter).body
            log.wait_for("ERROR", "after its response was complete", "LookupError: too late")
            assert (1, 0) == (adapter.stats().served, adapter.stats().aborted)

    def test_an_error_of_the_servers_start_response_reaches_the_app_as_a_disconnect(self) -> None:
        """The server has failed; the app must not wait for it."""
        app = Recorder()

        async def streams(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"x")
            await app(scope, receive, send)

        def fail() -> None:
            raise AssertionError("the server does not like these headers")

        with adapted(streams) as adapter, Served(adapter) as served:
            served.on_start = fail
            with pytest.raises(AssertionError, match="does not like"):
                served.call()
            app.over.wait()

        assert ["http.disconnect"] * 2 == app.kinds
