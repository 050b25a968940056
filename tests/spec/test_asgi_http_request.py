"""ASGI HTTP and WebSocket: the connection scope and the request; see `test_asgi.py` for the classes."""

import asyncio
from typing import Any

import pytest

from bridge import WsgiToAsgi
from spec.harness import (
    MISSING,
    Call,
    EndlessInput,
    Environ,
    Event,
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
from support.waiting import Flag, bounded
from support.wsgi_apps import simple


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

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_request_that_cannot_have_a_body_is_not_asked_for_one(self, method: str) -> None:
        """Without a sign of a body an HTTP/1 request of these methods has none: `receive()` is not called."""
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
