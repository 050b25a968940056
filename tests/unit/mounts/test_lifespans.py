"""The lifespans of mounted apps within that of the server, or of the private loop."""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bridge import LifespanFailed, Mounts, WsgiToAsgi
from support.asgi_apps import hello, reply
from support.lenient_asgi_server import Life, fetch, living
from support.mounted import closing
from support.plain_servers import Environ, environ_for, scope_for
from support.scripted_wsgi_server import ask
from support.waiting import PATIENCE, bounded

pytestmark = pytest.mark.anyio


class Living:
    """An ASGI app that notes its lifespan in `log`, and puts what it is told to into the state."""

    def __init__(self, name: str, log: list[str], **state: Any) -> None:
        self.name = name
        self.log = log
        self.state = state
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
        else:
            self.scopes.append(scope)
            await reply(send, self.name.encode())

    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        assert {"type": "lifespan.startup"} == await receive()
        await self.start(scope, send)
        assert {"type": "lifespan.shutdown"} == await receive()
        await self.stop(send)

    async def start(self, scope: Any, send: Any) -> None:
        if self.state:
            scope["state"].update(self.state)
        self.log.append(f"{self.name} starts")
        await send({"type": "lifespan.startup.complete"})

    async def stop(self, send: Any) -> None:
        self.log.append(f"{self.name} stops")
        await send({"type": "lifespan.shutdown.complete"})


class FailsToStart(Living):
    async def start(self, scope: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})


class FailsToStop(Living):
    async def stop(self, send: Any) -> None:
        self.log.append(f"{self.name} stops")
        await send({"type": "lifespan.shutdown.failed", "message": "lost a write"})


class RaisesAtTheStop(Living):
    async def stop(self, send: Any) -> None:
        raise LookupError("at the stop")


class LeavesWhileServing(Living):
    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await self.start(scope, send)


class KnowsNoLifespan(Living):
    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("only http")


class AnswersAsARequest(Living):
    """One of its tasks answers, another waits for a disconnect, and it waits for both."""

    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(Exception):
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await anyio.sleep_forever()


class RaisesAtTheStart(Living):
    async def start(self, scope: Any, send: Any) -> None:
        raise LookupError("at the start")


class SaysItAndRaises(FailsToStart):
    async def start(self, scope: Any, send: Any) -> None:
        await super().start(scope, send)
        raise LookupError("no database")


class FailsATest(Living):
    async def start(self, scope: Any, send: Any) -> None:
        pytest.fail("of the test")


class CancelsItselfAtTheStart(Living):
    async def start(self, scope: Any, send: Any) -> None:
        raise anyio.get_cancelled_exc_class()


class CancelsItselfWhileServing(Living):
    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await self.start(scope, send)
        raise anyio.get_cancelled_exc_class()


class NeverEnds(Living):
    """Says that it has stopped, and stays."""

    async def stop(self, send: Any) -> None:
        await super().stop(send)
        await anyio.sleep_forever()


def wsgi(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"wsgi"]


class Answers(Life):
    """A lifespan of which each event that is sent is kept whole, and what its call raises."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.events: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self.over = anyio.Event()

    async def run(self) -> None:
        try:
            await super().run()
        except (Exception, pytest.fail.Exception) as error:
            self.error = error
        self.over.set()

    async def _send(self, event: Any) -> None:
        self.events.append(event)
        await super()._send(event)


@contextlib.asynccontextmanager
async def answering(site: Mounts) -> AsyncIterator[Answers]:
    """A server that starts, and stops if that went well; in the end the call has returned or is cancelled."""
    life = Answers(site.asgi)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            await life.start(group)
            yield life
            if life.sent == ["lifespan.startup.complete"]:
                await life.shut_down()
            if life.sent[-1].endswith(".failed"):
                await life.over.wait()
            group.cancel_scope.cancel()


class TestOnAnAsgiServer:
    async def test_all_are_started_in_their_order_and_all_are_stopped(self) -> None:
        log: list[str] = []
        one, other = Living("one", log), Living("other", log)
        with closing(Mounts({"/one": one, "/old": wsgi, "/other": other, "/again": one})) as site:
            async with living(site.asgi):
                assert ["one starts", "other starts"] == log, "each app once, wherever it is mounted"
                del log[:]

        assert ["one stops", "other stops"] == sorted(log)

    async def test_one_failure_stops_the_start_and_names_the_mount(self) -> None:
        log: list[str] = []
        apps = {"/one": Living("one", log), "/bad": FailsToStart("bad", log), "/other": Living("other", log)}
        with closing(Mounts(apps)) as site:
            async with answering(site) as life:
                pass

        message = "the app mounted at '/bad': the application's startup failed: no database"
        assert [{"type": "lifespan.startup.failed", "message": message}] == life.events
        assert ["one starts", "one stops"] == log
        assert isinstance(life.error, LifespanFailed)
        assert message == str(life.error)

    async def test_what_one_raises_after_it_has_failed_is_raised(self) -> None:
        """As Starlette's router has it: test clients look at the exception, and it is no group on trio either."""
        log: list[str] = []
        with closing(Mounts({"/one": Living("one", log), "/bad": SaysItAndRaises("bad", log)})) as site:
            async with answering(site) as life:
                pass

        assert ["lifespan.startup.failed"] == life.sent
        assert isinstance(life.error, LookupError)
        assert "one stops" == log[-1]

    async def test_the_outcome_of_a_test_reaches_it(self) -> None:
        """`pytest.fail` in the startup of an app is no app without a lifespan."""
        with closing(Mounts({"/one": FailsATest("one", [])})) as site:
            async with answering(site) as life:
                pass

        assert ["lifespan.startup.failed"] == life.sent
        assert isinstance(life.error, pytest.fail.Exception)

    async def test_all_are_stopped_though_one_fails_to(self) -> None:
        log: list[str] = []
        apps = {"/one": FailsToStop("one", log), "/": RaisesAtTheStop("raises", log), "/other": Living("other", log)}
        with closing(Mounts(apps)) as site:
            async with answering(site) as life:
                pass

        assert "lifespan.shutdown.failed" == life.events[1]["type"]
        assert (
            "the app mounted at '/one': the application's shutdown failed: lost a write; "
            "the app mounted at '/': the application's shutdown raised LookupError: at the stop"
        ) == life.events[1]["message"]
        assert isinstance(life.error, LifespanFailed)
        assert "the app mounted at '/one': the application's shutdown failed: lost a write" == str(life.error)
        assert ["one stops", "other stops"] == sorted(log[-2:])

    async def test_one_that_does_not_return_keeps_nobody(self) -> None:
        log: list[str] = []
        with closing(Mounts({"/one": NeverEnds("one", log), "/other": Living("other", log)})) as site:
            async with answering(site) as life:
                pass

        assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == life.sent

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_one_that_ends_its_startup_with_a_cancellation_fails(self) -> None:
        """Nobody has asked for it, and nobody is left to say that it has started (asyncio's timeouts may do so)."""
        log: list[str] = []
        apps = {"/one": Living("one", log), "/bad": CancelsItselfAtTheStart("bad", log)}
        with closing(Mounts(apps)) as site:
            async with answering(site) as life:
                pass

        assert ["lifespan.startup.failed"] == life.sent
        assert life.events[0]["message"].startswith("the app mounted at '/bad': the application ended its lifespan")
        assert ["one starts", "one stops"] == log

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_one_that_has_cancelled_itself_is_not_waited_for(self) -> None:
        log: list[str] = []
        apps = {"/bad": CancelsItselfWhileServing("bad", log), "/other": Living("other", log)}
        with closing(Mounts(apps)) as site:
            async with answering(site) as life:
                pass

        assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == life.sent
        assert "other stops" == log[-1]

    @pytest.mark.parametrize("kind", [KnowsNoLifespan, RaisesAtTheStart, LeavesWhileServing])
    async def test_an_app_without_lifespan_is_served_all_the_same(
        self, kind: type[Living], caplog: pytest.LogCaptureFixture
    ) -> None:
        """ASGI Lifespan: an exception means that it does not support it, and the server goes on."""
        caplog.set_level(logging.INFO, "bridge")
        log: list[str] = []
        with closing(Mounts({"/one": kind("one", log), "/other": Living("other", log)})) as site:
            async with living(site.asgi):
                exchange = await fetch(site.asgi, scope_for("GET", "/one"))

        assert b"one" == exchange.body
        assert ["other starts", "other stops"] == [line for line in log if line.startswith("other")]
        assert "the app mounted at '/one'" in caplog.text

    async def test_an_app_that_answers_with_other_events_is_served_at_once(self) -> None:
        """It takes the lifespan for a request; what it waits for then does not come."""
        log: list[str] = []
        with closing(Mounts({"/one": AnswersAsARequest("one", log), "/other": Living("other", log)})) as site:
            async with living(site.asgi):
                assert b"one" == (await fetch(site.asgi, scope_for("GET", "/one"))).body

        assert ["other starts", "other stops"] == log

    async def test_without_asgi_mounts_there_is_a_lifespan_too(self) -> None:
        with closing(Mounts({"/": wsgi})) as site:
            async with living(site.asgi) as life:
                assert b"wsgi" == (await fetch(site.asgi, scope_for("GET", "/"))).body

        assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == life.sent

    async def test_the_hooks_of_an_adapter_of_the_users_own_run(self) -> None:
        log: list[str] = []
        adapter = WsgiToAsgi(wsgi, startup=lambda: log.append("starts"), shutdown=lambda: log.append("stops"))
        with closing(Mounts({"/old": adapter})) as site:
            async with living(site.asgi):
                assert b"wsgi" == (await fetch(site.asgi, scope_for("GET", "/old"))).body
        bounded(adapter.close)

        assert ["starts", "stops"] == log

    async def test_mounts_within_mounts(self) -> None:
        log: list[str] = []
        apps = {"/fails": FailsToStart("fails", log)}
        with closing(Mounts({"/in": Mounts({"/one": Living("one", log)}), "/bad": Mounts(apps)})) as site:
            async with answering(site) as life:
                pass

        assert life.events[0]["message"].startswith("the app mounted at '/bad': the application's startup failed: the")
        assert life.events[0]["message"].endswith("'/fails': the application's startup failed: no database")
        assert ["one starts", "one stops"] == log


class TestState:
    """ASGI, "Lifespan State"."""

    async def test_each_app_has_its_own(self) -> None:
        """Two apps that call it the same do not find each other's."""
        one, other = Living("one", [], pool="of one", extra=1), Living("other", [], pool="of other")
        with closing(Mounts({"/one": one, "/other": other})) as site:
            async with living(site.asgi) as life:
                for path in ("/one", "/other", "/one"):
                    await fetch(site.asgi, scope_for("GET", path, state=dict(life.state)))

        assert [("of one", 1)] * 2 == [(scope["state"]["pool"], scope["state"]["extra"]) for scope in one.scopes]
        assert ["of other"] == [scope["state"]["pool"] for scope in other.scopes]
        assert "extra" not in other.scopes[0]["state"]

    async def test_what_middleware_puts_there_for_a_request_stays(self) -> None:
        """And it sees what the app puts there."""
        app = Living("one", [], user="of the lifespan", pool="of one")
        with closing(Mounts({"/one": app})) as site:
            async with living(site.asgi) as life:
                state = {**life.state, "user": "of the request"}
                await fetch(site.asgi, scope_for("GET", "/one", state=state))

        assert app.scopes[0]["state"] is state
        assert ("of the request", "of one") == (state["user"], state["pool"])

    async def test_through_mounts_within_mounts(self) -> None:
        app = Living("one", [], pool="of one")
        with closing(Mounts({"/in": Mounts({"/one": app})})) as site:
            async with living(site.asgi) as life:
                await fetch(site.asgi, scope_for("GET", "/in/one", state=dict(life.state)))

        assert "of one" == app.scopes[0]["state"]["pool"]

    async def test_a_server_without_state(self) -> None:
        """Daphne has none: neither in the lifespan nor in requests."""
        app = Living("one", [])
        with closing(Mounts({"/one": app})) as site:
            sent = []
            events = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

            async def receive() -> Any:
                return next(events)

            async def send(event: Any) -> None:
                sent.append(event["type"])

            with anyio.fail_after(PATIENCE):
                await site.asgi({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
            await fetch(site.asgi, scope_for("GET", "/one"))

        assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == sent
        assert "state" not in app.scopes[0]

    async def test_the_lifespan_of_a_framework(self) -> None:
        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"greeting": "hello"}

        async def greet(request: Any) -> PlainTextResponse:
            return PlainTextResponse(request.state.greeting)

        with closing(Mounts({"/new": Starlette(routes=[Route("/", greet)], lifespan=lifespan)})) as site:
            async with living(site.asgi) as life:
                exchange = await fetch(site.asgi, scope_for("GET", "/new/", state=dict(life.state)))
            served = bounded(lambda: ask(site.wsgi, environ_for("GET", "/new/")))

        assert b"hello" == exchange.body == served.body


class TestOnAWsgiServer:
    @pytest.fixture
    def anyio_backend(self) -> object:
        return "asyncio"

    def test_all_are_started_by_the_first_request_to_any(self) -> None:
        log: list[str] = []
        one, other = Living("one", log, pool="of one"), Living("other", log, pool="of other")
        with closing(Mounts({"/one": one, "/old": wsgi, "/other": other})) as site:
            assert b"wsgi" == ask(site.wsgi, environ_for("GET", "/old")).body
            assert [] == log, "a WSGI app needs nothing of it"
            for path in ("/other", "/one", "/other"):
                assert path[1:].encode() == ask(site.wsgi, environ_for("GET", path)).body
            assert ["one starts", "other starts"] == log
            del log[:]

        assert ["one stops", "other stops"] == sorted(log)
        assert ["of one", "of other"] == [app.scopes[0]["state"]["pool"] for app in (one, other)]

    def test_a_failure_names_the_mount_and_leaves_the_wsgi_apps_alone(self) -> None:
        with closing(Mounts({"/bad": FailsToStart("bad", []), "/new": hello, "/old": wsgi})) as site:
            for path in ("/bad", "/new", "/bad"):
                with pytest.raises(LifespanFailed, match=r"the app mounted at '/bad': .* no database"):
                    ask(site.wsgi, environ_for("GET", path))
            assert b"wsgi" == ask(site.wsgi, environ_for("GET", "/old")).body

    def test_mounts_within_mounts(self) -> None:
        log: list[str] = []
        inner = Mounts({"/one": Living("one", log)})
        with closing(Mounts({"/in": inner})) as site, closing(inner):
            assert b"one" == ask(site.wsgi, environ_for("GET", "/in/one")).body

        assert ["one starts", "one stops"] == log
