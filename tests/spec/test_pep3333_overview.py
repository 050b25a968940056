"""PEP 3333, Specification Overview, A Note On String Types, and Specification Details.

In a class `...Server` `WsgiToAsgi` is the server; in a class `...Application` `AsgiToWsgi` is the application.
"""

import asyncio
import functools
import io
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge.errors import ApplicationProtocolError
from spec.harness import environ_of, play, serve_on_asgi, serve_on_wsgi, wsgi_environ
from support.asgi_apps import asgi, read_body, reply
from support.failures import AppError
from support.scripted_asgi_server import Environ, Event, Request, get, opened, post
from support.scripted_wsgi_server import Call, adapted, ask
from support.waiting import Flag, LogWatch, bounded
from support.wsgi_apps import Chunks, simple


class TestOverviewServer:
    """PEP 3333, Specification Overview."""

    @pytest.mark.parametrize("kind", ["function", "method", "class", "instance", "partial", "opaque"])
    def test_any_kind_of_callable_is_an_application(self, kind: str) -> None:
        """A function, a method, a class, an instance with `__call__`, a partial: all are called alike."""

        class App:
            def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
                start_response("200 OK", [])
                return [b"here"]

            method = __call__

        class ClassApp:
            def __init__(self, environ: Environ, start_response: Any) -> None:
                self.start = start_response

            def __iter__(self) -> Iterator[bytes]:
                self.start("200 OK", [])
                yield b"here"

        class Opaque(App):
            def __call__(self, *args: Any) -> list[bytes]:
                return super().__call__(*args)

        instance = App()
        apps: dict[str, Any] = {
            "function": simple(b"here"),
            "method": instance.method,
            "class": ClassApp,
            "instance": instance,
            "partial": functools.partial(lambda extra, environ, start: instance(environ, start), "extra"),
            "opaque": Opaque(),
        }

        assert b"here" == serve_on_asgi(apps[kind]).body

    def test_the_application_is_called_once_for_each_request(self) -> None:
        """One call a request, as often as requests come."""
        calls: list[str] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            calls.append(environ["PATH_INFO"])
            start_response("200 OK", [])
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> None:
            for path in ("/1", "/2", "/3"):
                async with opened(adapter, *get(path)):
                    pass

        play(app, story)

        assert ["/1", "/2", "/3"] == calls

    @pytest.mark.parametrize("bad", [None, 5, "app", lambda: None, lambda scope, receive, send: None])
    def test_what_is_no_application_is_refused_at_construction(self, bad: Any) -> None:
        """What cannot be called with two positional arguments is a `TypeError` before the first request."""
        with pytest.raises(TypeError):
            WsgiToAsgi(bad)


class TestStringsServer:
    """PEP 3333, A Note On String Types; Unicode Issues."""

    def test_strings_are_native_and_latin_1(self) -> None:
        """Each CGI variable is a `str` of code points up to U+00FF, whatever bytes the client sent."""
        request = get(
            "/caf\u00e9/\u20ac",
            headers=[(b"x-name", b"J\xc3\xb6rg \xff")],
            query_string=b"q=\xe9&r=%E9",
            root_path="/m\u00fcller",
        )
        environ = environ_of(request)
        cgi = {key: value for key, value in environ.items() if key.isupper()}

        assert {key: type(value) for key, value in cgi.items()} == dict.fromkeys(cgi, str)
        assert [key for key, value in cgi.items() if max(value, default="") > "\xff"] == []
        assert "J\u00c3\u00b6rg \xff" == cgi["HTTP_X_NAME"]
        assert "q=\xe9&r=%E9" == cgi["QUERY_STRING"]

    def test_paths_are_the_utf_8_bytes_in_native_strings(self) -> None:
        """PATH_INFO and SCRIPT_NAME carry the bytes of the URL, one code point a byte."""
        environ = environ_of(get("/app/caf\u00e9", root_path="/app"))

        assert "/app" == environ["SCRIPT_NAME"]
        assert "/caf\u00e9" == environ["PATH_INFO"].encode("latin-1").decode()

    @pytest.mark.parametrize("chunk", ["text", bytearray(b"x"), 7, None])
    def test_a_chunk_that_is_not_bytes_is_refused(self, chunk: Any, log: LogWatch) -> None:
        """What the application yields must be `bytes`; anything else fails the request."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            yield chunk

        exchange = serve_on_asgi(app, fails=True)

        assert not exchange.started
        assert isinstance(exchange.error, ApplicationProtocolError)
        log.wait_for("bytes", level=30)

    @pytest.mark.parametrize(
        ("status", "headers"),
        [("200 \u20ac", []), ("200 OK", [("X-A", "\u20ac")]), ("200 OK", [("X-\u20ac", "a")])],
    )
    def test_a_string_beyond_latin_1_is_refused(self, status: str, headers: Any) -> None:
        """Status and headers beyond ISO-8859-1 are a fatal error of the application."""
        exchange = serve_on_asgi(simple(b"x", status=status, headers=headers), fails=True)

        assert not exchange.started

    def test_a_latin_1_header_value_is_sent_as_its_bytes(self) -> None:
        """A header value is one byte a code point."""
        exchange = serve_on_asgi(simple(b"x", headers=[("X-Name", "J\xf6rg")]))

        assert [b"J\xf6rg"] == exchange.header(b"x-name")


class TestDetailsServer:
    """PEP 3333, Specification Details."""

    def test_the_arguments_are_positional(self) -> None:
        """The application may call its two arguments what it likes."""

        def app(e: Environ, s: Any, /) -> list[bytes]:
            s("200 OK", [])
            return [b"x"]

        assert b"x" == serve_on_asgi(app).body

    def test_environ_is_a_dict_that_the_application_may_change(self) -> None:
        """A builtin `dict`; what the application does to it reaches neither the scope nor the next request."""
        seen: list[Environ] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            assert type(environ) is dict
            seen.append(dict(environ))
            environ.clear()
            start_response("200 OK", [])
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> None:
            for _ in range(2):
                request = get("/same")
                before = dict(request.scope)
                async with opened(adapter, *request):
                    pass
                assert before == request.scope

        play(app, story)

        assert seen[0]["PATH_INFO"] == seen[1]["PATH_INFO"]

    @pytest.mark.parametrize("kind", ["list", "tuple", "generator", "iterator", "sequence protocol", "set"])
    def test_any_iterable_is_a_body(self, kind: str) -> None:
        """Lists, tuples, generators, iterators, and objects with only `__getitem__`."""

        class Old:
            def __getitem__(self, index: int) -> bytes:
                return [b"a", b"b"][index]

        bodies: dict[str, Any] = {
            "list": [b"a", b"b"],
            "tuple": (b"a", b"b"),
            "generator": (chunk for chunk in (b"a", b"b")),
            "iterator": iter([b"a", b"b"]),
            "sequence protocol": Old(),
            "set": {b"ab"},
        }

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            return bodies[kind]

        exchange = serve_on_asgi(app)

        assert b"ab" == exchange.body
        assert exchange.complete

    @pytest.mark.parametrize("body", [[], (), iter(()), [b""], [b"", b""]])
    def test_no_bytes_at_all_is_a_response(self, body: Any) -> None:
        """An iterable of zero bytestrings still sends the headers and the end."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("302 Found", [("Location", "/x")])
            return body

        exchange = serve_on_asgi(app)

        assert (302, b"", True) == (exchange.status, exchange.body, exchange.complete)

    @pytest.mark.parametrize("body", [None, 5, object()])
    def test_what_is_no_iterable_is_an_error(self, body: Any) -> None:
        """The application must return an iterable; what is none fails the request, before anything was sent."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            return body

        assert not serve_on_asgi(app, fails=True).started

    def test_bytes_are_not_altered(self) -> None:
        """Each byte value and each line ending arrives as it was yielded."""
        body = bytes(range(256)) + b"\r\n\n\r"

        assert body == serve_on_asgi(simple(body)).body
        assert body == serve_on_asgi(simple(body[:100], body[100:])).body

    def test_a_chunk_is_sent_before_the_next_is_asked_for(self) -> None:
        """A yielded bytestring reaches the server while the application still works on the next."""
        gate = Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"one"
            gate.wait()
            yield b"two"

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *get()) as exchange:
                await exchange.until(lambda: exchange.body == b"one")
                assert not exchange.complete
                gate.set()
            return exchange

        assert b"onetwo" == play(app, story).body

    def test_the_iterable_is_not_consumed_ahead_of_the_client(self) -> None:
        """While the server takes nothing more, the application is asked for a bounded number of chunks."""
        pulled_all, blocked = Flag(), Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for _ in range(64):
                yield bytes(2**20)
            pulled_all.set()

        async def story(adapter: WsgiToAsgi) -> Request:
            opening = asyncio.Event()

            async def slow(event: Event) -> None:
                blocked.set()
                await opening.wait()

            async with opened(adapter, *get(), slow) as exchange:
                await blocked.waited()
                assert not await asyncio.to_thread(pulled_all.comes)
                opening.set()
            return exchange

        assert 64 * 2**20 == len(play(app, story).body)

    def test_close_is_called_after_a_whole_response(self) -> None:
        """`close()` runs once, in the thread that ran the application, before the request is over."""
        chunks = Chunks([b"a", b"b"])
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> Chunks:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return chunks

        serve_on_asgi(app)

        assert threads == chunks.closings

    def test_close_is_called_after_an_error_of_the_iteration(self, log: LogWatch) -> None:
        """`close()` runs once when the iteration raises."""
        chunks = Chunks([b"a", AppError("broken")])
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> Chunks:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return chunks

        exchange = serve_on_asgi(app, fails=True)

        assert threads == chunks.closings
        assert isinstance(exchange.error, AppError)

    def test_close_is_called_when_the_client_leaves(self) -> None:
        """An early disconnect of the browser ends the iteration; `close()` runs once in the application's thread."""
        threads: list[int] = []

        class Endless(Chunks):
            def __next__(self) -> bytes:
                return b"tick" * 1000

        chunks = Endless([])

        def app(environ: Environ, start_response: Any) -> Chunks:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return chunks

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.leave()
                await chunks.closed.waited()
            return exchange

        exchange = play(app, story)

        assert threads == chunks.closings
        assert not exchange.complete

    def test_close_is_called_when_start_response_never_was(self) -> None:
        """`close()` runs for an iterable whose application forgot `start_response`."""
        chunks = Chunks([b"a"])

        exchange = serve_on_asgi(lambda environ, start_response: chunks, fails=True)

        assert 1 == len(chunks.closings)
        assert isinstance(exchange.error, ApplicationProtocolError)
        assert not exchange.started

    def test_close_is_called_when_nothing_may_be_sent(self) -> None:
        """`close()` runs for a response to HEAD as for any other."""
        chunks = Chunks([b"a", b"b"])

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return chunks

        serve_on_asgi(app, get(method="HEAD"))

        assert 1 == len(chunks.closings)

    def test_an_error_of_close_is_logged(self, log: LogWatch) -> None:
        """What `close()` raises is logged with its traceback, and the next request is served."""

        class Broken(Chunks):
            def close(self) -> None:
                super().close()
                raise AppError("close failed")

        chunks = Broken([b"a", b"b"])

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            return chunks if environ["PATH_INFO"] == "/broken" else [b"fine"]

        async def story(adapter: WsgiToAsgi) -> Request:
            broken = Request(adapter, *get("/broken"))
            await broken.run()
            async with opened(adapter, *get()) as exchange:
                pass
            return exchange

        assert b"fine" == play(app, story).body
        assert 1 == len(chunks.closings)
        assert "AppError" in log.wait_for("close failed", level=40)

    def test_start_response_may_wait_for_the_first_iteration(self) -> None:
        """The headers may come with the first `next()`; they are not expected before."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("201 Created", [])
            yield b"x"

        exchange = serve_on_asgi(app)

        assert (201, b"x") == (exchange.status, exchange.body)

    def test_only_the_iterator_protocol_and_close_are_used(self) -> None:
        """No other attribute of the iterable is looked at."""
        names: set[str] = set()

        class Shy:
            def __getattribute__(self, name: str) -> Any:
                names.add(name)
                return super().__getattribute__(name)

            def __iter__(self) -> Iterator[bytes]:
                return iter([b"x"])

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            return Shy()

        serve_on_asgi(app)

        assert names <= {"close", "__class__"}

    def test_the_length_of_an_iterable_is_believed(self) -> None:
        """One bytestring in a list of one: the Content-Length follows from it, and nothing is lost."""
        exchange = serve_on_asgi(simple(b"hello"))

        assert [b"5"] == exchange.header(b"content-length")
        assert b"hello" == exchange.body

    def test_the_standard_library_finds_nothing_wrong(self) -> None:
        """`wsgiref.validate` between us and the application passes for GET, HEAD, and a POST that is read."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            body = environ["wsgi.input"].read(10)
            lines = list(environ["wsgi.input"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [body, *lines]

        for request in (get(), get(method="HEAD"), post(b"one\ntwo\nthree\nfour")):
            assert 200 == serve_on_asgi(validator(app), request).status


class TestDetailsApplication:
    """PEP 3333, Specification Details."""

    def test_it_is_a_callable_of_two_positional_arguments(self) -> None:
        """The adapter is called as any WSGI application, again and again."""
        with adapted(asgi(b"x")) as adapter:
            assert [b"x", b"x"] == [ask(adapter).body, ask(adapter).body]

    def test_it_returns_an_iterable_of_bytes(self) -> None:
        """Bytestrings, concatenating to what the ASGI app sent."""
        body = bytes(range(256))

        assert body + b"end" == serve_on_wsgi(asgi(body, b"", b"end")).body

    @pytest.mark.usefixtures("heads_wait_for_bodies")
    def test_a_small_response_is_a_list_of_one(self) -> None:
        """What is there as a whole is returned as the single-element list that the PEP recommends."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"hello", headers=[(b"content-type", b"text/plain")])

        call = serve_on_wsgi(app)

        assert [b"hello"] == call.result
        assert list is type(call.result)

    def test_start_response_is_called_once_and_before_the_body(self) -> None:
        """One positional call, made before the application returns."""
        with adapted(asgi(b"a", b"b")) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                assert 1 == call.starts
                while call.next():
                    pass
                call.close()

            bounded(story)

        assert (1, b"ab") == (call.starts, call.body)

    def test_each_chunk_is_yielded_when_it_is_there(self) -> None:
        """A stream is not collected: the first chunk is out while the ASGI app has not produced the next."""
        gate = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await gate.waited()
            await send({"type": "http.response.body", "body": b"two"})

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                assert b"one" == call.next()
                gate.set()
                assert b"two" == call.next()
                assert call.next() is None
                call.close()

            bounded(story)

    def test_a_working_len_is_accurate(self) -> None:
        """Where `len()` works, it is the number of bytestrings."""
        for app in (asgi(), asgi(b"a"), asgi(b"a", b"b")):
            with adapted(app) as adapter:
                call = Call(adapter, wsgi_environ())
                bounded(call.call)
                chunks = bounded(lambda call=call: list(call.iterator))
                bounded(call.close)

            if hasattr(call.result, "__len__"):
                assert len(call.result) == len(chunks)

    def test_it_is_an_iterator_to_its_end(self) -> None:
        """After the end `next()` goes on to say so, and `close()` may be called twice."""
        with adapted(asgi(b"a", b"b")) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.run()
                assert call.complete
                assert "end" == next(call.iterator, "end")
                call.close()

            bounded(story)

    def test_the_server_may_close_it_early(self) -> None:
        """`close()` before the end returns, and the ASGI app hears of it."""
        heard = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            assert "http.disconnect" == (await receive())["type"]
            heard.set()

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                assert b"first" == call.next()
                call.close()

            bounded(story)
            heard.wait()

    def test_it_may_be_closed_before_it_was_iterated(self) -> None:
        """A server that wants no body closes at once; nothing stays behind."""
        ended = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await send({"type": "http.response.start", "status": 200})
                while True:
                    await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
            finally:
                ended.set()

        with adapted(app, disconnect_grace=0.05) as adapter:
            call = Call(adapter, wsgi_environ())
            bounded(call.call)
            bounded(call.close)
            ended.wait()

    def test_the_environ_of_the_server_is_left_as_it_is(self) -> None:
        """Nothing of the request is taken out of the environ or changed in it."""
        environ = wsgi_environ("POST", "/x", b"abc", {"X-A": "1"})
        before = dict(environ)
        serve_on_wsgi(asgi(b"x"), environ)

        assert before == {key: environ[key] for key in before}

    def test_the_standard_library_finds_nothing_wrong(self) -> None:
        """`wsgiref.validate` between the server and us passes for GET, HEAD, and a POST that is read."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            body = await read_body(receive)
            await reply(send, body, headers=[(b"content-type", b"text/plain")])

        async def stream(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            for _ in range(3):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await send({"type": "http.response.body"})

        def check(adapter: Any, environ: Environ) -> None:
            environ["wsgi.input"] = io.BytesIO(b"abc")
            environ["CONTENT_LENGTH"] = "3" if environ["REQUEST_METHOD"] == "POST" else ""
            result = validator(adapter)(environ, lambda status, headers, exc_info=None: lambda data: None)
            for _ in result:
                pass
            result.close()

        for inner in (app, stream):
            with adapted(inner) as adapter:
                for method in ("GET", "HEAD", "POST"):
                    bounded(lambda adapter=adapter, method=method: check(adapter, wsgi_environ(method)))


class TestOverviewApplication:
    """PEP 3333, Specification Overview."""

    @pytest.mark.parametrize("bad", [None, 5, "app", lambda: None, lambda environ, start_response: []])
    def test_what_is_no_asgi_application_is_refused_at_construction(self, bad: Any) -> None:
        """What cannot be called with three positional arguments is a `TypeError` before the first request."""
        with pytest.raises(TypeError):
            AsgiToWsgi(bad)
