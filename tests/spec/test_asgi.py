"""The main ASGI specification.

In a class `...Server` `AsgiToWsgi` is the server; in a class `...Application` `WsgiToAsgi` is the application.
"""

import asyncio
import contextvars
import copy
import functools
import inspect
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge.errors import ApplicationProtocolError
from spec.harness import environ_of, play, scope_of, serve_on_asgi, serve_on_wsgi, wsgi_environ
from support.asgi_apps import END, START, part, read_body, reply, sending
from support.failures import AppError
from support.patience import PATIENCE
from support.plain_servers import MISSING
from support.scripted_asgi_server import Environ, Event, Request, Scope, Sent, get, opened, post
from support.scripted_wsgi_server import Call, adapted, ask
from support.waiting import Flag, LogWatch, bounded
from support.wsgi_apps import simple


class TestApplicationsServer:
    """ASGI, Applications; Legacy Applications; Connection Scope."""

    @pytest.mark.parametrize("kind", ["function", "instance", "method", "partial", "returns an awaitable"])
    def test_any_async_callable_is_an_application(self, kind: str) -> None:
        """One callable of three positional arguments whose result is awaited."""

        async def function(s: Scope, r: Any, w: Any, /) -> None:
            await reply(w, b"here")

        class App:
            async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
                await reply(send, b"here")

            method = __call__

        apps: dict[str, Any] = {
            "function": function,
            "instance": App(),
            "method": App().method,
            "partial": functools.partial(lambda extra, *arguments: function(*arguments), "extra"),
            "returns an awaitable": lambda scope, receive, send: asyncio.ensure_future(function(scope, receive, send)),
        }

        assert b"here" == serve_on_wsgi(apps[kind]).body

    def test_a_legacy_application_is_refused(self) -> None:
        """The two-callable style of ASGI 2 is a `TypeError` at construction, not a failure in each request."""

        class Legacy:
            def __init__(self, scope: Scope) -> None:
                self.scope = scope

            async def __call__(self, receive: Any, send: Any) -> None:
                await reply(send)

        with pytest.raises(TypeError):
            AsgiToWsgi(Legacy)

    def test_it_is_called_once_for_each_request(self) -> None:
        """One call a connection, which is one request."""
        paths: list[str] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            paths.append(scope["path"])
            await reply(send)

        with adapted(app) as adapter:
            for path in ("/1", "/2", "/3"):
                ask(adapter, wsgi_environ(path=path))

        assert ["/1", "/2", "/3"] == paths

    def test_the_scope_tells_type_and_versions(self) -> None:
        """A dict with `type`, and `asgi` with the versions of both specifications."""
        scope = scope_of()

        assert dict is type(scope)
        assert ("http", "3.0") == (scope["type"], scope["asgi"]["version"])
        assert re.fullmatch(r"2\.[0-5]", scope["asgi"]["spec_version"])

    def test_keys_are_strings(self) -> None:
        """Each key of the scope and of an event is a Unicode string."""
        events: list[Event] = []
        scopes: list[Scope] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            scopes.append(scope)
            events.append(await receive())
            await reply(send)

        serve_on_wsgi(app, wsgi_environ("POST", body=b"x"))

        assert {str} == {type(key) for mapping in (*scopes, *events) for key in mapping}

    def test_all_requests_share_one_loop(self) -> None:
        """An application finds the same event loop in each request, so that what it keeps can be used again."""
        loops: list[asyncio.AbstractEventLoop] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await reply(send)

        with adapted(app) as adapter:
            for _ in range(3):
                ask(adapter)

        assert 1 == len(set(loops))

    def test_requests_run_side_by_side(self) -> None:
        """Requests of several server threads meet on the loop."""

        class Meeting:
            def __init__(self) -> None:
                self.here = 0
                self.all = asyncio.Event()

        meetings: list[Meeting] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if not meetings:
                meetings.append(Meeting())
            meetings[0].here += 1
            if meetings[0].here == 4:
                meetings[0].all.set()
            await meetings[0].all.wait()
            await reply(send, b"x")

        with adapted(app) as adapter:
            threads = [threading.Thread(target=ask, args=(adapter,), daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)

            assert [False] * 4 == [thread.is_alive() for thread in threads]


class TestMiddlewareServer:
    """ASGI, Middleware."""

    def test_a_changed_scope_does_not_leak(self) -> None:
        """What an application does to its scope reaches neither the server's environ nor the next request."""
        scopes: list[Scope] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            scopes.append({**scope, "state": dict(scope["state"]), "extensions": dict(scope["extensions"])})
            scope["headers"] = []
            scope["state"]["leak"] = scope["extensions"]["leak"] = scope["leak"] = {}
            scope["path"] = "/leak"
            await reply(send)

        environ = wsgi_environ()
        with adapted(app) as adapter:
            for _ in range(2):
                ask(adapter, environ)

        first, second = scopes
        assert not any("leak" in place for place in (second, second["state"], second["extensions"]))
        assert first["path"] == second["path"]
        assert environ["PATH_INFO"] == "/"

    def test_an_adapter_inside_middleware_gets_what_that_passes(self) -> None:
        """Middleware may hand down another scope, receive and send; the response is what it makes of it."""

        async def inner(scope: Scope, receive: Any, send: Any) -> None:
            await reply(send, scope["added"].encode() + await read_body(receive))

        async def middleware(scope: Scope, receive: Any, send: Any) -> None:
            async def upper_receive() -> Event:
                event = await receive()
                return {**event, "body": event["body"].upper()}

            async def marked(event: Event) -> None:
                await send({**event, "extra": 1})

            await inner({**scope, "added": "more "}, upper_receive, marked)

        assert b"more BODY" == serve_on_wsgi(middleware, wsgi_environ("POST", body=b"body")).body


class TestEventErrorsServer:
    """ASGI, Error Handling."""

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "http.nonsense"},
            {"type": "websocket.accept"},
            {"type": "lifespan.startup.complete"},
            {},
            None,
            "http.response.start",
            {"type": "http.response.start"},
            {"type": "http.response.start", "status": "200"},
            {"type": "http.response.start", "status": None},
            {"type": "http.response.start", "status": 200, "headers": [("x-a", "1")]},
            {"type": "http.response.start", "status": 200, "headers": [(b"x-a", 1)]},
            {"type": "http.response.start", "status": 200, "headers": [(b"x-a",)]},
            {"type": "http.response.start", "status": 200, "headers": 5},
            {"type": "http.response.body", "body": b"before the start"},
        ],
        ids=repr,
    )
    def test_an_invalid_first_event_is_an_error_out_of_send(self, event: Any) -> None:
        """Unknown type, missing key, wrong type, wrong order: `send` raises, and a right event is still welcome."""
        raised: list[BaseException] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            try:
                await send(event)
            except Exception as error:
                raised.append(error)
            await reply(send, b"recovered", 500)

        call = serve_on_wsgi(app)

        assert 1 == len(raised)
        assert (500, b"recovered") == (call.code, call.body)

    @pytest.mark.parametrize(
        "event",
        [
            START,
            {"type": "http.nonsense"},
            {"type": "http.response.body", "body": "text"},
            {"type": "http.response.body", "body": 5},
            {"type": "http.response.pathsend", "path": "/etc/hostname"},
        ],
        ids=repr,
    )
    def test_an_invalid_later_event_is_an_error_out_of_send(self, event: Any) -> None:
        """The same after the start; the response can go on."""
        raised: list[BaseException] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await send(part(b"a"))
            try:
                await send(event)
            except Exception as error:
                raised.append(error)
            await send({"type": "http.response.body", "body": b"b"})

        call = serve_on_wsgi(app)

        assert 1 == len(raised)
        assert b"ab" == call.body

    def test_additional_keys_are_no_error(self) -> None:
        """Later versions may add keys to events."""
        call = serve_on_wsgi(sending({**START, "new": 1}, {**END, "body": b"x", "newer": 2}))

        assert (200, b"x") == (call.code, call.body)

    def test_an_error_of_send_may_leave_the_application(self, log: LogWatch) -> None:
        """What `send` raised is caught when the application lets it out: an error response, and the next request."""
        bad = {"type": "http.nonsense"}

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(bad if scope["path"] == "/bad" else START)
            await send(END)

        with adapted(app) as adapter:
            call = ask(adapter, wsgi_environ(path="/bad"), fails=True)
            assert isinstance(call.error, ApplicationProtocolError)
            assert 200 == ask(adapter).code
        log.wait_for("http.nonsense", level=40)

    def test_an_error_terminates_the_connection(self, log: LogWatch) -> None:
        """An exception out of the application ends the request with an error, logged with its traceback."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            raise AppError("mine")

        assert isinstance(serve_on_wsgi(app, fails=True).error, AppError)
        assert "Traceback" in log.wait_for("mine", level=40)

    @pytest.mark.parametrize("when", ["before the start", "after the start", "within the body"])
    @pytest.mark.parametrize("how", ["returns", "CancelledError", "SystemExit", "KeyboardInterrupt", "GeneratorExit"])
    def test_an_application_that_breaks_off_ends_in_an_error(self, when: str, how: str, log: LogWatch) -> None:
        """No response, or half of one, in whatever way: the server hears of it, the log says why, the loop lives."""
        errors = {
            "CancelledError": asyncio.CancelledError,
            "SystemExit": SystemExit,
            "KeyboardInterrupt": KeyboardInterrupt,
            "GeneratorExit": GeneratorExit,
        }

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            if scope["path"] == "/good":
                return await reply(send, b"good")
            if when != "before the start":
                await send(START)
            if when == "within the body":
                await send(part(b"half"))
            if how in errors:
                raise errors[how]
            return None

        with adapted(app) as adapter:
            call = ask(adapter, wsgi_environ(), fails=True)
            assert isinstance(call.error, Exception)
            assert not call.complete
            assert (1 if when == "within the body" else 0) == call.starts
            assert b"good" == ask(adapter, wsgi_environ(path="/good")).body
        log.wait_for("", level=40)

    def test_an_error_after_the_end_is_logged(self, log: LogWatch) -> None:
        """The response stays whole; what the application raises afterwards does not get lost."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await reply(send, b"whole")
            raise AppError("in the background")

        assert b"whole" == serve_on_wsgi(app).body
        assert "Traceback" in log.wait_for("in the background", level=40)


class TestExtraCoroutinesServer:
    """ASGI, Extra Coroutines; Applications (a call lasts a little longer than its connection)."""

    def test_work_after_the_response_does_not_delay_it(self) -> None:
        """The response is over for the server while the application still cleans up."""
        gate, done = Flag(), Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await reply(send, b"x")
            await gate.waited()
            done.set()

        with adapted(app) as adapter:
            assert b"x" == ask(adapter).body
            assert not done.is_set()
            gate.set()
            done.wait()

    def test_work_after_a_stream_does_not_delay_its_end(self) -> None:
        """The same after a response in several chunks."""
        gate, done = Flag(), Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await send(part(b"a"))
            await send(part(b"b"))
            await send(END)
            await gate.waited()
            done.set()

        with adapted(app) as adapter:
            call = ask(adapter)
            assert (b"ab", True) == (call.body, call.complete)
            gate.set()
            done.wait()

    def test_a_task_of_the_application_goes_on(self) -> None:
        """The loop runs between requests, so a task that the application started ends without one."""
        gate, done = Flag(), Flag()
        tasks: list[asyncio.Task[None]] = []

        async def work() -> None:
            await gate.waited()
            done.set()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            tasks.append(asyncio.create_task(work()))
            await reply(send, b"x")

        with adapted(app) as adapter:
            ask(adapter)
            gate.set()
            done.wait()

    def test_a_server_that_stops_at_content_length_cancels_nothing(self) -> None:
        """Servers close the iterable when they have the announced bytes: that is the end, and no disconnect."""
        gate, done = Flag(), Flag()
        outcome: list[str] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            try:
                await send({**START, "headers": [(b"content-length", b"4")]})
                await send(part(b"ab"))
                await send(part(b"cd"))
                await send(END)
                await gate.waited()
                outcome.append("finished")
            except BaseException as error:
                outcome.append(repr(error))
                raise
            finally:
                done.set()

        with adapted(app, disconnect_grace=0.05) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                while len(call.body) < 4:
                    call.next()
                call.close()

            bounded(story)
            assert not done.comes()
            gate.set()
            done.wait()

        assert ["finished"] == outcome


class TestExtensionsServer:
    """ASGI, Extensions."""

    def test_only_what_the_server_can_honour_is_offered(self) -> None:
        """A plain WSGI server can do none of them, and each entry that there is would be a dict."""
        assert {} == scope_of().get("extensions", {})

    @pytest.mark.parametrize("kind", ["http.response.push", "http.response.zerocopysend", "http.response.debug"])
    def test_an_extension_that_was_not_offered_is_refused(self, kind: str) -> None:
        """An event of such an extension is an unknown event."""
        event = {"type": kind, "path": "/x", "headers": [], "file": 0, "info": {}}
        raised: list[BaseException] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            try:
                await send(event)
            except Exception as error:
                raised.append(error)
            await send(END)

        serve_on_wsgi(app)

        assert [ApplicationProtocolError] == [type(error) for error in raised]


class TestContextServer:
    """ASGI, Applications (each call stands alone)."""

    def test_context_variables_do_not_leak_between_requests(self) -> None:
        """What one request sets, the next does not see, on the same thread of the server."""
        user = contextvars.ContextVar("user", default="anonymous")
        seen: list[str] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            seen.append(user.get())
            user.set("alice")
            await reply(send)

        with adapted(app) as adapter:

            def story() -> None:
                for _ in range(2):
                    Call(adapter, wsgi_environ()).run()
                seen.append(user.get())

            bounded(story)

        assert ["anonymous"] * 3 == seen

    def test_context_variables_of_the_server_reach_the_application(self) -> None:
        """What WSGI middleware set is there."""
        user = contextvars.ContextVar("user", default="anonymous")

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await reply(send, user.get().encode())

        with adapted(app) as adapter:

            def middleware(environ: Environ, start_response: Any) -> Any:
                user.set("bob")
                return adapter(environ, start_response)

            assert b"bob" == ask(middleware).body


class TestApplicationsApplication:
    """ASGI, Applications; Connection Scope; Middleware."""

    def test_it_is_one_async_callable(self) -> None:
        """Called with scope, receive and send, and awaited; servers that look find a coroutine function."""
        adapter = WsgiToAsgi(simple(b"x"))

        assert inspect.iscoroutinefunction(type(adapter).__call__)
        adapter.close()

    def test_a_protocol_it_does_not_know_is_rejected(self) -> None:
        """An unknown scope type raises, so that the server does not take it for supported."""

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *Sent({"type": "carrier.pigeon"}, []), fails=True) as exchange:
                pass
            return exchange

        assert [] == play(simple(b"x"), story).sent

    def test_the_scope_is_left_as_it_is(self) -> None:
        """Nothing leaks upstream: the server's scope is not changed."""
        request = post(b"abc", headers=[(b"cookie", b"a=1")], root_path="/", extensions={"http.response.pathsend": {}})
        before = copy.deepcopy(request.scope)
        serve_on_asgi(simple(b"x"), request)

        assert before == request.scope

    def test_receive_and_send_need_not_be_coroutine_functions(self) -> None:
        """Any awaitable will do; the scripted server never returns a coroutine."""
        exchange = serve_on_asgi(simple(b"x"), post(b"abc"))

        assert (1, b"x") == (min(exchange.received, 1), exchange.body)

    def test_a_scope_of_the_required_keys_is_enough(self) -> None:
        """What is optional may be missing, the `asgi` key included, since test clients leave it out."""
        missing = dict.fromkeys(
            ["asgi", "scheme", "raw_path", "root_path", "client", "server", "extensions", "state"], MISSING
        )
        environ = environ_of(get("/x", **missing))

        assert ("http", "/x", "") == (environ["wsgi.url_scheme"], environ["PATH_INFO"], environ["SCRIPT_NAME"])

    @pytest.mark.parametrize("key", ["client", "server", "state", "extensions", "raw_path"])
    def test_optional_keys_may_be_none(self, key: str) -> None:
        """Servers put None where they do not know."""
        assert "/x" == environ_of(get("/x", **{key: None}))["PATH_INFO"]

    def test_unknown_keys_are_ignored(self) -> None:
        """Later versions may add keys to scopes and events."""
        request = post(b"abc", new_key=1, headers=[])
        events = [{**event, "new_key": 2} for event in request.events]

        assert b"x" == serve_on_asgi(simple(b"x"), Sent(request.scope, events)).body

    def test_an_invalid_event_is_an_error(self, log: LogWatch) -> None:
        """An event from `receive` that has no place in a request raises, and is not taken for a body."""
        request = Sent(post(b"abc").scope, [{"type": "websocket.receive", "bytes": b"abc"}])
        exchange = serve_on_asgi(simple(b"x"), request, fails=True)

        assert [] == exchange.sent


class TestContextApplication:
    """ASGI, Applications (each call stands alone)."""

    def test_context_variables_do_not_leak_between_requests(self) -> None:
        """What one request's application sets, neither the next request nor the server's task sees."""
        user = contextvars.ContextVar("user", default="anonymous")
        seen: list[str] = []

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            seen.append(user.get())
            user.set("alice")
            start_response("200 OK", [])
            yield b"x"

        async def story(adapter: WsgiToAsgi) -> None:
            for _ in range(2):
                await adapter(get().scope, stay, drop)
            seen.append(user.get())

        async def stay() -> Event:
            await asyncio.Event().wait()
            raise AssertionError

        async def drop(event: Event) -> None:
            pass

        play(app, story, threads=1)

        assert ["anonymous"] * 3 == seen

    def test_context_variables_of_the_server_reach_the_application(self) -> None:
        """What ASGI middleware set is there, in the call, the iteration and `close()`."""
        user = contextvars.ContextVar("user", default="anonymous")
        seen: list[str] = []

        class Body:
            def __iter__(self) -> Iterator[bytes]:
                seen.append(user.get())
                yield b"x"

            def close(self) -> None:
                seen.append(user.get())

        def app(environ: Environ, start_response: Any) -> Body:
            seen.append(user.get())
            start_response("200 OK", [])
            return Body()

        async def story(adapter: WsgiToAsgi) -> None:
            user.set("bob")
            async with opened(adapter, *get()):
                pass

        play(app, story)

        assert ["bob"] * 3 == seen
