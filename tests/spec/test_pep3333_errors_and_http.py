"""PEP 3333, Error Handling, Other HTTP Features, and the notes up to file wrappers; see `test_pep3333_overview.py`."""

import asyncio
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import request_uri

import pytest

from bridge import WsgiToAsgi
from spec.harness import environ_of, play, serve_on_asgi, serve_on_wsgi, wsgi_environ
from support.failures import AppError
from support.patience import PATIENCE
from support.scripted_asgi_server import Environ, Request, get, opened, post
from support.scripted_wsgi_server import Call, adapted, ask
from support.waiting import Flag, LogWatch, bounded
from support.wsgi_apps import Chunks, simple


class TestErrorsServer:
    """PEP 3333, Error Handling."""

    @pytest.mark.parametrize("when", ["before start_response", "after start_response", "at the first iteration"])
    def test_an_error_before_the_headers_is_logged_and_nothing_is_sent(self, when: str, log: LogWatch) -> None:
        """The server gets the application's exception with nothing on the wire, so that it can answer 500."""

        def app(environ: Environ, start_response: Any) -> Any:
            if when == "before start_response":
                raise AppError("early")
            start_response("200 OK", [("Content-Length", "5")])
            if when == "after start_response":
                raise AppError("early")
            return Chunks([AppError("early")])

        exchange = serve_on_asgi(app, fails=True)

        assert isinstance(exchange.error, AppError)
        assert [] == exchange.sent
        assert "Traceback" in log.wait_for("early", level=40)

    def test_an_error_after_the_headers_is_logged_and_aborts(self, log: LogWatch) -> None:
        """Half a response is never ended as if it were whole."""
        exchange = serve_on_asgi(
            lambda environ, start: start("200 OK", []) and Chunks([b"half", AppError("late")]), fails=True
        )

        assert isinstance(exchange.error, AppError)
        assert (b"half", False) == (exchange.body, exchange.complete)
        assert "Traceback" in log.wait_for("late", level=40)

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
    def test_no_error_of_an_application_ends_the_server(self, error: BaseException, log: LogWatch) -> None:
        """An exception that is no `Exception` is one more failed request: logged, and the next request is served."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            if environ["PATH_INFO"] == "/bad":
                raise error
            start_response("200 OK", [])
            return [b"fine"]

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *get("/bad"), fails=True) as exchange:
                pass
            assert not exchange.started
            async with opened(adapter, *get()) as exchange:
                pass
            return exchange

        assert b"fine" == play(app, story).body
        log.wait_for(type(error).__name__, level=40)

    def test_an_error_does_not_cost_a_thread(self) -> None:
        """After many failures with one thread the next request is served."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            if environ["PATH_INFO"] == "/bad":
                raise AppError
            start_response("200 OK", [])
            return [b"fine"]

        async def story(adapter: WsgiToAsgi) -> Request:
            for _ in range(20):
                async with opened(adapter, *get("/bad"), fails=True):
                    pass
            async with opened(adapter, *get()) as exchange:
                pass
            return exchange

        assert b"fine" == play(app, story, threads=1).body


class TestOtherHttpServer:
    """PEP 3333, HTTP 1.1 Expect/Continue; Other HTTP Features; Thread Support."""

    def test_the_body_of_an_expect_request_is_asked_for(self) -> None:
        """The ASGI server sends `100 Continue` when its `receive()` is called, which reading the body does."""
        body: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            body.append(environ["wsgi.input"].read())
            start_response("200 OK", [])
            return []

        exchange = serve_on_asgi(app, post(b"abc", headers=[(b"expect", b"100-continue")]))

        assert [b"abc"] == body
        assert exchange.received >= 1

    @pytest.mark.parametrize(
        ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
    )
    @pytest.mark.parametrize("kind", ["list", "generator", "write"])
    def test_a_response_that_has_no_body_carries_none(self, method: str, status: str, kind: str) -> None:
        """Responses to HEAD, 204 and 304 have no body, whatever the application gives."""

        def app(environ: Environ, start_response: Any) -> Any:
            write = start_response(status, [("ETag", '"1"')])
            if kind == "write":
                write(b"body")
                return []
            return [b"body"] if kind == "list" else iter([b"bo", b"dy"])

        exchange = serve_on_asgi(app, get(method=method))

        assert (int(status[:3]), b"", True) == (exchange.status, exchange.body, exchange.complete)
        assert [b'"1"'] == exchange.header(b"etag")

    def test_the_length_of_a_head_response_is_left_alone(self) -> None:
        """HEAD may say the length of what GET would send."""
        exchange = serve_on_asgi(simple(headers=[("Content-Length", "1234")]), get(method="HEAD"))

        assert ([b"1234"], b"", True) == (exchange.header(b"content-length"), exchange.body, exchange.complete)

    def test_the_application_rules_its_output(self) -> None:
        """Cache, range and encoding headers, requests and responses both, pass through untouched."""
        request_headers = [(b"if-none-match", b'"1"'), (b"range", b"bytes=0-1"), (b"accept-encoding", b"gzip")]
        response_headers = [("ETag", '"2"'), ("Content-Range", "bytes 0-1/9"), ("Content-Encoding", "gzip")]
        seen: list[Environ] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            seen.append(environ)
            start_response("206 Partial Content", response_headers)
            return [b"\x1f\x8b"]

        exchange = serve_on_asgi(app, get(headers=request_headers))

        assert ('"1"', "bytes=0-1", "gzip") == tuple(
            seen[0][key] for key in ("HTTP_IF_NONE_MATCH", "HTTP_RANGE", "HTTP_ACCEPT_ENCODING")
        )
        assert (206, b"\x1f\x8b") == (exchange.status, exchange.body)
        assert [(name.lower().encode(), value.encode()) for name, value in response_headers] == exchange.headers[:3]

    @pytest.mark.parametrize("stream", [False, True], ids=["collected", "streamed"])
    def test_a_chunked_body_is_there_to_be_read(self, stream: bool) -> None:
        """An inbound transfer encoding is gone: the application finds the end, by length or by itself."""
        found: list[Any] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            found.extend(
                [environ.get("CONTENT_LENGTH"), environ["wsgi.input_terminated"], environ["wsgi.input"].read()]
            )
            start_response("200 OK", [])
            return []

        serve_on_asgi(app, post(b"abc", b"def", length=None), stream_chunked=stream)

        assert [None if stream else "6", True, b"abcdef"] == found

    def test_one_thread_runs_one_request_at_a_time(self) -> None:
        """`threads=1` is the single-threaded fashion for applications that need it, and `wsgi.multithread` says so."""
        running: list[str] = []
        most: list[int] = []
        flags: list[Any] = []

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            flags.append(environ["wsgi.multithread"])
            running.append("x")
            start_response("200 OK", [])
            yield b"a"
            most.append(len(running))
            yield b"b"
            running.pop()

        async def story(adapter: WsgiToAsgi) -> None:
            async def one() -> None:
                async with opened(adapter, *get()):
                    pass

            await asyncio.gather(*(one() for _ in range(10)))

        play(app, story, threads=1)

        assert [1] * 10 == most
        assert not any(flags)

    def test_a_request_keeps_its_thread(self) -> None:
        """The call, each iteration and `close()` run in one thread."""
        threads: set[int] = set()

        class Body(Chunks):
            def __next__(self) -> bytes:
                threads.add(threading.get_ident())
                return super().__next__()

        chunks = Body([b"x"] * 20)

        def app(environ: Environ, start_response: Any) -> Body:
            threads.add(threading.get_ident())
            start_response("200 OK", [])
            return chunks

        serve_on_asgi(app)

        assert threads == set(chunks.closings)
        assert 1 == len(threads)

    def test_requests_run_side_by_side(self) -> None:
        """`wsgi.multithread` is true because requests do meet."""
        meeting = threading.Barrier(4, timeout=PATIENCE)

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            meeting.wait()
            start_response("200 OK", [])
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> None:
            async def one() -> None:
                async with opened(adapter, *get()):
                    pass

            await asyncio.gather(*(one() for _ in range(4)))

        play(app, story)


class TestNotesServer:
    """PEP 3333, Server Extension APIs; URL Reconstruction."""

    @pytest.mark.parametrize(
        ("changes", "url"),
        [
            ({"host": b"example.test"}, "http://example.test/app/caf%C3%A9?a=1"),
            ({"scheme": "https", "host": None}, "https://127.0.0.1:8000/app/caf%C3%A9?a=1"),
            ({"host": None, "server": ("shop.test", 80)}, "http://shop.test/app/caf%C3%A9?a=1"),
            ({"host": None, "server": ("shop.test", 443), "scheme": "https"}, "https://shop.test/app/caf%C3%A9?a=1"),
        ],
    )
    def test_the_url_can_be_put_together_again(self, changes: dict[str, Any], url: str) -> None:
        """The PEP's own algorithm finds the URL that the client asked for."""
        request = get("/app/caf\u00e9", root_path="/app", query_string=b"a=1", **changes)

        assert url == request_uri(environ_of(request))

    def test_the_scope_can_be_reached_but_shows_no_secret(self) -> None:
        """`asgi.scope` is the scope, as a mapping; printing an environ shows no header value through it."""
        environ = environ_of(get("/x", headers=[(b"authorization", b"Bearer s3cret")]))
        scope = environ["asgi.scope"]

        assert ("http", "/x") == (scope["type"], scope["path"])
        assert "s3cret" not in repr(scope)
        assert "s3cret" not in str(scope)


class TestFileWrapperServer:
    """PEP 3333, Optional Platform-Specific File Handling."""

    @staticmethod
    def wrapping(file: Any, *size: int, headers: Any = ()) -> Any:
        """An app that returns a wrapped file."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", list(headers))
            return environ["wsgi.file_wrapper"](file, *size)

        return app

    @pytest.mark.parametrize("size", [(), (1,), (7,), (2**20,)])
    def test_a_file_like_object_is_sent(self, size: tuple[int, ...]) -> None:
        """One positional argument, and a second that is only a suggestion; `read()` is all the file needs."""

        class Readable:
            def __init__(self, data: bytes) -> None:
                self._file = io.BytesIO(data)

            def read(self, size: int = -1) -> bytes:
                return self._file.read(size)

        data = bytes(range(256)) * 10

        assert data == serve_on_asgi(self.wrapping(Readable(data), *size)).body

    def test_it_is_an_iterable_for_middleware(self) -> None:
        """Middleware can iterate over what the application returned, and close it."""
        file = io.BytesIO(b"abcdef")

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            wrapped = environ["wsgi.file_wrapper"](file, 2)
            chunks = [chunk.upper() for chunk in wrapped]
            wrapped.close()
            return chunks

        assert b"ABCDEF" == serve_on_asgi(app).body
        assert file.closed

    def test_close_closes_the_file(self) -> None:
        """The file is closed at the end of the request, where it can be."""
        file = io.BytesIO(b"abc")
        serve_on_asgi(self.wrapping(file))

        assert file.closed

    def test_nothing_is_sent_unless_it_is_returned(self) -> None:
        """A wrapper that the application does not return is not sent."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            environ["wsgi.file_wrapper"](io.BytesIO(b"file"))
            return [b"other"]

        assert b"other" == serve_on_asgi(app).body

    @pytest.mark.parametrize("offered", [False, True], ids=["plain", "pathsend"])
    def test_it_begins_where_the_file_stands(self, tmp_path: Path, offered: bool) -> None:
        """Transmission begins at the current position."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        file = path.open("rb")
        file.seek(4)
        exchange = serve_on_asgi(self.wrapping(file), get(extensions={"http.response.pathsend": {}} if offered else {}))

        assert b"456789" == exchange.body
        assert file.closed

    @pytest.mark.parametrize("offered", [False, True], ids=["plain", "pathsend"])
    def test_it_ends_at_content_length(self, tmp_path: Path, offered: bool) -> None:
        """No more than Content-Length bytes of the file are sent."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        app = self.wrapping(path.open("rb"), headers=[("Content-Length", "3")])
        exchange = serve_on_asgi(app, get(extensions={"http.response.pathsend": {}} if offered else {}))

        assert (b"012", True) == (exchange.body, exchange.complete)

    def test_a_file_is_read_where_the_server_cannot_send_it(self, tmp_path: Path) -> None:
        """Without an extension of the server's, a real file is read in the application's thread, and whole."""
        path = tmp_path / "file"
        path.write_bytes(b"x" * 300_000)
        file = path.open("rb")
        exchange = serve_on_asgi(self.wrapping(file, 4096))

        assert b"x" * 300_000 == exchange.body
        assert file.closed

    def test_a_head_request_sends_no_file(self, tmp_path: Path) -> None:
        """The file is closed and not sent, with the extension or without."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        file = path.open("rb")
        exchange = serve_on_asgi(self.wrapping(file), get(method="HEAD", extensions={"http.response.pathsend": {}}))

        assert (b"", True, True) == (exchange.body, exchange.complete, file.closed)
        assert "http.response.pathsend" not in [event["type"] for event in exchange.sent]

    def test_an_error_of_the_file_fails_the_request(self) -> None:
        """What `read()` raises is an error of the application."""

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise AppError("disk gone")

        file = Broken()
        exchange = serve_on_asgi(self.wrapping(file), fails=True)

        assert isinstance(exchange.error, AppError)
        assert (False, True) == (exchange.started, file.closed)


class TestErrorsApplication:
    """PEP 3333, Error Handling."""

    @pytest.mark.parametrize("when", ["at once", "after http.response.start"])
    def test_an_error_before_the_body_is_raised_from_the_call(self, when: str, log: LogWatch) -> None:
        """The server gets the exception with no header sent, so that it can answer 500; it is logged."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if when != "at once":
                await send({"type": "http.response.start", "status": 200})
            raise AppError("early")

        call = serve_on_wsgi(app, fails=True)

        assert isinstance(call.error, AppError)
        assert 0 == call.starts
        assert "Traceback" in log.wait_for("early", level=40)

    def test_an_error_within_the_body_is_raised_from_the_iterator(self, log: LogWatch) -> None:
        """The server learns that the response is broken off, and can close the connection; it is logged."""
        gate = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await gate.waited()
            raise AppError("late")

        with adapted(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                call.call()
                assert b"half" == call.next()
                gate.set()
                with pytest.raises(AppError):
                    call.next()
                call.close()

            bounded(story)

        assert not call.complete
        assert "Traceback" in log.wait_for("late", level=40)

    def test_an_error_of_start_response_reaches_the_server(self) -> None:
        """What the server's own `start_response` raises comes back to it, and the ASGI app is not left waiting."""
        ended = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await send({"type": "http.response.start", "status": 200})
                while True:
                    await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
            finally:
                ended.set()

        def refusing(status: str, headers: Any, exc_info: Any = None, /) -> Any:
            raise AppError("no such header here")

        with adapted(app, disconnect_grace=0.05) as adapter:
            with pytest.raises(AppError):
                bounded(lambda: adapter(wsgi_environ(), refusing))
            ended.wait()

    def test_middleware_sees_the_exception(self) -> None:
        """WSGI middleware around the adapter catches what the ASGI app raised, as the object it is."""
        cause = AppError("mine")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise cause

        with adapted(app) as adapter:

            def middleware(environ: Environ, start_response: Any) -> Any:
                try:
                    return adapter(environ, start_response)
                except AppError as error:
                    start_response("500 Oops", [], sys.exc_info())
                    return [str(error is cause).encode()]

            assert b"True" == ask(middleware).body


class TestFileWrapperApplication:
    """PEP 3333, Optional Platform-Specific File Handling."""

    def test_the_wrapper_of_the_server_is_returned_itself(self, tmp_path: Path) -> None:
        """The server finds its own wrapper as the return value, around the file, and closes it."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        wrapped: list[Any] = []

        class Wrapper:
            def __init__(self, file: Any, size: int = 8192) -> None:
                self.file = file
                wrapped.append(self)

            def __iter__(self) -> Iterator[bytes]:
                return iter(lambda: self.file.read(4), b"")

            def close(self) -> None:
                self.file.close()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"10")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.pathsend", "path": str(path)})

        call = serve_on_wsgi(app, wsgi_environ(wsgi__file_wrapper=Wrapper), pathsend=True)

        assert [call.result] == wrapped
        assert b"0123456789" == call.body
        assert wrapped[0].file.closed
