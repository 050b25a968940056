"""PEP 3333, environ Variables, and Input and Error Streams; see `test_pep3333_overview.py` for the classes."""

import io
import itertools
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge import WsgiToAsgi
from bridge.errors import ClientDisconnected
from spec.harness import StrictInput, environ_of, play, serve_on_asgi, serve_on_wsgi, wsgi_environ
from support.asgi_apps import asgi, read_body, reply
from support.plain_servers import MISSING
from support.scripted_asgi_server import Environ, Event, Request, get, opened, post
from support.scripted_wsgi_server import Call, adapted
from support.waiting import Flag, bounded


class TestEnvironServer:
    """PEP 3333, environ Variables."""

    def test_the_method_is_there(self) -> None:
        """REQUEST_METHOD is the method of the request."""
        assert "DELETE" == environ_of(get(method="DELETE"))["REQUEST_METHOD"]

    @pytest.mark.parametrize(
        ("root", "path", "expected"),
        [
            ("", "/", ("", "/")),
            ("", "/a/b", ("", "/a/b")),
            ("/api", "/api/x", ("/api", "/x")),
            ("/api", "/api/", ("/api", "/")),
            ("/api", "/api", ("/api", "")),
            ("/api", "/apiv2/x", ("/api", "/apiv2/x")),
            ("/api", "/x", ("/api", "/x")),
            ("/api/", "/api/x", ("/api", "/x")),
            ("/", "/x", ("", "/x")),
        ],
    )
    def test_script_name_and_path_info_split_the_path(self, root: str, path: str, expected: tuple[str, str]) -> None:
        """SCRIPT_NAME is the mount without a slash at its end, PATH_INFO the rest, cut between segments only."""
        environ = environ_of(get(path, root_path=root))

        assert expected == (environ["SCRIPT_NAME"], environ["PATH_INFO"])

    @pytest.mark.parametrize("query", [b"", b"a=1&b=%20", b"a=b?c"])
    def test_the_query_string_is_not_decoded(self, query: bytes) -> None:
        """QUERY_STRING is what follows the `?`, or empty."""
        assert query.decode() == environ_of(get(query_string=query)).get("QUERY_STRING", "")

    def test_content_type_and_length_have_no_prefix(self) -> None:
        """Both come from their headers, under their own names alone."""
        environ = environ_of(post(b"abc", headers=[(b"content-type", b"text/plain")]))

        assert ("text/plain", "3") == (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"])
        assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()

    def test_what_the_client_did_not_send_is_left_out(self) -> None:
        """Missing variables are absent, not None; REMOTE_ADDR alone is empty, since CGI wants it set."""
        environ = environ_of(get(client=None))

        assert not {"CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_PORT", "REMOTE_USER", "HTTP_COOKIE"} & environ.keys()
        assert "" == environ.get("REMOTE_ADDR", "")

    @pytest.mark.parametrize(
        ("server", "scheme", "port"),
        [
            (("192.0.2.1", 8000), "http", "8000"),
            (["192.0.2.1", "8000"], "http", "8000"),
            (("::1", 8000), "http", "8000"),
            (None, "http", "80"),
            (None, "https", "443"),
            (MISSING, "http", "80"),
            (("/run/app.sock", None), "http", "80"),
        ],
    )
    def test_server_name_and_port_are_never_empty(self, server: Any, scheme: str, port: str) -> None:
        """SERVER_NAME and SERVER_PORT are strings with something in them, also behind a unix socket."""
        environ = environ_of(get(server=server, scheme=scheme, host=b"example.test"))

        assert environ["SERVER_NAME"]
        assert port == environ["SERVER_PORT"]

    @pytest.mark.parametrize(("version", "expected"), [("1.0", "HTTP/1.0"), ("1.1", "HTTP/1.1"), ("2", "HTTP/2")])
    def test_the_protocol_is_the_clients(self, version: str, expected: str) -> None:
        """SERVER_PROTOCOL names the version the client used."""
        assert expected == environ_of(get(http_version=version))["SERVER_PROTOCOL"]

    def test_headers_become_http_variables(self) -> None:
        """Each header is there under its HTTP_ name, whatever its case."""
        environ = environ_of(get(headers=[(b"X-Mixed-Case", b"a"), (b"accept", b"b"), (b"x-empty", b"")]))

        assert ("a", "b", "") == (environ["HTTP_X_MIXED_CASE"], environ["HTTP_ACCEPT"], environ["HTTP_X_EMPTY"])
        assert "127.0.0.1:8000" == environ["HTTP_HOST"]

    def test_repeated_headers_are_joined(self) -> None:
        """Repeats become one list with commas, cookies one list with semicolons, in the order they came."""
        cookies = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
        environ = environ_of(get(headers=[(b"accept", b"a"), *cookies, (b"accept", b"b")]))

        assert re.fullmatch("a, ?b", environ["HTTP_ACCEPT"])
        assert "a=1; b=2" == environ["HTTP_COOKIE"]

    def test_headers_that_could_pass_for_others_are_dropped(self) -> None:
        """A name with `_` would take the place of the name with `-`, `Proxy` that of a setting: neither gets in."""
        spoofed = [
            (b"x_user", b"evil"),
            (b"x-user", b"good"),
            (b"proxy", b"http://evil.test"),
            (b"content_length", b"9"),
        ]
        environ = environ_of(get(headers=spoofed))

        assert "good" == environ["HTTP_X_USER"]
        assert "HTTP_PROXY" not in environ
        assert "evil" not in str({key: value for key, value in environ.items() if isinstance(value, str)})

    def test_tls_is_told_in_the_apache_variables(self) -> None:
        """HTTPS and SSL_PROTOCOL come from the TLS extension of the scope."""
        tls = {"server_cert": None, "client_cert_chain": [], "tls_version": 0x0304, "cipher_suite": 0x1301}
        environ = environ_of(get(scheme="https", extensions={"tls": tls}))

        assert ("on", "TLSv1.3") == (environ["HTTPS"], environ["SSL_PROTOCOL"])

    def test_the_peer_is_told(self) -> None:
        """REMOTE_ADDR and REMOTE_PORT are strings."""
        environ = environ_of(get(client=["2001:db8::1", 4711]))

        assert ("2001:db8::1", "4711") == (environ["REMOTE_ADDR"], environ["REMOTE_PORT"])

    def test_the_wsgi_variables_are_there(self) -> None:
        """Each `wsgi.` variable that must be there is, with its type."""
        environ = environ_of(get(scheme="https"))

        assert (1, 0) == environ["wsgi.version"]
        assert "https" == environ["wsgi.url_scheme"]
        assert bool(environ["wsgi.multithread"])
        assert not environ["wsgi.run_once"]
        assert environ["wsgi.multiprocess"] in (True, False)
        assert {"wsgi.input", "wsgi.errors"} <= environ.keys()

    def test_variables_of_our_own_are_named_by_the_rule(self) -> None:
        """Lower-case letters, numbers, dots and underscores, behind a prefix of one's own."""
        own = [key for key in environ_of() if not key.isupper()]

        assert [key for key in own if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", key)] == []
        assert {"wsgi", "asgi", "bridge"} >= {key.split(".")[0] for key in own}

    def test_the_process_environment_stays_outside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Operating-system variables are not mixed in, so that none of them passes for the request's."""
        monkeypatch.setenv("HTTP_X_ADMIN", "yes")
        monkeypatch.setenv("SCRIPT_NAME", "/ambient")
        environ = environ_of()

        assert "HTTP_X_ADMIN" not in environ
        assert "" == environ["SCRIPT_NAME"]


LINES = st.lists(st.sampled_from([b"", b"a", b"\n", b"bc\n", b"\r\n", b"x" * 70, bytes(200)]), max_size=8).map(b"".join)


SIZES = st.one_of(st.none(), st.integers(-2, 300))


CALLS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.one_of(st.just(()), st.tuples(SIZES))),
        st.just(("__next__", ())),
        st.just(("__iter__", ())),
    ),
    max_size=12,
)


def apply(stream: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    """One call of a stream; iteration takes three lines at most, so that a stream without an end shows."""
    if name == "__iter__":
        return [line for line, _ in zip(stream, range(3), strict=False)]
    if name == "__next__":
        return next(iter(stream), "end")
    return getattr(stream, name)(*arguments)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, cut at these places."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


class TestInputServer:
    """PEP 3333, Input and Error Streams."""

    @pytest.mark.parametrize("collect", [2**20, 1], ids=["collected", "streamed"])
    @pytest.mark.parametrize("length", [-1, None], ids=["sized", "chunked"])
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=LINES, cuts=st.lists(st.integers(0, 400), max_size=6), calls=CALLS)
    def test_input_behaves_as_a_file(
        self, collect: int, length: int | None, data: bytes, cuts: list[int], calls: list[tuple[str, tuple[Any, ...]]]
    ) -> None:
        """read, readline, readlines and iteration give what `io.BytesIO` gives, on any sequence of calls."""
        file = io.BytesIO(data)
        expected = [apply(file, name, arguments) for name, arguments in calls]
        actual: list[Any] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            actual.extend(apply(environ["wsgi.input"], name, arguments) for name, arguments in calls)
            start_response("200 OK", [])
            return []

        serve_on_asgi(app, post(*pieces_of(data, cuts), length=length), collect=collect, stream_chunked=length is None)

        assert expected == actual

    @pytest.mark.parametrize("collect", [2**20, 1], ids=["collected", "streamed"])
    def test_reading_past_the_end_gives_empty_bytes(self, collect: int) -> None:
        """At the end each method says so, as often as it is asked."""
        found: list[Any] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            stream = environ["wsgi.input"]
            found.append(stream.read())
            found.extend([stream.read(), stream.read(5), stream.readline(), stream.readlines(), list(stream)])
            start_response("200 OK", [])
            return []

        serve_on_asgi(app, post(b"one\n", b"two"), collect=collect)

        assert [b"one\ntwo", b"", b"", b"", [], []] == found

    @pytest.mark.parametrize("collect", [2**20, 1], ids=["collected", "streamed"])
    def test_the_input_ends_at_content_length(self, collect: int) -> None:
        """Bytes beyond the Content-Length are not the application's."""
        body: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            body.append(environ["wsgi.input"].read())
            start_response("200 OK", [])
            return []

        serve_on_asgi(app, post(b"abcdef", b"ghi", length=4), collect=collect)

        assert [b"abcd"] == body

    def test_a_request_without_a_body_has_an_empty_input(self) -> None:
        """Without a body the input is at its end, and nothing waits."""
        assert b"" == environ_of(get())["wsgi.input"].read()

    def test_the_input_is_read_on_demand(self) -> None:
        """A body that is not collected is asked of the server as the application reads it."""
        first, second = Flag(), Flag()
        lines: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            lines.append(environ["wsgi.input"].readline())
            first.set()
            lines.append(environ["wsgi.input"].readline())
            second.set()
            start_response("200 OK", [])
            return []

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, *post(b"first\n", length=13, ends=False)) as exchange:
                await first.waited()
                assert not second.is_set()
                exchange.feed({"type": "http.request", "body": b"second\n"})
                await second.waited()

        play(app, story, collect=1)

        assert [b"first\n", b"second\n"] == lines

    def test_the_input_can_be_read_while_the_response_is_sent(self) -> None:
        """Request and response may stream past each other: what was read is answered before the rest has come."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for line in environ["wsgi.input"]:
                yield line.upper()

        async def story(adapter: WsgiToAsgi) -> Request:
            async with opened(adapter, *post(b"one\n", length=14, ends=False)) as exchange:
                await exchange.until(lambda: exchange.body == b"ONE\n")
                exchange.feed({"type": "http.request", "body": b"two\n", "more_body": True})
                await exchange.until(lambda: exchange.body == b"ONE\nTWO\n")
                exchange.feed({"type": "http.request", "body": b"three\n"})
            return exchange

        assert b"ONE\nTWO\nTHREE\n" == play(app, story, collect=1).body

    @pytest.mark.parametrize("ending", ["disconnect", "early end"])
    @pytest.mark.parametrize("method", ["read", "readline", "readlines", "__iter__"])
    def test_a_body_that_breaks_off_never_looks_whole(self, method: str, ending: str) -> None:
        """When the client leaves before the Content-Length is there, reading raises an `OSError`."""
        errors: list[BaseException] = []
        entered, over = Flag(), Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            entered.set()
            try:
                stream = environ["wsgi.input"]
                list(stream) if method == "__iter__" else getattr(stream, method)()
            except OSError as error:
                errors.append(error)
                raise
            finally:
                over.set()
            start_response("200 OK", [])
            return [b"as if it were whole"]

        request = post(b"abcd", length=10, ends=False)
        event = {"type": "http.disconnect"} if ending == "disconnect" else {"type": "http.request", "body": b"ef"}

        async def story(adapter: WsgiToAsgi) -> Request:
            exchange = Request(adapter, *request)
            async with anyio.create_task_group() as group:
                group.start_soon(exchange.run)
                await entered.waited()  # an app whose client has left before is not called
                exchange.feed(event)
            await over.waited()
            return exchange

        exchange = play(app, story, collect=1)

        assert [ClientDisconnected] == [type(error) for error in errors]
        assert isinstance(errors[0], OSError)
        assert exchange.status == (499 if ending == "disconnect" else 400)
        assert exchange.broken == []

    def test_errors_takes_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """write, writelines and flush; arbitrary text is taken without an error, and ends on standard error."""
        raw = io.BytesIO()
        monkeypatch.setattr(
            sys, "stderr", io.TextIOWrapper(raw, "ascii", errors="backslashreplace", write_through=True)
        )

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            errors = environ["wsgi.errors"]
            errors.write("caf\u00e9 \u20ac \U0001f600 \udc80\n")
            errors.writelines(["one\n", "two\n"])
            errors.flush()
            start_response("200 OK", [])
            return []

        serve_on_asgi(app)

        assert raw.getvalue().startswith(rb"caf\xe9 \u20ac")
        assert raw.getvalue().endswith(b"one\ntwo\n")


class TestInputApplication:
    """PEP 3333, Input and Error Streams."""

    def test_no_more_than_content_length_is_read(self) -> None:
        """The input is read with sizes that add up to the Content-Length, in the server's own thread."""
        stream = StrictInput(b"x" * 200_000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"%d" % len(await read_body(receive)))

        environ = wsgi_environ("POST", body=stream, CONTENT_LENGTH="200000")
        server_threads: list[int] = []

        with adapted(app) as adapter:

            def story() -> bytes:
                server_threads.append(threading.get_ident())
                call = Call(adapter, environ)
                call.run()
                return call.body

            assert b"200000" == bounded(story)
        assert sum(stream.reads) <= 200_000
        assert set(server_threads) == stream.threads

    def test_the_streams_are_not_closed(self) -> None:
        """`wsgi.input` and `wsgi.errors` are the server's to close."""

        class Closeable(io.BytesIO):
            def close(self) -> None:
                raise AssertionError("closed")

        environ = wsgi_environ("POST", body=b"abc", wsgi__errors=io.StringIO())
        environ["wsgi.input"] = Closeable(b"abc")
        try:
            serve_on_wsgi(asgi(b"x"), environ)
            assert not environ["wsgi.errors"].closed
        finally:
            io.BytesIO.close(environ["wsgi.input"])

    def test_without_content_length_nothing_is_read(self) -> None:
        """A GET without a body leaves the input alone, whatever a read of it would do."""
        stream = StrictInput(b"not the request's", hold=Flag())
        seen: list[Event] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(await receive())
            await reply(send, b"x")

        serve_on_wsgi(app, wsgi_environ(body=stream))

        assert [] == stream.reads
        assert [{"type": "http.request", "body": b"", "more_body": False}] == seen
