"""The ASGI specification, its HTTP format and the extensions that concern an adapter, clause by clause.

Classes named `Test...Server` hold `AsgiToWsgi` to the server's duties towards the application, classes named
`Test...Application` hold `WsgiToAsgi` to the application's duties towards the server. A class's docstring names the
section.
"""

import asyncio
import contextlib
import contextvars
import copy
import functools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge.errors import ApplicationProtocolError
from spec.harness import (
    MISSING,
    Call,
    EndlessInput,
    Environ,
    Event,
    Exchange,
    Input,
    Request,
    Scope,
    ask,
    environ_of,
    fetch,
    get,
    opened,
    play,
    post,
    scope_of,
    serve,
    wsgi,
    wsgi_environ,
)
from support.asgi_apps import END, START, part, read_body, reply, sending
from support.failures import AppError
from support.waiting import Flag, LogWatch, bounded
from support.wsgi_apps import simple

# --- AsgiToWsgi as the server: the main specification ---------------------------------------------------------------


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

        assert b"here" == fetch(apps[kind]).body

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

        with wsgi(app) as adapter:
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

        fetch(app, wsgi_environ("POST", body=b"x"))

        assert {str} == {type(key) for mapping in (*scopes, *events) for key in mapping}

    def test_all_requests_share_one_loop(self) -> None:
        """An application finds the same event loop in each request, so that what it keeps can be used again."""
        loops: list[asyncio.AbstractEventLoop] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await reply(send)

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
            threads = [threading.Thread(target=ask, args=(adapter,), daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)

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
        with wsgi(app) as adapter:
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

        assert b"more BODY" == fetch(middleware, wsgi_environ("POST", body=b"body")).body


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

        call = fetch(app)

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

        call = fetch(app)

        assert 1 == len(raised)
        assert b"ab" == call.body

    def test_additional_keys_are_no_error(self) -> None:
        """Later versions may add keys to events."""
        call = fetch(sending({**START, "new": 1}, {**END, "body": b"x", "newer": 2}))

        assert (200, b"x") == (call.code, call.body)

    def test_an_error_of_send_may_leave_the_application(self, log: LogWatch) -> None:
        """What `send` raised is caught when the application lets it out: an error response, and the next request."""
        bad = {"type": "http.nonsense"}

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(bad if scope["path"] == "/bad" else START)
            await send(END)

        with wsgi(app) as adapter:
            call = ask(adapter, wsgi_environ(path="/bad"), fails=True)
            assert isinstance(call.error, ApplicationProtocolError)
            assert 200 == ask(adapter).code
        log.wait_for("http.nonsense", level=40)

    def test_an_error_terminates_the_connection(self, log: LogWatch) -> None:
        """An exception out of the application ends the request with an error, logged with its traceback."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            raise AppError("mine")

        assert isinstance(fetch(app, fails=True).error, AppError)
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

        with wsgi(app) as adapter:
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

        assert b"whole" == fetch(app).body
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

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
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

        with wsgi(app, disconnect_grace=0.05) as adapter:
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

        fetch(app)

        assert [ApplicationProtocolError] == [type(error) for error in raised]


# --- AsgiToWsgi as the server: HTTP ---------------------------------------------------------------------------------


class TestScopeServer:
    """ASGI HTTP, HTTP Connection Scope."""

    @pytest.mark.parametrize(
        ("protocol", "version"),
        [
            ("HTTP/1.0", "1.0"),
            ("HTTP/1.1", "1.1"),
            ("HTTP/2", "2"),
            ("HTTP/2.0", "2"),
            ("HTTP/1", "1.0"),
            ("INCLUDED", "1.1"),
            ("", "1.1"),
            (MISSING, "1.1"),
        ],
    )
    def test_the_version_is_one_of_three(self, protocol: Any, version: str) -> None:
        """`http_version` is 1.0, 1.1 or 2, however the server spells it."""
        assert version == scope_of(wsgi_environ(SERVER_PROTOCOL=protocol))["http_version"]

    @pytest.mark.parametrize("method", ["GET", "get", "PATCH", "PROPFIND"])
    def test_the_method_is_upper_case(self, method: str) -> None:
        """`method` is the name in upper case."""
        assert method.upper() == scope_of(wsgi_environ(method))["method"]

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_the_scheme_is_that_of_the_url(self, scheme: str) -> None:
        """`scheme` comes from `wsgi.url_scheme`."""
        assert scheme == scope_of(wsgi_environ(wsgi__url_scheme=scheme))["scheme"]

    @pytest.mark.parametrize(
        ("mount", "rest", "path"),
        [("", "/", "/"), ("", "/caf\u00e9", "/caf\u00e9"), ("/app", "/x", "/app/x"), ("/app", "", "/app")],
    )
    def test_the_path_is_decoded_and_whole(self, mount: str, rest: str, path: str) -> None:
        """`path` is the whole path in characters, its beginning is `root_path`."""
        scope = scope_of(wsgi_environ(path=rest, SCRIPT_NAME=mount))

        assert (path, mount) == (scope["path"], scope["root_path"])

    def test_a_mount_is_decoded_as_the_path_is(self) -> None:
        """`root_path` is characters too, so that it is the beginning of `path`."""
        scope = scope_of(wsgi_environ(path="/x", SCRIPT_NAME="/m\u00fcller".encode().decode("latin-1")))

        assert ("/m\u00fcller/x", "/m\u00fcller") == (scope["path"], scope["root_path"])

    def test_a_path_that_is_no_utf_8_is_served(self) -> None:
        """`/%ff` is a path that clients send; the request is served, and `path` can be encoded again."""
        scope = scope_of(wsgi_environ(PATH_INFO="/\xff"))

        assert scope["path"].startswith("/")
        scope["path"].encode("utf-8", "surrogateescape")

    @pytest.mark.parametrize(
        ("changes", "raw"),
        [
            ({"REQUEST_URI": "/a%2Fb%20c?q=%2F", "PATH_INFO": "/a/b c"}, b"/a%2Fb%20c"),
            ({"RAW_URI": "/a%2Fb?q", "PATH_INFO": "/a/b"}, b"/a%2Fb"),
            ({"REQUEST_URI": "http://example.test/a%2Fb", "PATH_INFO": "/a/b"}, b"/a%2Fb"),
            ({"REQUEST_URI": "/before/rewriting", "PATH_INFO": "/a"}, b"/a"),
            ({"PATH_INFO": "/caf\xc3\xa9 x"}, b"/caf%C3%A9%20x"),
        ],
    )
    def test_the_raw_path_is_what_the_client_sent(self, changes: dict[str, str], raw: bytes) -> None:
        """`raw_path` is the undecoded path without the query, quoted again where the server does not keep it."""
        assert raw == scope_of(wsgi_environ(**changes))["raw_path"]

    @pytest.mark.parametrize("query", ["", "a=1&b=%20", "q=\xe9"])
    def test_the_query_string_is_bytes(self, query: str) -> None:
        """`query_string` is bytes and not decoded."""
        assert query.encode("latin-1") == scope_of(wsgi_environ(QUERY_STRING=query))["query_string"]

    def test_headers_are_pairs_of_bytes(self) -> None:
        """Names in lower case with their dashes, values as their bytes; Content-Type and -Length among them."""
        environ = wsgi_environ("POST", body=b"abc", headers={"X-Name": "J\xf6rg"}, CONTENT_TYPE="text/plain")
        headers = [(bytes(name), bytes(value)) for name, value in scope_of(environ)["headers"]]

        assert sorted(headers) == [
            (b"content-length", b"3"),
            (b"content-type", b"text/plain"),
            (b"host", b"example.test"),
            (b"x-name", b"J\xf6rg"),
        ]

    def test_headers_can_be_read_twice(self) -> None:
        """The iterable is not used up by the first reader, middleware for example."""
        headers = scope_of()["headers"]

        assert list(headers) == list(headers)
        assert list(headers)

    @pytest.mark.parametrize("key", ["CONTENT_TYPE", "CONTENT_LENGTH"])
    def test_an_empty_variable_is_no_header(self, key: str) -> None:
        """CGI allows them empty where the client sent none."""
        names = [name for name, _ in scope_of(wsgi_environ(**{key: ""}))["headers"]]

        assert key.lower().replace("_", "-").encode() not in names

    @pytest.mark.parametrize(
        ("changes", "client"),
        [
            ({"REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "4711"}, ("2001:db8::1", 4711)),
            ({"REMOTE_ADDR": "192.0.2.9", "REMOTE_PORT": 4711}, ("192.0.2.9", 4711)),
            ({"REMOTE_ADDR": "192.0.2.9", "REMOTE_PORT": MISSING}, ("192.0.2.9", 0)),
            ({"REMOTE_ADDR": MISSING, "REMOTE_PORT": MISSING}, None),
            ({"REMOTE_ADDR": "", "REMOTE_PORT": ""}, None),
        ],
    )
    def test_the_client_is_host_and_port(self, changes: dict[str, Any], client: Any) -> None:
        """`client` is a string and an integer, or None where the server does not know."""
        found = scope_of(wsgi_environ(**changes)).get("client")

        assert client == (found and tuple(found))

    @pytest.mark.parametrize(
        ("name", "port", "server"),
        [
            ("192.0.2.1", "8000", ("192.0.2.1", 8000)),
            ("localhost", "/run/app.sock", ("/run/app.sock", None)),
            ("/run/app.sock", "", ("/run/app.sock", None)),
        ],
    )
    def test_the_server_is_host_and_port_or_a_socket(self, name: str, port: str, server: Any) -> None:
        """`server` is the listening address, or the path of a unix socket and None."""
        assert server == tuple(scope_of(wsgi_environ(SERVER_NAME=name, SERVER_PORT=port))["server"])

    def test_the_environ_can_be_reached(self) -> None:
        """`wsgi_environ` is the server's own environ."""
        environ = wsgi_environ()

        assert environ["HTTP_HOST"] == scope_of(environ)["wsgi_environ"]["HTTP_HOST"]


class TestRequestServer:
    """ASGI HTTP, Request."""

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_a_request_without_a_body_is_one_empty_event(self, method: str) -> None:
        """One `http.request`, empty and the last, also triggers a request that has no body."""
        events: list[Event] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            events.append(await receive())
            await reply(send)

        fetch(app, wsgi_environ(method))

        assert [("http.request", b"", False)] == [
            (event["type"], event.get("body", b""), event.get("more_body", False)) for event in events
        ]

    @pytest.mark.parametrize("size", [1, 1000, 300_000])
    def test_the_events_add_up_to_the_body(self, size: int) -> None:
        """Bytes and booleans; the pieces concatenate to the body, and the last one says so."""
        body = bytes(range(250)) * (size // 250) + b"x" * (size % 250)
        events: list[Event] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            while not events or events[-1].get("more_body", False):
                events.append(await receive())
            await reply(send)

        fetch(app, wsgi_environ("POST", body=body))

        assert body == b"".join(event["body"] for event in events)
        assert {("http.request", bytes, bool)} == {
            (event["type"], type(event["body"]), type(event["more_body"])) for event in events
        }

    def test_a_chunked_body_is_decoded(self) -> None:
        """Where the input ends by itself it is read to its end, without a Content-Length."""
        environ = wsgi_environ(
            "POST",
            body=EndlessInput(b"x" * 100_000),
            headers={"Transfer-Encoding": "chunked"},
            wsgi__input_terminated=True,
        )

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await reply(send, b"%d" % len(await read_body(receive)))

        assert b"100000" == fetch(app, environ).body

    def test_nothing_is_read_before_it_is_asked_for(self) -> None:
        """An application that answers without its body is not held up by a slow upload."""
        stream = Input(b"abc", hold=Flag())

        assert 200 == fetch(sending(START, END), wsgi_environ("POST", body=stream, CONTENT_LENGTH="3")).code
        assert [] == stream.reads

    def test_a_cancelled_receive_loses_nothing(self) -> None:
        """An application that gives up waiting for the body and asks again gets all of it."""
        hold = Flag()
        stream = Input(b"x" * 100, hold=hold)

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            try:
                await asyncio.wait_for(receive(), 0.05)
            except TimeoutError:
                hold.set()
            await reply(send, await read_body(receive))

        assert b"x" * 100 == fetch(app, wsgi_environ("POST", body=stream, CONTENT_LENGTH="100")).body

    def test_the_body_can_be_read_while_the_response_is_sent(self) -> None:
        """Request and response may stream past each other: what was read is answered before the rest is asked for."""
        body = b"x" * 300_000

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            event: Event = {"more_body": True}
            while event["more_body"]:
                event = await receive()
                await send(part(event["body"].upper()))
            await send(END)

        assert body.upper() == fetch(app, wsgi_environ("POST", body=body)).body

    def test_several_tasks_may_receive(self) -> None:
        """Each task that waits gets an answer: the body once, and the disconnect at the end."""
        events: list[Event] = []
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            tasks = [asyncio.ensure_future(receive()) for _ in range(3)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await reply(send, b"x")
            events.extend(await asyncio.gather(*tasks))
            done.set()

        with wsgi(app) as adapter:
            assert b"x" == ask(adapter, wsgi_environ("POST", body=b"abc")).body
            done.wait()

        assert [b"abc"] == [event["body"] for event in events if event["type"] == "http.request"]
        assert 2 == sum(event["type"] == "http.disconnect" for event in events)

    @pytest.mark.parametrize("failure", ["short", "error"])
    def test_a_body_that_breaks_off_is_a_disconnect(self, failure: str) -> None:
        """When the client leaves before the Content-Length is there, no event says that the body is complete."""

        class Failing(Input):
            def read(self, size: int, /) -> bytes:
                data = super().read(size)
                if not data and failure == "error":
                    raise OSError("client gone")
                return data

        events: list[Event] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            while not events or events[-1].get("more_body", False):
                events.append(await receive())
            await reply(send)

        environ = wsgi_environ("POST", body=Failing(b"abcd", declared=10), CONTENT_LENGTH="10")
        with wsgi(app) as adapter:
            call = Call(adapter, environ)

            def story() -> None:
                try:
                    call.run()
                except Exception as error:
                    call.error = error

            bounded(story)

        assert "http.disconnect" == events[-1]["type"]
        assert b"abcd".startswith(b"".join(event.get("body", b"") for event in events))

    @pytest.mark.parametrize("value", ["abc", "-1", "1, 2"])
    def test_a_length_that_is_no_number_is_not_guessed(self, value: str) -> None:
        """Such a request gets a client error or none of its body; the application never sees a wrong one."""
        stream = Input(b"abcdef", hold=Flag())

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await reply(send, await read_body(receive))

        call = fetch(app, wsgi_environ("POST", body=stream, CONTENT_LENGTH=value))

        assert 400 == call.code
        assert [] == stream.reads


class TestResponseServer:
    """ASGI HTTP, Response Start; Response Body."""

    def test_headers_are_optional(self) -> None:
        """`headers` defaults to none."""
        call = fetch(sending(START, {"type": "http.response.body", "body": b"x"}))

        assert (200, b"x") == (call.code, call.body)

    @pytest.mark.parametrize(
        "headers", [((b"x-a", b"1"),), iter([(b"x-a", b"1")]), [[b"x-a", b"1"]], {b"x-a": b"1"}.items()]
    )
    def test_headers_are_any_iterable_of_pairs(self, headers: Any) -> None:
        """Tuples, lists, iterators: an iterable of two-item iterables."""
        assert ["1"] == fetch(sending({**START, "headers": headers}, END)).header("x-a")

    def test_header_names_may_have_capitals(self) -> None:
        """Applications must send lower case; those that do not are served all the same."""
        headers = [(b"X-Mixed", b"1"), (b"Content-Length", b"1")]

        assert ["1"] == fetch(sending({**START, "headers": headers}, {**END, "body": b"x"})).header("x-mixed")

    def test_body_and_more_body_are_optional(self) -> None:
        """They default to nothing and to the end."""
        call = fetch(sending(START, END))

        assert (b"", True) == (call.body, call.complete)

    def test_bodies_are_concatenated_in_order(self) -> None:
        """Many events make one body."""
        numbers = [b"%d," % number for number in range(500)]

        assert b"".join(numbers) == fetch(sending(START, *map(part, numbers), END)).body

    def test_several_tasks_may_send(self) -> None:
        """Nothing is lost or doubled when tasks of the application send at once, more than is taken at a time."""
        chunks = [b"%d" % number * 50_000 for number in range(10)]

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await asyncio.gather(*(send(part(chunk)) for chunk in chunks))
            await send(END)

        assert sorted(b"".join(chunks)) == sorted(fetch(app).body)

    def test_a_transfer_encoding_is_ignored(self) -> None:
        """An application may send it, a server must not heed it."""
        call = fetch(sending({**START, "headers": [(b"transfer-encoding", b"chunked")]}, {**END, "body": b"x"}))

        assert ([], b"x") == (call.header("transfer-encoding"), call.body)

    def test_the_start_waits_for_a_body(self) -> None:
        """Until the first body event an error still becomes an error response."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            raise AppError

        assert 0 == fetch(app, fails=True).starts

    def test_a_chunk_is_on_its_way_when_send_returns(self) -> None:
        """What was sent reaches the server without a further call of the application."""
        gate = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            await send(part(b"one"))
            await gate.waited()
            await send(END)

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
            call = ask(adapter)
            done.wait()

        assert (b"whole", 1) == (call.body, call.starts)

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_a_response_that_has_no_body_carries_none(self, method: str, status: int) -> None:
        """The application may send one; it goes nowhere, and the headers stay as they are."""
        call = fetch(
            sending(
                {**START, "status": status, "headers": [(b"content-length", b"9")]},
                part(b"some"),
                {**END, "body": b"thing"},
            ),
            wsgi_environ(method),
        )

        assert (status, b"", True) == (call.code, call.body, call.complete)

    def test_more_than_content_length_is_cut(self, log: LogWatch) -> None:
        """The surplus stays out and is logged."""
        call = fetch(
            sending({**START, "headers": [(b"content-length", b"3")]}, part(b"ab"), part(b"cd"), {**END, "body": b"ef"})
        )

        assert b"abc" == call.body
        log.wait_for("Content-Length", level=30)

    @pytest.mark.parametrize("parts", [0, 1])
    def test_less_than_content_length_is_an_error(self, parts: int, log: LogWatch) -> None:
        """A response that ends early is not passed off as a whole one."""
        call = fetch(
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

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
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

        assert b"waiting" == fetch(app).body

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

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
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

        with wsgi(app) as adapter:
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

        with wsgi(app, disconnect_grace=0.05) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                call.next()
                call.close()

            bounded(story)
            done.wait()

        assert ["awaited"] == cleaned


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

        with wsgi(app) as adapter:

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

        with wsgi(app) as adapter:

            def middleware(environ: Environ, start_response: Any) -> Any:
                user.set("bob")
                return adapter(environ, start_response)

            assert b"bob" == ask(middleware).body


# --- AsgiToWsgi as the server: extensions ---------------------------------------------------------------------------


class TestPathSendServer:
    """ASGI Extensions, Path Send."""

    @staticmethod
    def wrapper(file: Any, size: int = 8192) -> Iterator[bytes]:
        """A `wsgi.file_wrapper` of the plainest kind."""
        with file:
            yield from iter(lambda: file.read(size), b"")

    def test_it_is_offered_where_the_server_wraps_files(self) -> None:
        """An empty dict under its name, where there is a `wsgi.file_wrapper`."""
        assert {} == scope_of(wsgi_environ(wsgi__file_wrapper=self.wrapper))["extensions"]["http.response.pathsend"]

    def test_the_file_is_sent(self, tmp_path: Path) -> None:
        """One event after the start sends the file and ends the response."""
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100_000)
        start = {**START, "headers": [(b"content-length", b"100000")]}
        call = fetch(
            sending(start, {"type": "http.response.pathsend", "path": str(path)}),
            wsgi_environ(wsgi__file_wrapper=self.wrapper),
        )

        assert (200, b"x" * 100_000, True) == (call.code, call.body, call.complete)

    def test_it_does_not_mix_with_body_events(self, tmp_path: Path) -> None:
        """After a body event it is an error; what comes after it is ignored."""
        path = tmp_path / "file"
        path.write_bytes(b"file")
        event = {"type": "http.response.pathsend", "path": str(path)}
        raised: list[BaseException] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            if scope["path"] == "/after":
                await send(part(b"body"))
                try:
                    await send(event)
                except ApplicationProtocolError as error:
                    raised.append(error)
            else:
                await send(event)
            await send({**END, "body": b""})

        with wsgi(app) as adapter:
            after = ask(adapter, wsgi_environ(path="/after", wsgi__file_wrapper=self.wrapper))
            alone = ask(adapter, wsgi_environ(wsgi__file_wrapper=self.wrapper))

        assert (1, b"body", b"file") == (len(raised), after.body, alone.body)

    def test_a_file_that_cannot_be_opened_is_an_error(self, tmp_path: Path, log: LogWatch) -> None:
        """The server can answer 500: nothing was sent when it turns out."""
        event = {"type": "http.response.pathsend", "path": str(tmp_path / "nothing")}
        call = fetch(sending(START, event), wsgi_environ(wsgi__file_wrapper=self.wrapper), fails=True)

        assert not call.complete
        log.wait_for("nothing", level=40)

    def test_a_head_request_sends_no_file(self, tmp_path: Path) -> None:
        """The headers go out, the file stays."""
        path = tmp_path / "file"
        path.write_bytes(b"file")
        event = {"type": "http.response.pathsend", "path": str(path)}
        call = fetch(
            sending({**START, "headers": [(b"content-length", b"4")]}, event),
            wsgi_environ("HEAD", wsgi__file_wrapper=self.wrapper),
        )

        assert (["4"], b"") == (call.header("content-length"), call.body)


class TestEarlyHintServer:
    """ASGI Extensions, Early Hints."""

    @staticmethod
    def hinting(*before: Event, middle: Any = ()) -> Any:
        """An app that sends hints at several places."""
        return sending(*before, START, *middle, {**END, "body": b"x"})

    def test_it_is_offered_where_the_server_sends_hints(self) -> None:
        """An empty dict under its name, where there is a `wsgi.early_hints`."""
        assert (
            {}
            == scope_of(wsgi_environ(wsgi__early_hints=lambda headers: None))["extensions"]["http.response.early_hint"]
        )

    def test_links_become_link_headers(self) -> None:
        """Each event, and there may be several, is one call of the server's with its links, in the server's thread."""
        hints: list[Any] = []
        threads: set[int] = set()

        def early_hints(headers: Any) -> None:
            threads.add(threading.get_ident())
            hints.append([(name.lower(), value) for name, value in headers])

        first = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]}
        second = {"type": "http.response.early_hint", "links": [b"</c.png>; rel=preload"]}
        call_threads: list[int] = []

        with wsgi(sending(START, first, second, {**END, "body": b"x"})) as adapter:

            def story() -> bytes:
                call_threads.append(threading.get_ident())
                call = Call(adapter, wsgi_environ(wsgi__early_hints=early_hints))
                call.run()
                return call.body

            assert b"x" == bounded(story)

        assert [
            [("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")],
            [("link", "</c.png>; rel=preload")],
        ] == hints
        assert set(call_threads) == threads

    def test_a_hint_within_the_body_is_no_error(self) -> None:
        """It may be sent until the last body event; once the headers have left, the server may ignore it."""
        hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
        call = fetch(
            sending(START, part(b"a"), hint, {**END, "body": b"b"}),
            wsgi_environ(wsgi__early_hints=lambda headers: None),
        )

        assert b"ab" == call.body

    def test_a_link_that_breaks_the_head_does_not_get_out(self) -> None:
        """Control characters in a link are an error of the application."""
        hints: list[Any] = []
        hint = {"type": "http.response.early_hint", "links": [b"</a>\r\nset-cookie: x"]}
        fetch(sending(START, hint, END), wsgi_environ(wsgi__early_hints=hints.append), fails=True)

        assert [] == hints


class TestTlsServer:
    """ASGI TLS Extension."""

    def test_without_tls_it_is_not_there(self) -> None:
        """A server is forbidden to offer it on a plain connection."""
        assert "tls" not in scope_of().get("extensions", {})

    def test_its_entries_have_their_types(self) -> None:
        """Mandatory entries are there, and each is what the extension says or None."""
        environ = wsgi_environ(
            wsgi__url_scheme="https",
            HTTPS="on",
            SSL_PROTOCOL="TLSv1.3",
            SSL_CIPHER="TLS_AES_128_GCM_SHA256",
            SSL_CLIENT_S_DN="CN=alice",
        )
        tls = scope_of(environ)["extensions"]["tls"]

        assert {"server_cert", "tls_version", "cipher_suite"} <= tls.keys()
        assert 0x0304 == tls["tls_version"]
        assert tls["server_cert"] is None or isinstance(tls["server_cert"], str)
        assert tls["cipher_suite"] is None or isinstance(tls["cipher_suite"], int)
        assert all(isinstance(certificate, str) for certificate in tls.get("client_cert_chain", ()))
        assert tls.get("client_cert_name") in (None, "CN=alice")

    def test_a_client_certificate_is_the_first_of_the_chain(self) -> None:
        """The PEM text that the server has, with its name beside it."""
        pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
        environ = wsgi_environ(
            wsgi__url_scheme="https", SSL_PROTOCOL="TLSv1.2", SSL_CLIENT_CERT=pem, SSL_CLIENT_S_DN="CN=alice"
        )
        tls = scope_of(environ)["extensions"]["tls"]

        assert pem == next(iter(tls["client_cert_chain"]))
        assert (0x0303, "CN=alice") == (tls["tls_version"], tls["client_cert_name"])


class TestTrailersServer:
    """ASGI Extensions, HTTP Trailers."""

    def test_trailers_are_not_offered_and_refused(self) -> None:
        """WSGI has no trailers: the event is an error where it could still be part of the response."""
        raised: list[BaseException] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            assert "http.response.trailers" not in scope.get("extensions", {})
            await send(START)
            await send(part(b"x"))
            try:
                await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
            except ApplicationProtocolError as error:
                raised.append(error)
            await send(END)

        assert b"x" == fetch(app).body
        assert 1 == len(raised)

    def test_a_start_that_announces_trailers_does_not_hang(self) -> None:
        """The response ends with its body although trailers were announced; nobody waits for them."""
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            try:
                await send({**START, "trailers": True})
                await send({**END, "body": b"x"})
                await send({"type": "http.response.trailers", "headers": []})
            finally:
                done.set()

        with wsgi(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                try:
                    call.run()
                except ApplicationProtocolError as error:
                    call.error = error

            bounded(story)
            done.wait()

        assert call.complete or call.error is not None


# --- WsgiToAsgi as the application ----------------------------------------------------------------------------------


class TestApplicationsApplication:
    """ASGI, Applications; Connection Scope; Middleware."""

    def test_it_is_one_async_callable(self) -> None:
        """Called with scope, receive and send, and awaited; servers that look find a coroutine function."""
        adapter = WsgiToAsgi(simple(b"x"))

        assert asyncio.iscoroutinefunction(type(adapter).__call__)
        adapter.close()

    def test_a_protocol_it_does_not_know_is_rejected(self) -> None:
        """An unknown scope type raises, so that the server does not take it for supported."""

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, Request({"type": "carrier.pigeon"}, []), fails=True) as exchange:
                pass
            return exchange

        assert [] == play(simple(b"x"), story).sent

    def test_the_scope_is_left_as_it_is(self) -> None:
        """Nothing leaks upstream: the server's scope is not changed."""
        request = post(b"abc", headers=[(b"cookie", b"a=1")], root_path="/", extensions={"http.response.pathsend": {}})
        before = copy.deepcopy(request.scope)
        serve(simple(b"x"), request)

        assert before == request.scope

    def test_receive_and_send_need_not_be_coroutine_functions(self) -> None:
        """Any awaitable will do; the scripted server never returns a coroutine."""
        exchange = serve(simple(b"x"), post(b"abc"))

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

        assert b"x" == serve(simple(b"x"), Request(request.scope, events)).body

    def test_an_invalid_event_is_an_error(self, log: LogWatch) -> None:
        """An event from `receive` that has no place in a request raises, and is not taken for a body."""
        request = Request(post(b"abc").scope, [{"type": "websocket.receive", "bytes": b"abc"}])
        exchange = serve(simple(b"x"), request, fails=True)

        assert [] == exchange.sent


class TestScopeApplication:
    """ASGI HTTP, HTTP Connection Scope; WSGI Compatibility; WSGI encoding differences."""

    def test_the_scope_becomes_the_environ(self) -> None:
        """Each key has the place that the specification's own table gives it."""
        request = get(
            "/app/x",
            method="PUT",
            root_path="/app",
            query_string=b"a=1",
            scheme="https",
            http_version="2",
            client=("::1", 5),
        )
        environ = environ_of(request)

        assert {
            "REQUEST_METHOD": "PUT",
            "SCRIPT_NAME": "/app",
            "PATH_INFO": "/x",
            "QUERY_STRING": "a=1",
            "SERVER_NAME": "192.0.2.1",
            "SERVER_PORT": "8000",
            "REMOTE_ADDR": "::1",
            "REMOTE_PORT": "5",
            "SERVER_PROTOCOL": "HTTP/2",
            "wsgi.url_scheme": "https",
        }.items() <= environ.items()

    def test_header_names_have_no_case(self) -> None:
        """Servers should lower them but need not."""
        environ = environ_of(post(b"abc", headers=[(b"Content-Type", b"text/plain"), (b"X-A", b"1")]))

        assert ("text/plain", "1") == (environ["CONTENT_TYPE"], environ["HTTP_X_A"])
        assert "HTTP_CONTENT_TYPE" not in environ

    @pytest.mark.parametrize("form", [list, tuple, iter])
    def test_headers_are_any_iterable_of_pairs(self, form: Any) -> None:
        """An iterable of two-item iterables."""
        request = get()
        scope = {**request.scope, "headers": form([[b"host", b"example.test"], (b"x-a", b"1")])}

        assert "1" == environ_of(Request(scope, request.events))["HTTP_X_A"]

    def test_cookies_of_several_headers_are_one(self) -> None:
        """HTTP/2 may split the Cookie header; it is joined by `; `."""
        cookies = [(b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]

        assert "a=1; b=2; c=3" == environ_of(get(headers=cookies, http_version="2"))["HTTP_COOKIE"]

    def test_the_target_as_it_was_sent_is_kept(self) -> None:
        """`raw_path` and the query make REQUEST_URI and RAW_URI."""
        environ = environ_of(get("/a/b", raw_path=b"/a%2Fb", query_string=b"q=%2F"))

        assert ("/a%2Fb?q=%2F", "/a%2Fb?q=%2F") == (environ["REQUEST_URI"], environ["RAW_URI"])

    def test_the_state_reaches_the_environ(self) -> None:
        """The request's copy of the lifespan's namespace is `bridge.state`."""
        assert {"pool": 1} == environ_of(get(state={"pool": 1}))["bridge.state"]


class TestRequestApplication:
    """ASGI HTTP, Request."""

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
    def test_a_request_that_cannot_have_a_body_is_not_asked_for_one(self, method: str) -> None:
        """Without Content-Length and Transfer-Encoding an HTTP/1 request has no body: `receive()` is not called."""
        assert 0 == serve(simple(b"x"), get(method=method)).received

    def test_a_length_of_zero_is_no_body(self) -> None:
        """Content-Length 0 says that there is nothing to ask for."""
        assert 0 == serve(simple(b"x"), post(b"")).received

    def test_a_body_is_asked_for_and_no_more(self) -> None:
        """A short request with a body in two events takes two calls of `receive()`."""
        assert 2 == serve(simple(b"x"), post(b"ab", b"cd")).received

    def test_body_and_more_body_are_optional(self) -> None:
        """They default to nothing and to the end."""
        request = post(b"abc", length=None)
        body: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            body.append(environ["wsgi.input"].read())
            start_response("200 OK", [])
            return []

        serve(
            app,
            Request(
                request.scope, [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request"}]
            ),
        )

        assert [b"ab"] == body

    @pytest.mark.parametrize("collect", [2**20, 1], ids=["collected", "streamed"])
    def test_pieces_are_concatenated(self, collect: int) -> None:
        """Empty pieces in between, and an empty last one, change nothing."""
        body: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            body.append(environ["wsgi.input"].read())
            start_response("200 OK", [])
            return []

        serve(app, post(b"", b"ab", b"", b"cd", b""), collect=collect)

        assert [b"abcd"] == body


class TestResponseApplication:
    """ASGI HTTP, Response Start; Response Body."""

    def test_one_start_then_bodies_then_the_end(self) -> None:
        """The order and the types of the events; the scripted server notes every fault."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("201 Created", [("X-Mixed", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b")])
            yield b"a"
            yield b""
            yield b"b"

        exchange = serve(app)

        assert (201, b"ab", True) == (exchange.status, exchange.body, exchange.complete)
        assert [(b"x-mixed", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b")] == exchange.headers

    def test_the_reason_is_dropped(self) -> None:
        """`status` is the integer."""
        assert 404 == serve(simple(b"x", status="404 No Such Thing")).status

    def test_the_start_always_has_headers(self) -> None:
        """The key is optional in the specification and missed by some servers."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"x"

        assert [] == serve(app).sent[0]["headers"]

    def test_nothing_is_sent_after_the_end(self) -> None:
        """An application that kept `write` cannot add to a response that is over."""
        kept: list[Any] = []
        request = get()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            kept.append(start_response("200 OK", []))
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, request) as exchange:
                pass
            with contextlib.suppress(ApplicationProtocolError, OSError):
                await asyncio.to_thread(kept[0], b"too late")
            async with opened(adapter, get()):
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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, get(), slow) as exchange:
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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
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
            async with opened(adapter, get()) as exchange:
                await asked.waited()
                exchange.disconnect()
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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async def broken(sent: Event) -> None:
                after.append(sent["type"])
                if sent["type"] == event:
                    raise ConnectionResetError("client gone")

            exchange = Exchange(adapter, get(), broken)
            exchange.task = asyncio.create_task(exchange.run())
            await exchange.task
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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            exchange = Exchange(adapter, Request(request.scope, [*request.events, {"type": "http.disconnect"}]))
            exchange.task = asyncio.create_task(exchange.run())
            await exchange.task
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
            exchange = Exchange(adapter, get())
            exchange.task = asyncio.create_task(exchange.run())
            await exchange.until(lambda: exchange.body)
            exchange.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await exchange.task
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
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await closed.waited()

        play(app, story)

        assert [] == log.at(30)


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
                await adapter(get().scope, None, drop)
            seen.append(user.get())

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
            async with opened(adapter, get()):
                pass

        play(app, story)

        assert ["bob"] * 3 == seen


class TestPathSendApplication:
    """ASGI Extensions, Path Send."""

    @staticmethod
    def file_app(path: Path, *headers: tuple[str, str]) -> Any:
        """A WSGI app that returns the file in the server's wrapper."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "image/png"), *headers])
            return environ["wsgi.file_wrapper"](path.open("rb"))

        return app

    def test_a_whole_file_is_left_to_the_server(self, tmp_path: Path) -> None:
        """One event with the absolute path after a start with Content-Length, and no body event beside it."""
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100_000)
        exchange = serve(self.file_app(path), get(extensions={"http.response.pathsend": {}}))

        assert ["http.response.start", "http.response.pathsend"] == [event["type"] for event in exchange.sent]
        assert str(path) == exchange.sent[1]["path"]
        assert [b"100000"] == exchange.header(b"content-length")
        assert [b"image/png"] == exchange.header(b"content-type")

    @pytest.mark.parametrize("extensions", [{}, None, MISSING])
    def test_it_is_not_used_unless_it_is_offered(self, tmp_path: Path, extensions: Any) -> None:
        """Without the entry in the scope the file is sent as a body."""
        path = tmp_path / "file"
        path.write_bytes(b"data")

        assert b"data" == serve(self.file_app(path), get(extensions=extensions)).body

    def test_a_part_of_a_file_is_sent_as_a_body(self, tmp_path: Path) -> None:
        """The extension knows no range, so a Content-Length below the size goes the plain way."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        exchange = serve(self.file_app(path, ("Content-Length", "4")), get(extensions={"http.response.pathsend": {}}))

        assert b"0123" == exchange.body


class TestTlsApplication:
    """ASGI TLS Extension."""

    def test_what_the_extension_knows_is_in_the_environ(self) -> None:
        """Version, cipher and the client's certificate, under the names of Apache's variables."""
        pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
        tls = {
            "server_cert": None,
            "client_cert_chain": [pem],
            "client_cert_name": "CN=alice",
            "client_cert_error": None,
            "tls_version": 0x0303,
            "cipher_suite": 0x1301,
        }
        environ = environ_of(get(scheme="https", extensions={"tls": tls}))

        assert ("on", "TLSv1.2", pem, "CN=alice") == tuple(
            environ[key] for key in ("HTTPS", "SSL_PROTOCOL", "SSL_CLIENT_CERT", "SSL_CLIENT_S_DN")
        )

    def test_the_smallest_form_is_enough(self) -> None:
        """The optional entries may be missing, the mandatory ones None."""
        tls = {"server_cert": None, "tls_version": None, "cipher_suite": None}
        environ = environ_of(get(scheme="https", extensions={"tls": tls}))

        assert "on" == environ["HTTPS"]
        assert [] == [key for key, value in environ.items() if key.startswith("SSL_") and type(value) is not str]

    def test_without_tls_there_is_none_in_the_environ(self) -> None:
        """A plain connection has no SSL_ variables."""
        assert [] == [key for key in environ_of() if key.startswith(("SSL_", "HTTPS"))]


class TestWebSocketApplication:
    """ASGI WebSocket, Connect; Close; Extensions, Websocket Denial Response."""

    @staticmethod
    def deny(**changes: Any) -> list[Event]:
        """What is sent to a WebSocket client."""

        async def story(adapter: WsgiToAsgi) -> list[Event]:
            scope = get("/ws", type="websocket", scheme="ws", method=MISSING, subprotocols=[], **changes).scope
            async with opened(adapter, Request(scope, [{"type": "websocket.connect"}])) as exchange:
                pass
            assert exchange.received >= 1
            return exchange.sent

        return play(simple(b"x"), story)

    def test_a_handshake_is_denied(self) -> None:
        """`websocket.close` before the accept, after the connect was received: the client gets 403."""
        assert ["websocket.close"] == [event["type"] for event in self.deny()]

    def test_a_handshake_is_denied_with_a_response_where_offered(self) -> None:
        """With the extension the client gets a response that says what is wrong."""
        events = self.deny(extensions={"websocket.http.response": {}})

        assert ["websocket.http.response.start", "websocket.http.response.body"] == [event["type"] for event in events]
        assert 400 <= events[0]["status"] < 600
