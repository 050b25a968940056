"""The lifespan of the application, which a WSGI server does not know of: `AsgiToWsgi` runs it (ASGI Lifespan)."""

import asyncio
import contextvars
import threading
import traceback
from typing import Any

import pytest
import uvloop

from bridge import AsgiToWsgi
from bridge.errors import ApplicationProtocolError, LifespanFailed
from support.asgi_apps import Lifespan, chunk, hello, reply
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import FOREVER, Flag, LogWatch, OneThread, Work, bounded

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")
user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


def app_with(lifespan: Any, http: Any = hello) -> Any:
    """An app that answers its lifespan as `lifespan` does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (lifespan if scope["type"] == "lifespan" else http)(scope, receive, send)

    return app


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def raises_at_startup(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "http.request"


async def returns(scope: Any, receive: Any, send: Any) -> None:
    pass


async def returns_at_startup(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def answers_http(scope: Any, receive: Any, send: Any) -> None:
    await reply(send)


async def answers_http_and_goes_on(scope: Any, receive: Any, send: Any) -> None:
    for kind in ("http.response.start", "http.response.body"):
        with pytest.raises(ApplicationProtocolError, match=kind):
            await send({"type": kind, "status": 404, "headers": []})


async def exits(scope: Any, receive: Any, send: Any) -> None:
    raise SystemExit("of the startup")


UNSUPPORTING = [raises_at_once, raises_at_startup, returns, returns_at_startup, answers_http, answers_http_and_goes_on]


class TestSupport:
    """`lifespan="auto"`, `"on"` and `"off"`."""

    @pytest.mark.parametrize("lifespan", [*UNSUPPORTING, exits])
    def test_auto_goes_on_where_the_app_does_not_support_it(self, lifespan: Any, log: LogWatch) -> None:
        """ASGI Lifespan, "Scope": the server must continue."""
        adapter = AsgiToWsgi(app_with(lifespan), lifespan="auto")
        assert [b"hello"] * 2 == [ask(adapter).body for _ in range(2)]
        bounded(adapter.close)

        assert [] == log.complaints()

    @pytest.mark.parametrize("lifespan", [*UNSUPPORTING, exits])
    def test_on_is_a_failure_where_the_app_does_not_support_it(self, lifespan: Any) -> None:
        with adapted(app_with(lifespan), lifespan="on") as adapter:
            for _ in range(2):
                with Served(adapter) as served, pytest.raises(LifespanFailed, match="before its startup was complete"):
                    served.call()

    def test_the_failure_is_caused_by_what_the_app_raised(self) -> None:
        with adapted(app_with(raises_at_once), lifespan="on") as adapter, Served(adapter) as served:
            with pytest.raises(LifespanFailed) as raised:
                served.call()
            assert isinstance(raised.value.__cause__, ValueError)

    def test_one_that_answers_as_to_a_request_does_not_keep_the_first_one(self) -> None:
        """One of its tasks answers, another waits for a disconnect, and it waits for both; then it is cancelled."""
        cancelled = Flag()

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(ApplicationProtocolError):
                await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()

        with adapted(app_with(lifespan), lifespan="auto", startup_timeout=FOREVER) as adapter:
            assert b"hello" == ask(adapter).body
            cancelled.wait()

    def test_what_the_app_raises_after_it_has_failed_is_the_cause(self) -> None:
        """As Starlette has it: the message is a text, and this has the traceback."""

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "see below"})
            raise LookupError("no database")

        with adapted(app_with(lifespan), lifespan="auto") as adapter, pytest.raises(LifespanFailed) as raised:
            ask(adapter)
        assert isinstance(raised.value.__cause__, LookupError)

    def test_off_does_not_ask(self) -> None:
        with adapted(app_with(None), lifespan="off") as adapter:
            assert b"hello" == ask(adapter).body


class TestScope:
    """What the app is told."""

    def test_it_says_what_it_is(self) -> None:
        scopes: list[Any] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(dict(scope))
            assert {"type": "lifespan.startup"} == await receive()
            await send({"type": "lifespan.startup.complete"})
            assert {"type": "lifespan.shutdown"} == await receive()
            await send({"type": "lifespan.shutdown.complete"})

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            ask(adapter)

        assert [{"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}] == scopes

    def test_it_runs_on_the_loop_of_the_requests(self) -> None:
        loops: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append((threading.get_ident(), asyncio.get_running_loop()))
            await Lifespan()(scope, receive, send)

        with adapted(app, lifespan="on", loop_factory=uvloop.new_event_loop) as adapter:
            ask(adapter)
            ask(adapter)

        assert 3 == len(loops)
        assert 1 == len(set(loops))

    def test_it_sees_nothing_of_the_first_request(self) -> None:
        """What it starts lives on, and must not carry the name of the user who happened to be first."""
        seen: list[str] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            seen.append(user.get("nobody"))
            await Lifespan()(scope, receive, send)
            seen.append(user.get("nobody"))

        with adapted(app_with(lifespan), lifespan="on") as adapter, Served(adapter) as served:
            served.thread.run(lambda: user.set("alice"))
            served.run()

        assert ["nobody"] * 2 == seen

    def test_each_request_gets_a_copy_of_the_state(self) -> None:
        """ASGI Lifespan, "Lifespan State": a shallow one."""
        pool = object()
        states: list[Any] = []

        async def http(scope: Any, receive: Any, send: Any) -> None:
            states.append(dict(scope["state"]))
            scope["state"]["mine"] = True
            del scope["state"]["pool"]
            await reply(send)

        with adapted(Lifespan(http, {"pool": pool, "name": "x"}), lifespan="on") as adapter:
            for _ in range(2):
                ask(adapter)

        assert [{"pool": pool, "name": "x"}] * 2 == states


class TestStartup:
    """It is complete before the first request runs, or it has failed for each of them."""

    def test_requests_wait_for_it(self) -> None:
        events: list[str] = []
        starting, gate = Flag(), Flag()

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            starting.set()
            await gate.waited()
            events.append("startup")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        async def http(scope: Any, receive: Any, send: Any) -> None:
            events.append("request")
            await reply(send)

        with adapted(app_with(lifespan, http), lifespan="on") as adapter:
            served = [Served(adapter) for _ in range(5)]
            ended = [one.begin() for one in served]
            starting.wait()
            assert [] == events
            gate.set()
            for one in ended:
                one()
            for one in served:
                one.thread.end()

        assert ["startup"] + ["request"] * 5 == events

    def test_a_failure_is_an_error_of_each_request_that_names_it(self, log: LogWatch) -> None:
        startups = 0

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            nonlocal startups
            startups += 1
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database at the office"})

        errors: list[LifespanFailed] = []
        with adapted(app_with(lifespan), lifespan="auto") as adapter:
            for _ in range(3):
                with Served(adapter) as served:
                    with pytest.raises(LifespanFailed, match="startup failed: no database at the office") as raised:
                        served.call()
                    errors.append(raised.value)
                    assert not served.started.is_set()

        assert 1 == startups
        assert 3 == len(set(map(id, errors))), "one that several threads raise mixes up their tracebacks"
        lengths = [len(traceback.extract_tb(error.__traceback__)) for error in errors]
        assert lengths[0] == lengths[1] == lengths[2]

    def test_it_may_succeed_in_the_next_life(self) -> None:
        outcomes = ["failed", "complete"]

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            outcome = outcomes.pop(0)
            await send({"type": f"lifespan.startup.{outcome}"})
            if outcome == "complete":
                await receive()
                await send({"type": "lifespan.shutdown.complete"})

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            with Served(adapter) as served, pytest.raises(LifespanFailed, match="no message"):
                served.call()
            bounded(adapter.close)
            assert b"hello" == ask(adapter).body

    def test_one_that_never_ends_is_given_up(self, log: LogWatch) -> None:
        """Each request gets the error; the app's startup is cancelled, so that it can clean up."""
        cancelled = Flag()

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        with adapted(app_with(lifespan), lifespan="auto", startup_timeout=0.05) as adapter:
            for _ in range(2):
                with Served(adapter) as served, pytest.raises(LifespanFailed, match=r"0\.05 seconds"):
                    served.call()
            cancelled.wait()

        assert log.having("ERROR", "0.05 seconds")

    def test_requests_at_once_all_get_the_error(self) -> None:
        starting = Flag()

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            starting.set()
            await asyncio.Event().wait()

        with adapted(app_with(lifespan), lifespan="auto", startup_timeout=0.2) as adapter:
            served = [Served(adapter) for _ in range(4)]
            ended = [one.begin() for one in served]
            starting.wait()
            for one in ended:
                with pytest.raises(LifespanFailed, match=r"0\.2 seconds"):
                    one()
            for one in served:
                one.thread.end()

    def test_a_cancelled_one_is_a_failure(self) -> None:
        """It says nothing about support: something in the app has run out of time."""

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            raise asyncio.CancelledError

        adapter = AsgiToWsgi(app_with(lifespan))
        with adapter, Served(adapter) as served, pytest.raises(LifespanFailed):
            served.call()

    def test_asking_for_the_next_event_waits_for_the_shutdown(self) -> None:
        """Also before the startup has been answered."""
        received: list[str] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            received.append((await receive())["type"])
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            await send({"type": "lifespan.startup.complete"})
            received.append((await waiting)["type"])
            await send({"type": "lifespan.shutdown.complete"})

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            ask(adapter)
            assert ["lifespan.startup"] == received

        assert ["lifespan.startup", "lifespan.shutdown"] == received


class TestRunning:
    """Between startup and shutdown."""

    @pytest.mark.parametrize("error", [None, LookupError("of the lifespan"), SystemExit("of the lifespan")])
    def test_one_that_dies_is_logged_and_the_requests_go_on(self, error: BaseException | None, log: LogWatch) -> None:
        die = Flag()

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await die.waited()
            if error is not None:
                raise error

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            ask(adapter)
            die.set()
            line = log.wait_for("ERROR", "ended its lifespan before it was asked to shut down")
            assert error is None or "of the lifespan" in line
            assert b"hello" == ask(adapter).body

    @pytest.mark.parametrize(
        "event", ["lifespan.startup.complete", "lifespan.startup.failed", "lifespan.shutdown.complete", "http.request"]
    )
    def test_an_answer_out_of_order_is_an_error_in_the_app(self, event: str, log: LogWatch) -> None:
        errors: list[ApplicationProtocolError] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            with pytest.raises(ApplicationProtocolError) as raised:
                await send({"type": event})
            errors.append(raised.value)
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            assert b"hello" == ask(adapter).body
            assert b"hello" == ask(adapter).body

        assert event in str(errors[0])
        assert "ASGI Lifespan" == errors[0].clause
        assert log.having("ERROR", event)


class TestShutdown:
    """Asked for when the requests are over; its end is waited for, not for ever."""

    def test_closing_waits_for_it(self) -> None:
        shutting_down, go_on, closed = Flag(), Flag(), Flag()

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            shutting_down.set()
            await go_on.waited()
            await send({"type": "lifespan.shutdown.complete"})

        def close() -> None:
            adapter.close()
            closed.set()

        adapter = AsgiToWsgi(app_with(lifespan), shutdown_timeout=FOREVER)
        ask(adapter)
        closing = Work(close)
        shutting_down.wait()
        assert not closed.is_set()
        go_on.set()
        closing.result()

    def test_what_comes_after_its_answer_is_waited_for_too(self) -> None:
        """A context manager around the loop of events, say."""
        events: list[str] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await Lifespan()(scope, receive, send)
            await asyncio.sleep(0.01)
            events.append("left")

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            ask(adapter)

        assert ["left"] == events

    def test_it_comes_after_the_requests(self) -> None:
        at_work, go_on = Flag(), Flag()

        async def http(scope: Any, receive: Any, send: Any) -> None:
            await reply(send)
            at_work.set()
            await go_on.waited()
            app.events.append("request over")

        app = Lifespan(http)
        adapter = AsgiToWsgi(app, shutdown_timeout=FOREVER)
        ask(adapter)
        at_work.wait()
        closing = Work(adapter.close)
        go_on.set()
        closing.result()

        assert ["startup", "request over", "shutdown"] == app.events

    def test_one_that_fails_is_logged(self, log: LogWatch) -> None:
        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.failed", "message": "could not flush"})

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            ask(adapter)

        assert 1 == len(log.having("ERROR", "shutdown failed: could not flush"))

    @pytest.mark.parametrize("error", [LookupError("of the shutdown"), asyncio.CancelledError("of the shutdown")])
    def test_one_that_raises_is_logged(self, error: BaseException, log: LogWatch) -> None:
        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            raise error

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            ask(adapter)

        assert log.having("ERROR", "shutdown", "of the shutdown")

    def test_one_that_never_ends_is_cancelled_and_logged(self, log: LogWatch) -> None:
        cleaned = Flag()

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.set()

        adapter = AsgiToWsgi(app_with(lifespan), shutdown_timeout=0.05)
        ask(adapter)
        bounded(adapter.close)

        assert cleaned.is_set()
        assert log.having("ERROR", "shutdown has not been completed")

    def test_an_app_whose_startup_failed_is_not_asked(self) -> None:
        asked: list[str] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed"})
            asked.append((await receive())["type"])

        adapter = AsgiToWsgi(app_with(lifespan), shutdown_timeout=0.1)
        with Served(adapter) as served, pytest.raises(LifespanFailed):
            served.call()
        bounded(adapter.close)

        assert [] == asked

    def test_the_app_may_use_threads_and_tasks_in_it(self) -> None:
        from asgiref.sync import sync_to_async

        results: list[Any] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            results.append(await asyncio.to_thread(lambda: 1))
            results.append(await sync_to_async(lambda: 2)())
            results.append(await asyncio.create_task(asyncio.sleep(0, 3)))
            await send({"type": "lifespan.shutdown.complete"})

        with adapted(app_with(lifespan), lifespan="on") as adapter:
            ask(adapter)

        assert [1, 2, 3] == results


class TestThreadSensitiveWork:
    """asgiref's, called from the lifespan: there is no request whose thread could do it."""

    def test_it_runs_in_one_thread_that_is_no_servers(self) -> None:
        from asgiref.sync import sync_to_async

        threads: list[int] = []

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            threads.append(await sync_to_async(threading.get_ident)())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            threads.append(await sync_to_async(threading.get_ident)())
            await send({"type": "lifespan.shutdown.complete"})

        async def http(scope: Any, receive: Any, send: Any) -> None:
            await start_and_stream(send)

        async def start_and_stream(send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await chunk(send, b"x")
            await asyncio.sleep(0)
            await chunk(send, b"y", more=False)

        server = OneThread()
        with adapted(app_with(lifespan, http), lifespan="on") as adapter, Served(adapter) as served:
            served.run()
            assert served.thread.ident not in threads
        server.end()

        assert 2 == len(threads)
        assert 1 == len(set(threads))
