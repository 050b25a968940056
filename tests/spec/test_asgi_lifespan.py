"""The ASGI lifespan protocol, clause by clause.

Classes named `Test...Server` hold `AsgiToWsgi` to the server's duties towards the application, classes named
`Test...Application` hold `WsgiToAsgi` to the application's duties towards the server. A class's docstring names the
section.
"""

import asyncio
import threading
from typing import Any

import pytest

from bridge import WsgiToAsgi
from bridge.errors import LifespanFailed
from spec.harness import play, wsgi_environ
from support.asgi_apps import reply
from support.failures import AppError
from support.patience import PATIENCE
from support.plain_servers import MISSING
from support.scripted_asgi_server import Environ, Event, Request, Scope, Sent, get, opened
from support.scripted_wsgi_server import Call, adapted, ask
from support.waiting import Flag, LogWatch, bounded


class Site:
    """An ASGI app that speaks lifespan, and keeps what happened."""

    def __init__(self, startup: Any = None, shutdown: Any = None) -> None:
        self.story: list[str] = []
        self.scopes: list[Scope] = []
        self.requests: list[Scope] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.startup = startup
        self.shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.loops.add(asyncio.get_running_loop())
        if scope["type"] == "http":
            self.requests.append(scope)
            self.story.append("request")
            await reply(send, b"served")
            return
        self.scopes.append(scope)
        for phase, answer in (("startup", self.startup), ("shutdown", self.shutdown)):
            event = await receive()
            self.story.append(event["type"])
            assert f"lifespan.{phase}" == event["type"]
            outcome = await answer(scope) if answer else None
            self.story.append(f"{phase} done")
            await send(outcome or {"type": f"lifespan.{phase}.complete"})


class TestScopeServer:
    """ASGI Lifespan, Scope."""

    def test_the_scope_tells_type_and_versions(self) -> None:
        """`type`, the versions, and an empty namespace."""
        states: list[dict[str, Any]] = []

        async def startup(scope: Scope) -> None:
            states.append(dict(scope["state"]))

        site = Site(startup)
        with adapted(site, lifespan="auto") as adapter:
            ask(adapter)
        scope = site.scopes[0]

        assert ("lifespan", "3.0", "2.0") == (scope["type"], scope["asgi"]["version"], scope["asgi"]["spec_version"])
        assert [{}] == states

    def test_it_is_one_for_the_loop_that_runs_the_requests(self) -> None:
        """Lifespan and requests share an event loop, and there is one lifespan for all requests, from any thread."""
        site = Site()
        with adapted(site, lifespan="auto") as adapter:
            threads = [threading.Thread(target=ask, args=(adapter,), daemon=True) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)

        assert (1, 1, 8) == (len(site.scopes), len(site.loops), len(site.requests))

    def test_an_application_that_raises_does_not_support_it(self) -> None:
        """The server goes on, and sends no lifespan event, not at shutdown either."""
        calls: list[str] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            calls.append(scope["type"])
            if scope["type"] != "http":
                raise ValueError("only HTTP")
            await reply(send, b"served")

        with adapted(app, lifespan="auto") as adapter:
            assert b"served" == ask(adapter).body
            assert b"served" == ask(adapter).body

        assert ["lifespan", "http", "http"] == calls

    def test_an_application_that_raises_at_the_startup_event_does_not_support_it(self) -> None:
        """The same after it has received `lifespan.startup`."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                assert "lifespan.startup" == (await receive())["type"]
                raise ValueError("only HTTP")
            await reply(send, b"served")

        with adapted(app, lifespan="auto") as adapter:
            assert b"served" == ask(adapter).body

    @pytest.mark.parametrize("how", ["returns", "answers with HTTP events", "receives, then returns"])
    def test_an_application_that_does_not_answer_does_not_support_it(self, how: str) -> None:
        """One that returns, or takes the lifespan for a request, is served all the same."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http" and how == "returns":
                return
            if scope["type"] != "http" and how == "receives, then returns":
                await receive()
                return
            await reply(send, b"served")

        with adapted(app, lifespan="auto") as adapter:
            assert b"served" == ask(adapter).body
            assert b"served" == ask(adapter).body

    def test_it_can_be_demanded(self) -> None:
        """With `lifespan="on"` an application that does not support it fails, with its exception as the cause."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise AppError("only HTTP")
            await reply(send, b"served")

        with adapted(app, lifespan="on") as adapter:
            error = ask(adapter, fails=True).error

        assert isinstance(error, LifespanFailed)
        assert isinstance(error.__cause__, AppError)

    def test_it_can_be_turned_off(self) -> None:
        """With `lifespan="off"` the application never sees the scope."""
        site = Site()
        with adapted(site, lifespan="off") as adapter:
            ask(adapter)

        assert ["request"] == site.story


class TestStateServer:
    """ASGI Lifespan, Lifespan State."""

    def test_each_request_gets_a_shallow_copy(self) -> None:
        """Keys that a request sets are its own; the objects are shared."""

        async def startup(scope: Scope) -> None:
            scope["state"]["pool"] = pool

        pool: list[int] = []
        site = Site(startup)

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                assert "mine" not in scope["state"]
                scope["state"]["mine"] = 1
                scope["state"]["pool"].append(1)
            await site(scope, receive, send)

        with adapted(app, lifespan="auto") as adapter:
            for _ in range(3):
                ask(adapter)

        assert [1, 1, 1] == pool
        assert {"pool": pool} == site.scopes[0]["state"]

    def test_a_request_has_a_state_without_lifespan_too(self) -> None:
        """An application that supports no lifespan finds the namespace empty."""
        states: list[Any] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            states.append(scope.get("state", {}))
            await reply(send)

        with adapted(app, lifespan="auto") as adapter:
            ask(adapter)

        assert [{}] == states


class TestStartupServer:
    """ASGI Lifespan, Startup; Startup Complete; Startup Failed."""

    def test_no_request_runs_before_it_is_complete(self) -> None:
        """The first request waits for `lifespan.startup.complete`."""
        gate, entered = Flag(), Flag()

        async def startup(scope: Scope) -> None:
            entered.set()
            await gate.waited()

        site = Site(startup)
        with adapted(site, lifespan="auto") as adapter:
            threads = [threading.Thread(target=ask, args=(adapter,), daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            entered.wait()
            assert ["lifespan.startup"] == site.story
            gate.set()
            for thread in threads:
                thread.join(PATIENCE)

            assert ["lifespan.startup", "startup done", "request", "request", "request"] == site.story

    def test_a_failed_startup_is_an_error_that_names_it(self, log: LogWatch) -> None:
        """The message is logged; a WSGI application cannot end its server, so each request fails with it."""

        async def startup(scope: Scope) -> Event:
            return {"type": "lifespan.startup.failed", "message": "no database"}

        site = Site(startup)
        with adapted(site, lifespan="auto") as adapter:
            for _ in range(2):
                call = ask(adapter, fails=True)
                assert isinstance(call.error, LifespanFailed)
                assert "no database" in str(call.error)

        assert [] == site.requests
        log.wait_for("no database", level=40)

    def test_the_message_is_optional(self) -> None:
        """Without one the failure still names the phase."""

        async def startup(scope: Scope) -> Event:
            return {"type": "lifespan.startup.failed"}

        with adapted(Site(startup), lifespan="auto") as adapter:
            assert "startup" in str(ask(adapter, fails=True).error)

    def test_a_startup_that_never_ends_is_an_error(self, log: LogWatch) -> None:
        """After `startup_timeout` seconds the request fails instead of waiting."""

        async def startup(scope: Scope) -> None:
            await asyncio.Event().wait()

        with adapted(Site(startup), lifespan="auto", startup_timeout=0.1) as adapter:
            assert isinstance(ask(adapter, fails=True).error, Exception)
        log.wait_for("startup", level=30)

    def test_a_lifespan_that_dies_later_does_not_stop_the_requests(self, log: LogWatch) -> None:
        """An exception after the startup is logged; requests go on."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await reply(send, b"served")
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
            raise AppError("lifespan died")

        with adapted(app, lifespan="auto") as adapter:
            assert b"served" == ask(adapter).body
            log.wait_for("lifespan died", level=30)
            assert b"served" == ask(adapter).body


class TestShutdownServer:
    """ASGI Lifespan, Shutdown; Shutdown Complete; Shutdown Failed."""

    def test_closing_waits_for_it(self) -> None:
        """`close()` asks for the shutdown, and returns when the application has completed it."""

        async def shutdown(scope: Scope) -> None:
            await asyncio.sleep(0.02)

        site = Site(shutdown=shutdown)
        with adapted(site, lifespan="auto") as adapter:
            ask(adapter)

        assert ["lifespan.startup", "startup done", "request", "lifespan.shutdown", "shutdown done"] == site.story

    def test_closing_twice_asks_once(self) -> None:
        """A second `close()` has nothing left to do."""
        site = Site()
        with adapted(site, lifespan="auto") as adapter:
            ask(adapter)
            bounded(adapter.close)

        assert 1 == site.story.count("lifespan.shutdown")

    def test_without_a_request_there_is_nothing_to_shut_down(self) -> None:
        """An adapter that served nothing has started nothing."""
        site = Site()
        with adapted(site, lifespan="auto"):
            pass

        assert [] == site.story

    def test_it_comes_after_the_requests(self) -> None:
        """A request that still runs ends, in whatever way, before `lifespan.shutdown` is sent."""
        entered, gate = Flag(), Flag()
        calls: list[Call] = []
        site = Site()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return await site(scope, receive, send)
            try:
                entered.set()
                await gate.waited()
                return await reply(send)
            finally:
                site.story.append("request over")

        with adapted(app, lifespan="auto", shutdown_timeout=PATIENCE) as adapter:

            def request() -> None:
                call = Call(adapter, wsgi_environ())
                calls.append(call)
                try:
                    call.run()
                except Exception as error:
                    call.error = error

            serving = threading.Thread(target=request, daemon=True)
            serving.start()
            entered.wait()
            closing = threading.Thread(target=adapter.close, daemon=True)
            closing.start()
            gate.set()
            serving.join(PATIENCE)
            closing.join(PATIENCE)

            assert [False, False] == [serving.is_alive(), closing.is_alive()]

        assert site.story.index("request over") < site.story.index("lifespan.shutdown")
        assert calls[0].complete or calls[0].error is not None

    def test_it_comes_after_background_work(self) -> None:
        """What a request left running on the loop is drained first."""
        gate = Flag()
        site = Site()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await site(scope, receive, send)
            if scope["type"] == "http":
                await gate.waited()
                site.story.append("background done")

        with adapted(app, lifespan="auto", shutdown_timeout=PATIENCE) as adapter:
            ask(adapter)
            closing = threading.Thread(target=adapter.close, daemon=True)
            closing.start()
            gate.set()
            closing.join(PATIENCE)

        assert site.story.index("background done") < site.story.index("lifespan.shutdown")

    def test_a_failed_shutdown_is_logged(self, log: LogWatch) -> None:
        """The message is logged, and the end goes on."""

        async def shutdown(scope: Scope) -> Event:
            return {"type": "lifespan.shutdown.failed", "message": "pool still busy"}

        with adapted(Site(shutdown=shutdown), lifespan="auto") as adapter:
            ask(adapter)

        log.wait_for("pool still busy", level=30)

    def test_an_error_in_it_is_logged(self, log: LogWatch) -> None:
        """An exception instead of an answer ends the wait too."""

        async def shutdown(scope: Scope) -> None:
            raise AppError("cannot stop")

        with adapted(Site(shutdown=shutdown), lifespan="auto") as adapter:
            ask(adapter)

        log.wait_for("cannot stop", level=30)

    def test_a_shutdown_that_never_ends_does_not_keep_the_process(self, log: LogWatch) -> None:
        """After `shutdown_timeout` seconds the application is cancelled, and the log says so."""
        cancelled = Flag()

        async def shutdown(scope: Scope) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        with adapted(Site(shutdown=shutdown), lifespan="auto", shutdown_timeout=0.1) as adapter:
            ask(adapter)

        cancelled.wait()
        log.wait_for("shutdown", level=30)

    @pytest.mark.parametrize(
        "events", [["lifespan.startup.complete"] * 2, ["lifespan.startup.complete", "lifespan.shutdown.complete"]]
    )
    def test_an_answer_out_of_order_is_an_error(self, events: list[str]) -> None:
        """A second startup, or a shutdown nobody asked for: `send` raises in the application, requests go on."""
        raised: list[BaseException] = []
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await reply(send, b"served")
                return
            await receive()
            try:
                for event in events:
                    await send({"type": event})
            except Exception as error:
                raised.append(error)
            done.set()
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        with adapted(app, lifespan="auto") as adapter:
            assert b"served" == ask(adapter).body
            done.wait()

        assert 1 == len(raised)


# --- WsgiToAsgi as the application ----------------------------------------------------------------------------------


def hello(environ: Environ, start_response: Any) -> list[bytes]:
    """A WSGI app."""
    start_response("200 OK", [])
    return [b"hello"]


def lifespan(state: Any = MISSING) -> Sent:
    """The lifespan connection of a server; no event has come yet."""
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
    return Sent(scope if state is MISSING else {**scope, "state": state}, [])


def answers(adapter_app: Any = hello, state: Any = MISSING, *, fails: bool = False, **options: Any) -> list[Event]:
    """What the adapter answers to a startup and a shutdown; where one `fails`, it must raise what the hook raised."""

    async def story(adapter: WsgiToAsgi) -> list[Event]:
        async with opened(adapter, *lifespan(state), fails=fails) as server:
            server.feed({"type": "lifespan.startup"})
            await server.until(lambda: server.sent)
            if server.sent[0]["type"].endswith("complete"):
                server.feed({"type": "lifespan.shutdown"})
        assert isinstance(server.error, AppError) is fails
        return server.sent

    return play(adapter_app, story, **options)


class TestEventsApplication:
    """ASGI Lifespan, Startup; Shutdown, and what completes them."""

    @pytest.mark.parametrize("state", [MISSING, {}])
    def test_both_events_are_answered(self, state: Any) -> None:
        """Startup and shutdown are completed, in this order, once; the `state` of the scope is optional."""
        assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [
            event["type"] for event in answers(state=state)
        ]

    def test_nothing_is_answered_before_it_is_asked(self) -> None:
        """Each answer waits for its event, and after the second the call returns."""

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, *lifespan()) as server:
                await asyncio.sleep(0.02)
                assert [] == server.sent
                server.feed({"type": "lifespan.startup"})
                await server.until(lambda: server.sent)
                await asyncio.sleep(0.02)
                assert 1 == len(server.sent)
                server.feed({"type": "lifespan.shutdown"})

        play(hello, story)

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_the_hooks_run_in_their_phases(self, kind: str) -> None:
        """`startup` and `shutdown` run before their answers, once each, with the state where they take one."""
        calls: list[str] = []

        def startup(state: dict[str, Any]) -> None:
            calls.append("startup")
            state["pool"] = "open"

        def shutdown() -> None:
            calls.append("shutdown")

        async def async_startup(state: dict[str, Any]) -> None:
            startup(state)

        async def async_shutdown() -> None:
            shutdown()

        hooks = (startup, shutdown) if kind == "sync" else (async_startup, async_shutdown)
        state: dict[str, Any] = {}
        events = answers(state=state, startup=hooks[0], shutdown=hooks[1])

        assert ["startup", "shutdown"] == calls
        assert {"pool": "open"} == state
        assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [event["type"] for event in events]

    def test_a_startup_that_fails_says_so(self, log: LogWatch) -> None:
        """An exception of the hook becomes `lifespan.startup.failed` with a message, and a traceback in the log."""

        def startup() -> None:
            raise AppError("no database")

        (event,) = answers(startup=startup, fails=True)

        assert "lifespan.startup.failed" == event["type"]
        assert "no database" in event["message"]
        assert "Traceback" in log.wait_for("no database", level=40)

    def test_a_shutdown_that_fails_says_so(self, log: LogWatch) -> None:
        """The same for the other end."""

        def shutdown() -> None:
            raise AppError("still busy")

        events = answers(shutdown=shutdown, fails=True)

        assert ["lifespan.startup.complete", "lifespan.shutdown.failed"] == [event["type"] for event in events]
        assert "still busy" in events[1]["message"]
        assert "Traceback" in log.wait_for("still busy", level=40)

    def test_the_loop_is_free_while_a_hook_runs(self) -> None:
        """A sync hook that takes its time does not block the server's loop."""
        gate = Flag()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, *lifespan()) as server:
                server.feed({"type": "lifespan.startup"})
                await asyncio.sleep(0.02)
                gate.set()  # not reached while the loop is blocked in the hook
                await server.until(lambda: server.sent)
                server.feed({"type": "lifespan.shutdown"})

        play(hello, story, startup=gate.wait)

    def test_the_state_reaches_the_requests(self) -> None:
        """What the startup hook put into the state is in the environ of a request that the server gives a copy to."""
        seen: list[Any] = []

        def startup(state: dict[str, Any]) -> None:
            state["pool"] = "open"

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            seen.append(environ["bridge.state"]["pool"])
            return hello(environ, start_response)

        async def story(adapter: WsgiToAsgi) -> None:
            state: dict[str, Any] = {}
            async with opened(adapter, *lifespan(state)) as server:
                server.feed({"type": "lifespan.startup"})
                await server.until(lambda: server.sent)
                async with opened(adapter, *get(state=dict(state))):
                    pass
                server.feed({"type": "lifespan.shutdown"})

        play(app, story, startup=startup)

        assert ["open"] == seen

    def test_requests_are_served_without_a_lifespan(self) -> None:
        """A server that speaks no lifespan is served as any other."""

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *get()) as exchange:
                pass
            return exchange

        assert b"hello" == play(hello, story).body

    def test_shutdown_waits_for_running_requests(self) -> None:
        """The threads are drained before the shutdown is called complete."""
        entered, gate = Flag(), Flag()
        order: list[str] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            entered.set()
            gate.wait()
            order.append("request")
            return hello(environ, start_response)

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, *lifespan()) as server:
                server.feed({"type": "lifespan.startup"})
                await server.until(lambda: server.sent)
                async with opened(adapter, *get()):
                    await entered.waited()
                    server.feed({"type": "lifespan.shutdown"})
                    await asyncio.sleep(0.02)
                    gate.set()

        play(app, story, shutdown=lambda: order.append("shutdown"))

        assert ["request", "shutdown"] == order
