"""PEP 3333, clause by clause.

Classes named `Test...Server` hold `WsgiToAsgi` to the server's duties towards the application, classes named
`Test...Application` hold `AsgiToWsgi` to the application's duties towards the server. A class's docstring names the
section.
"""

import asyncio
import functools
import gc
import io
import itertools
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import request_uri
from wsgiref.validate import validator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge.errors import ApplicationProtocolError, ClientDisconnected
from spec import conformance
from spec.harness import (
    MISSING,
    Call,
    Environ,
    Event,
    Exchange,
    Input,
    Request,
    ask,
    environ_of,
    fetch,
    get,
    opened,
    play,
    post,
    serve,
    wsgi,
    wsgi_environ,
)
from support.asgi_apps import asgi, read_body, reply
from support.failures import AppError
from support.paths import ROOT
from support.waiting import Flag, LogWatch, bounded
from support.wsgi_apps import Chunks, simple


class TestConformancePage:
    """docs/conformance.md: each clause, and the test that holds us to it."""

    def test_each_test_is_named_in_the_table(self) -> None:
        """Each test of this directory belongs to a clause, and each test that the table names exists."""
        assert conformance.tests_in_files() == conformance.tests_in_table()

    def test_each_clause_has_a_test_or_a_reason(self) -> None:
        """A clause without a test says why there is none, and no identifier is used twice."""
        clauses = conformance.clauses()

        assert [clause.id for clause in clauses if not clause.tests and not clause.note] == []
        assert len(clauses) == len({clause.id for clause in clauses})

    def test_the_page_is_what_the_table_prints(self) -> None:
        """The page is generated; a change of the table without the page is noticed."""
        page = ROOT / "docs" / "conformance.md"

        assert conformance.page() == page.read_text(encoding="utf-8")


# --- Specification Overview -----------------------------------------------------------------------------------------


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

        assert b"here" == serve(apps[kind]).body

    def test_the_application_is_called_once_for_each_request(self) -> None:
        """One call a request, as often as requests come."""
        calls: list[str] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            calls.append(environ["PATH_INFO"])
            start_response("200 OK", [])
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> None:
            for path in ("/1", "/2", "/3"):
                async with opened(adapter, get(path)):
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

        exchange = serve(app, fails=True)

        assert not exchange.started
        assert isinstance(exchange.error, ApplicationProtocolError)
        log.wait_for("bytes", level=30)

    @pytest.mark.parametrize(
        ("status", "headers"),
        [("200 \u20ac", []), ("200 OK", [("X-A", "\u20ac")]), ("200 OK", [("X-\u20ac", "a")])],
    )
    def test_a_string_beyond_latin_1_is_refused(self, status: str, headers: Any) -> None:
        """Status and headers beyond ISO-8859-1 are a fatal error of the application."""
        exchange = serve(simple(b"x", status=status, headers=headers), fails=True)

        assert not exchange.started

    def test_a_latin_1_header_value_is_sent_as_its_bytes(self) -> None:
        """A header value is one byte a code point."""
        exchange = serve(simple(b"x", headers=[("X-Name", "J\xf6rg")]))

        assert [b"J\xf6rg"] == exchange.header(b"x-name")


class TestDetailsServer:
    """PEP 3333, Specification Details."""

    def test_the_arguments_are_positional(self) -> None:
        """The application may call its two arguments what it likes."""

        def app(e: Environ, s: Any, /) -> list[bytes]:
            s("200 OK", [])
            return [b"x"]

        assert b"x" == serve(app).body

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
                async with opened(adapter, request):
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

        exchange = serve(app)

        assert b"ab" == exchange.body
        assert exchange.complete

    @pytest.mark.parametrize("body", [[], (), iter(()), [b""], [b"", b""]])
    def test_no_bytes_at_all_is_a_response(self, body: Any) -> None:
        """An iterable of zero bytestrings still sends the headers and the end."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("302 Found", [("Location", "/x")])
            return body

        exchange = serve(app)

        assert (302, b"", True) == (exchange.status, exchange.body, exchange.complete)

    @pytest.mark.parametrize("body", [None, 5, object()])
    def test_what_is_no_iterable_is_an_error(self, body: Any) -> None:
        """The application must return an iterable; what is none fails the request, before anything was sent."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            return body

        assert not serve(app, fails=True).started

    def test_bytes_are_not_altered(self) -> None:
        """Each byte value and each line ending arrives as it was yielded."""
        body = bytes(range(256)) + b"\r\n\n\r"

        assert body == serve(simple(body)).body
        assert body == serve(simple(body[:100], body[100:])).body

    def test_a_chunk_is_sent_before_the_next_is_asked_for(self) -> None:
        """A yielded bytestring reaches the server while the application still works on the next."""
        gate = Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"one"
            gate.wait()
            yield b"two"

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, get()) as exchange:
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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            opening = asyncio.Event()

            async def slow(event: Event) -> None:
                blocked.set()
                await opening.wait()

            async with opened(adapter, get(), slow) as exchange:
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

        serve(app)

        assert threads == chunks.closings

    def test_close_is_called_after_an_error_of_the_iteration(self, log: LogWatch) -> None:
        """`close()` runs once when the iteration raises."""
        chunks = Chunks([b"a", AppError("broken")])
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> Chunks:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return chunks

        exchange = serve(app, fails=True)

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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await chunks.closed.waited()
            return exchange

        exchange = play(app, story)

        assert threads == chunks.closings
        assert not exchange.complete

    def test_close_is_called_when_start_response_never_was(self) -> None:
        """`close()` runs for an iterable whose application forgot `start_response`."""
        chunks = Chunks([b"a"])

        exchange = serve(lambda environ, start_response: chunks, fails=True)

        assert 1 == len(chunks.closings)
        assert isinstance(exchange.error, ApplicationProtocolError)
        assert not exchange.started

    def test_close_is_called_when_nothing_may_be_sent(self) -> None:
        """`close()` runs for a response to HEAD as for any other."""
        chunks = Chunks([b"a", b"b"])

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return chunks

        serve(app, get(method="HEAD"))

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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            broken = Exchange(adapter, get("/broken"))
            broken.task = asyncio.create_task(broken.run())
            await broken.task
            async with opened(adapter, get()) as exchange:
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

        exchange = serve(app)

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

        serve(app)

        assert names <= {"close", "__class__"}

    def test_the_length_of_an_iterable_is_believed(self) -> None:
        """One bytestring in a list of one: the Content-Length follows from it, and nothing is lost."""
        exchange = serve(simple(b"hello"))

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
            serve(validator(app), request)


# --- environ Variables ----------------------------------------------------------------------------------------------


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
        environ = environ_of(get(server=server, scheme=scheme))

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
        assert "example.test" == environ["HTTP_HOST"]

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


# --- Input and Error Streams ----------------------------------------------------------------------------------------

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
    @pytest.mark.parametrize("length", [MISSING, None], ids=["sized", "chunked"])
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=LINES, cuts=st.lists(st.integers(0, 400), max_size=6), calls=CALLS)
    def test_input_behaves_as_a_file(
        self, collect: int, length: Any, data: bytes, cuts: list[int], calls: list[tuple[str, tuple[Any, ...]]]
    ) -> None:
        """read, readline, readlines and iteration give what `io.BytesIO` gives, on any sequence of calls."""
        file = io.BytesIO(data)
        expected = [apply(file, name, arguments) for name, arguments in calls]
        actual: list[Any] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            actual.extend(apply(environ["wsgi.input"], name, arguments) for name, arguments in calls)
            start_response("200 OK", [])
            return []

        serve(app, post(*pieces_of(data, cuts), length=length), collect=collect, stream_chunked=length is None)

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

        serve(app, post(b"one\n", b"two"), collect=collect)

        assert [b"one\ntwo", b"", b"", b"", [], []] == found

    @pytest.mark.parametrize("collect", [2**20, 1], ids=["collected", "streamed"])
    def test_the_input_ends_at_content_length(self, collect: int) -> None:
        """Bytes beyond the Content-Length are not the application's."""
        body: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            body.append(environ["wsgi.input"].read())
            start_response("200 OK", [])
            return []

        serve(app, post(b"abcdef", b"ghi", length=4), collect=collect)

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
            async with opened(adapter, post(b"first\n", length=13, ends=False)) as exchange:
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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, post(b"one\n", length=14, ends=False)) as exchange:
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

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                stream = environ["wsgi.input"]
                list(stream) if method == "__iter__" else getattr(stream, method)()
            except OSError as error:
                errors.append(error)
                raise
            start_response("200 OK", [])
            return [b"as if it were whole"]

        request = post(b"abcd", length=10, ends=False)
        event = {"type": "http.disconnect"} if ending == "disconnect" else {"type": "http.request", "body": b"ef"}
        exchange_request = Request(request.scope, [*request.events, event])

        async def story(adapter: WsgiToAsgi) -> Exchange:
            exchange = Exchange(adapter, exchange_request)
            exchange.task = asyncio.create_task(exchange.run())
            await exchange.task
            return exchange

        exchange = play(app, story, collect=1)

        assert [ClientDisconnected] == [type(error) for error in errors]
        assert isinstance(errors[0], OSError)
        assert not exchange.started or 400 == exchange.status
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

        serve(app)

        assert raw.getvalue().startswith(rb"caf\xe9 \u20ac")
        assert raw.getvalue().endswith(b"one\ntwo\n")


# --- The start_response() Callable ----------------------------------------------------------------------------------


class TestStartResponseServer:
    """PEP 3333, The start_response() Callable."""

    def test_it_returns_a_write_callable(self) -> None:
        """The return value takes a bytestring."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"written")
            return []

        assert b"written" == serve(app).body

    @pytest.mark.parametrize(("status", "code"), [("200 OK", 200), ("404 Not Found", 404), ("299 Made up", 299)])
    def test_the_status_is_the_code_of_the_string(self, status: str, code: int) -> None:
        """The three digits count, the reason is free."""
        assert code == serve(simple(b"x", status=status)).status

    def test_a_status_without_a_reason_is_taken(self) -> None:
        """The PEP wants a reason; HTTP has done without since HTTP/2, so a bare code is not refused."""
        assert 204 == serve(simple(status="204")).status

    @pytest.mark.parametrize(
        "status",
        ["", "OK", "20 OK", "2000 OK", "abc OK", 200, b"200 OK", None, "200 O\nK", "200 OK\r\n", "200 \x00", " 200 OK"],
    )
    def test_a_bad_status_is_refused_in_the_call(self, status: Any) -> None:
        """What is no string of three digits and a reason, or has control characters, raises in the application."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                start_response(status, [])
            except Exception as error:
                raised.append(error)
                raise
            return [b"x"]

        exchange = serve(app, fails=True)

        assert [ApplicationProtocolError] == [type(error) for error in raised]
        assert not exchange.started

    @pytest.mark.parametrize(
        "headers",
        [
            None,
            {"X-A": "1"},
            [("X-A",)],
            [("X-A", "1", "2")],
            ["X-A: 1"],
            [(b"X-A", b"1")],
            [("X-A", 1)],
            [(1, "X")],
            [("", "x")],
            [("X A", "x")],
            [("X-A:", "x")],
            [("X\r\nSet-Cookie", "x")],
            [("X-A", "x\r\nSet-Cookie: y")],
            [("X-A", "x\n")],
            [("X-A", "x\r")],
            [("X-A", "x\0")],
            [("X-A", "x\x0b")],
            [("X-A", "x\x7f")],
        ],
    )
    def test_a_bad_header_is_refused_in_the_call(self, headers: Any) -> None:
        """A list of pairs of strings, names that are names, values without control characters; else it raises there."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                start_response("200 OK", headers)
            except Exception as error:
                raised.append(error)
                raise
            return [b"x"]

        exchange = serve(app, fails=True)

        assert [ApplicationProtocolError] == [type(error) for error in raised]
        assert not exchange.started

    @pytest.mark.parametrize(
        "name",
        [
            "Connection",
            "keep-alive",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
        ],
    )
    def test_a_hop_by_hop_header_is_refused(self, name: str) -> None:
        """These are the server's alone; supplying one is a fatal error of the application."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                start_response("200 OK", [(name, "x")])
            except Exception as error:
                raised.append(error)
                raise
            return [b"x"]

        exchange = serve(app, fails=True)

        assert [ApplicationProtocolError] == [type(error) for error in raised]
        assert not exchange.started

    def test_headers_keep_order_and_repeats(self) -> None:
        """What the application supplies arrives in its order, repeats included."""
        headers = [("Set-Cookie", "a=1"), ("X-B", "2"), ("Set-Cookie", "c=3"), ("Date", "then"), ("Server", "mine")]
        exchange = serve(simple(b"x", headers=headers))
        names = {b"set-cookie", b"x-b", b"date", b"server"}

        assert [(name.lower().encode(), value.encode()) for name, value in headers] == [
            pair for pair in exchange.headers if pair[0] in names
        ]

    def test_the_list_may_be_used_again(self) -> None:
        """A list that the application keeps for all its responses does not grow."""
        shared = [("X-A", "1")]

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", shared)
            return [b"x"]

        assert serve(app).headers == serve(app).headers

    def test_an_empty_chunk_does_not_send_the_headers(self) -> None:
        """Until there is a byte of body the application may change its mind: `exc_info` replaces the headers."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("X-Old", "1")])
            yield b""
            yield b""
            try:
                raise AppError
            except AppError:
                start_response("500 Oops", [("X-New", "1")], sys.exc_info())
            yield b"sorry"

        exchange = serve(app)

        assert (500, b"sorry") == (exchange.status, exchange.body)
        assert ([], [b"1"]) == (exchange.header(b"x-old"), exchange.header(b"x-new"))

    def test_the_headers_leave_with_the_first_bytes(self) -> None:
        """The first chunk that is not empty takes the headers along, while the application goes on."""
        gate = Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b""
            yield b"x"
            gate.wait()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body == b"x")
                gate.set()

        play(app, story)

    def test_the_headers_leave_at_the_end_of_an_empty_body(self) -> None:
        """An exhausted iterable sends what `start_response` stored."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("404 Not Found", [])
            yield b""

        exchange = serve(app)

        assert (404, True) == (exchange.status, exchange.complete)

    def test_exc_info_after_the_headers_raises_it_again(self, log: LogWatch) -> None:
        """Once the headers have left, the trapped exception comes back out of `start_response`, traceback and all."""
        came_back: list[BaseException] = []
        cause = AppError("late")

        def fail() -> None:
            raise cause

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"part"
            try:
                fail()
            except AppError:
                try:
                    start_response("500 Oops", [], sys.exc_info())
                except AppError as error:
                    came_back.append(error)
                    raise
            yield b"an error page in the middle of a page"

        exchange = serve(app, fails=True)

        assert [cause] == came_back
        assert cause is exchange.error
        assert b"part" == exchange.body
        assert not exchange.complete
        assert "in fail" in log.wait_for("late", level=40)

    def test_a_second_call_without_exc_info_is_an_error(self) -> None:
        """Only an error handler may call again."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            start_response("201 Created", [])
            return [b"x"]

        exchange = serve(app, fails=True)

        assert isinstance(exchange.error, ApplicationProtocolError)
        assert not exchange.started

    def test_a_call_after_a_failed_one_needs_exc_info(self) -> None:
        """The first call counts as a call also where it raised; with `exc_info` the next one is heard."""
        errors: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            with pytest.raises(ApplicationProtocolError):
                start_response("200 OK", [("bad name", "x")])
            try:
                start_response("200 OK", [])
            except ApplicationProtocolError as error:
                errors.append(error)
                start_response("500 Oops", [], sys.exc_info())
            return [b"page"]

        exchange = serve(app)

        assert 1 == len(errors)
        assert (500, b"page") == (exchange.status, exchange.body)

    def test_no_reference_to_exc_info_is_kept(self) -> None:
        """The exception is gone when the application has dropped it, without the garbage collector's help."""
        alive: list[bool] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                raise AppError("short-lived")
            except AppError as error:
                watch = weakref.ref(error)
                start_response("500 Oops", [], sys.exc_info())
            alive.append(watch() is not None)
            return [b"x"]

        gc.disable()
        try:
            serve(app)
        finally:
            gc.enable()

        assert [False] == alive

    def test_none_for_exc_info_is_none_given(self) -> None:
        """`exc_info=None` is the default, so it is no error handler's call."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [], None)
            return [b"x"]

        assert 200 == serve(app).status


class TestContentLengthServer:
    """PEP 3333, Handling the Content-Length Header."""

    @pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH"])
    def test_no_more_than_it_says_is_sent(self, name: str, log: LogWatch) -> None:
        """The surplus is cut and logged, and the application is asked for no more; header names have no case."""
        chunks = Chunks([b"abc", b"def", b"ghi", b"jkl"])

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [(name, "5")])
            return chunks

        exchange = serve(app)

        assert b"abcde" == exchange.body
        assert exchange.complete
        assert (2, 1) == (chunks.pulled, len(chunks.closings))
        log.wait_for("Content-Length", level=30)

    def test_a_list_that_is_too_long_is_cut(self, log: LogWatch) -> None:
        """The same for a body that is there as a whole."""
        exchange = serve(simple(b"abcdef", headers=[("Content-Length", "3")]))

        assert (b"abc", True) == (exchange.body, exchange.complete)
        log.wait_for("Content-Length", level=30)

    def test_iteration_stops_when_enough_was_sent(self) -> None:
        """What follows the last byte is not asked for."""
        chunks = Chunks([b"abc", b"def", AppError("never reached")])

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [("Content-Length", "6")])
            return chunks

        exchange = serve(app)

        assert (b"abcdef", True, 2) == (exchange.body, exchange.complete, chunks.pulled)

    def test_writing_past_it_is_an_error(self) -> None:
        """`write()` past the Content-Length raises in the application, and no surplus byte is sent."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [("Content-Length", "4")])
            write(b"abcd")
            try:
                write(b"ef")
            except Exception as error:
                raised.append(error)
            return []

        exchange = serve(app)

        assert b"abcd" == exchange.body
        assert [ApplicationProtocolError] == [type(error) for error in raised]

    def test_too_little_aborts_the_connection(self, log: LogWatch) -> None:
        """A stream that ends before its Content-Length is not ended as if it were whole; the server hears why."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Length", "10")])
            yield b"abc"

        exchange = serve(app, fails=True)

        assert (b"abc", False) == (exchange.body, exchange.complete)
        assert isinstance(exchange.error, ApplicationProtocolError)
        log.wait_for("Content-Length", level=40)

    def test_too_little_at_once_is_not_sent_at_all(self, log: LogWatch) -> None:
        """A list that is too short is an error before its headers leave, so the server can say so."""
        exchange = serve(simple(b"abc", headers=[("Content-Length", "10")]), fails=True)

        assert not exchange.started
        log.wait_for("Content-Length", level=40)

    @pytest.mark.parametrize("value", ["abc", "-1", "1.5", "", "1, 2", "+5", "0x10", "\u0663"])
    def test_a_length_that_is_no_number_is_refused(self, value: str) -> None:
        """It could be enforced by nobody, so `start_response` raises."""
        exchange = serve(simple(b"abc", headers=[("Content-Length", value)]), fails=True)

        assert not exchange.started

    def test_two_lengths_that_differ_are_refused(self) -> None:
        """Two different Content-Length headers describe no response."""
        exchange = serve(simple(b"abc", headers=[("Content-Length", "3"), ("content-length", "4")]), fails=True)

        assert not exchange.started

    def test_zero_is_a_length(self) -> None:
        """A Content-Length of zero is sent as it is, with no body."""
        exchange = serve(simple(headers=[("Content-Length", "0")]))

        assert ([b"0"], b"", True) == (exchange.header(b"content-length"), exchange.body, exchange.complete)

    def test_a_stream_without_it_gets_none(self) -> None:
        """Where the length is not known, the framing is the ASGI server's."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"a"
            yield b"b"

        exchange = serve(app)

        assert [] == exchange.header(b"content-length") + exchange.header(b"transfer-encoding")
        assert exchange.complete


class TestStreamingServer:
    """PEP 3333, Buffering and Streaming; The write() Callable."""

    def test_no_block_is_delayed(self) -> None:
        """Each block is at the server while the application produces the next, for many blocks in a row."""
        sent = [Flag() for _ in range(5)]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for flag in sent:
                yield b"block"
                flag.wait()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, get()) as exchange:
                for count, flag in enumerate(sent, 1):
                    await exchange.until(lambda count=count: exchange.body == b"block" * count)
                    flag.set()

        play(app, story)

    def test_what_is_written_is_sent_while_the_application_runs(self) -> None:
        """`write()` takes the headers along and does not wait for the application's return."""
        gate = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"written ")
            gate.wait()
            return [b"yielded"]

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body == b"written ")
                gate.set()
            return exchange

        assert b"written yielded" == play(app, story).body

    def test_what_is_yielded_follows_what_was_written(self) -> None:
        """Bytestrings of the iterable come after all that `write()` was given, in order."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            for chunk in (b"1", b"2", b"3"):
                write(chunk)
            return [b"4", b"5"]

        assert b"12345" == serve(app).body

    def test_an_iterable_is_needed_also_after_write(self) -> None:
        """An application that has written must still return an iterable; one that does not is aborted."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])(b"written")

        exchange = serve(app, fails=True)

        assert not exchange.complete

    @pytest.mark.parametrize("data", ["text", 5, None])
    def test_write_takes_bytes_alone(self, data: Any) -> None:
        """Anything else raises in the application."""
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            try:
                write(data)
            except Exception as error:
                raised.append(error)
            return [b"x"]

        exchange = serve(app)

        assert 1 == len(raised)
        assert b"x" == exchange.body

    def test_writing_nothing_sends_nothing(self) -> None:
        """`write(b"")` brings no body data, so the headers stay replaceable."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"")
            try:
                raise AppError
            except AppError:
                start_response("500 Oops", [], sys.exc_info())
            return [b"x"]

        assert 500 == serve(app).status

    def test_exc_info_after_write_raises_it_again(self) -> None:
        """`write()` has sent the headers, so an error page comes too late."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            write(b"part")
            try:
                raise AppError("late")
            except AppError:
                start_response("500 Oops", [], sys.exc_info())
            return [b"x"]

        exchange = serve(app, fails=True)

        assert isinstance(exchange.error, AppError)
        assert (b"part", False) == (exchange.body, exchange.complete)

    def test_writing_waits_for_a_slow_client(self) -> None:
        """An application that only writes is held back as one that yields."""
        written_all, blocked = Flag(), Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            for _ in range(64):
                write(bytes(2**20))
            written_all.set()
            return []

        async def story(adapter: WsgiToAsgi) -> None:
            opening = asyncio.Event()

            async def slow(event: Event) -> None:
                blocked.set()
                await opening.wait()

            async with opened(adapter, get(), slow):
                await blocked.waited()
                assert not await asyncio.to_thread(written_all.comes)
                opening.set()

        play(app, story)

    def test_writing_to_a_client_that_left_raises(self) -> None:
        """An application that only writes hears of the disconnect, and ends."""
        ended = Flag()
        raised: list[BaseException] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            try:
                while True:
                    write(b"tick" * 1000)
            except OSError as error:
                raised.append(error)
                raise
            finally:
                ended.set()

        async def story(adapter: WsgiToAsgi) -> None:
            async with opened(adapter, get()) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await ended.waited()

        play(app, story)

        assert [ClientDisconnected] == [type(error) for error in raised]


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

        exchange = serve(app, fails=True)

        assert isinstance(exchange.error, AppError)
        assert [] == exchange.sent
        assert "Traceback" in log.wait_for("early", level=40)

    def test_an_error_after_the_headers_is_logged_and_aborts(self, log: LogWatch) -> None:
        """Half a response is never ended as if it were whole."""
        exchange = serve(lambda environ, start: start("200 OK", []) and Chunks([b"half", AppError("late")]), fails=True)

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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            async with opened(adapter, get("/bad"), fails=True) as exchange:
                pass
            assert not exchange.started
            async with opened(adapter, get()) as exchange:
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

        async def story(adapter: WsgiToAsgi) -> Exchange:
            for _ in range(20):
                async with opened(adapter, get("/bad"), fails=True):
                    pass
            async with opened(adapter, get()) as exchange:
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

        exchange = serve(app, post(b"abc", headers=[(b"expect", b"100-continue")]))

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

        exchange = serve(app, get(method=method))

        assert (int(status[:3]), b"", True) == (exchange.status, exchange.body, exchange.complete)
        assert [b'"1"'] == exchange.header(b"etag")

    def test_the_length_of_a_head_response_is_left_alone(self) -> None:
        """HEAD may say the length of what GET would send."""
        exchange = serve(simple(headers=[("Content-Length", "1234")]), get(method="HEAD"))

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

        exchange = serve(app, get(headers=request_headers))

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

        serve(app, post(b"abc", b"def", length=None), stream_chunked=stream)

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
                async with opened(adapter, get()):
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

        serve(app)

        assert threads == set(chunks.closings)
        assert 1 == len(threads)

    def test_requests_run_side_by_side(self) -> None:
        """`wsgi.multithread` is true because requests do meet."""
        meeting = threading.Barrier(4, timeout=5)

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            meeting.wait()
            start_response("200 OK", [])
            return [b"x"]

        async def story(adapter: WsgiToAsgi) -> None:
            async def one() -> None:
                async with opened(adapter, get()):
                    pass

            await asyncio.gather(*(one() for _ in range(4)))

        play(app, story)


# --- Implementation/Application Notes -------------------------------------------------------------------------------


class TestNotesServer:
    """PEP 3333, Server Extension APIs; URL Reconstruction."""

    @pytest.mark.parametrize(
        ("changes", "url"),
        [
            ({}, "http://example.test/app/caf%C3%A9?a=1"),
            ({"scheme": "https", "host": None}, "https://192.0.2.1:8000/app/caf%C3%A9?a=1"),
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

        assert data == serve(self.wrapping(Readable(data), *size)).body

    def test_it_is_an_iterable_for_middleware(self) -> None:
        """Middleware can iterate over what the application returned, and close it."""
        file = io.BytesIO(b"abcdef")

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            wrapped = environ["wsgi.file_wrapper"](file, 2)
            chunks = [chunk.upper() for chunk in wrapped]
            wrapped.close()
            return chunks

        assert b"ABCDEF" == serve(app).body
        assert file.closed

    def test_close_closes_the_file(self) -> None:
        """The file is closed at the end of the request, where it can be."""
        file = io.BytesIO(b"abc")
        serve(self.wrapping(file))

        assert file.closed

    def test_nothing_is_sent_unless_it_is_returned(self) -> None:
        """A wrapper that the application does not return is not sent."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            environ["wsgi.file_wrapper"](io.BytesIO(b"file"))
            return [b"other"]

        assert b"other" == serve(app).body

    @pytest.mark.parametrize("offered", [False, True], ids=["plain", "pathsend"])
    def test_it_begins_where_the_file_stands(self, tmp_path: Path, offered: bool) -> None:
        """Transmission begins at the current position."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        file = path.open("rb")
        file.seek(4)
        exchange = serve(self.wrapping(file), get(extensions={"http.response.pathsend": {}} if offered else {}))

        assert b"456789" == exchange.body
        assert file.closed

    @pytest.mark.parametrize("offered", [False, True], ids=["plain", "pathsend"])
    def test_it_ends_at_content_length(self, tmp_path: Path, offered: bool) -> None:
        """No more than Content-Length bytes of the file are sent."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        app = self.wrapping(path.open("rb"), headers=[("Content-Length", "3")])
        exchange = serve(app, get(extensions={"http.response.pathsend": {}} if offered else {}))

        assert (b"012", True) == (exchange.body, exchange.complete)

    def test_a_file_is_read_where_the_server_cannot_send_it(self, tmp_path: Path) -> None:
        """Without an extension of the server's, a real file is read in the application's thread, and whole."""
        path = tmp_path / "file"
        path.write_bytes(b"x" * 300_000)
        file = path.open("rb")
        exchange = serve(self.wrapping(file, 4096))

        assert b"x" * 300_000 == exchange.body
        assert file.closed

    def test_a_head_request_sends_no_file(self, tmp_path: Path) -> None:
        """The file is closed and not sent, with the extension or without."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        file = path.open("rb")
        exchange = serve(self.wrapping(file), get(method="HEAD", extensions={"http.response.pathsend": {}}))

        assert (b"", True, True) == (exchange.body, exchange.complete, file.closed)
        assert "http.response.pathsend" not in [event["type"] for event in exchange.sent]

    def test_an_error_of_the_file_fails_the_request(self) -> None:
        """What `read()` raises is an error of the application."""

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise AppError("disk gone")

        file = Broken()
        exchange = serve(self.wrapping(file), fails=True)

        assert isinstance(exchange.error, AppError)
        assert (False, True) == (exchange.started, file.closed)


# --- AsgiToWsgi as the application ----------------------------------------------------------------------------------


class TestDetailsApplication:
    """PEP 3333, Specification Details."""

    def test_it_is_a_callable_of_two_positional_arguments(self) -> None:
        """The adapter is called as any WSGI application, again and again."""
        with wsgi(asgi(b"x")) as adapter:
            assert [b"x", b"x"] == [ask(adapter).body, ask(adapter).body]

    def test_it_returns_an_iterable_of_bytes(self) -> None:
        """Bytestrings, concatenating to what the ASGI app sent."""
        body = bytes(range(256))

        assert body + b"end" == fetch(asgi(body, b"", b"end")).body

    def test_a_small_response_is_a_list_of_one(self) -> None:
        """What is there as a whole is returned as the single-element list that the PEP recommends."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"hello", headers=[(b"content-type", b"text/plain")])

        call = fetch(app)

        assert [b"hello"] == call.result
        assert list is type(call.result)

    def test_start_response_is_called_once_and_before_the_body(self) -> None:
        """One positional call, made before the application returns."""
        with wsgi(asgi(b"a", b"b")) as adapter:
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

        with wsgi(app) as adapter:
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
            with wsgi(app) as adapter:
                call = Call(adapter, wsgi_environ())
                bounded(call.call)
                chunks = bounded(lambda call=call: list(call.iterator))
                bounded(call.close)

            if hasattr(call.result, "__len__"):
                assert len(call.result) == len(chunks)

    def test_it_is_an_iterator_to_its_end(self) -> None:
        """After the end `next()` goes on to say so, and `close()` may be called twice."""
        with wsgi(asgi(b"a", b"b")) as adapter:
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

        with wsgi(app) as adapter:
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

        with wsgi(app, disconnect_grace=0.05) as adapter:
            call = Call(adapter, wsgi_environ())
            bounded(call.call)
            bounded(call.close)
            ended.wait()

    def test_the_environ_of_the_server_is_left_as_it_is(self) -> None:
        """Nothing of the request is taken out of the environ or changed in it."""
        environ = wsgi_environ("POST", "/x", b"abc", {"X-A": "1"})
        before = dict(environ)
        fetch(asgi(b"x"), environ)

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
            with wsgi(inner) as adapter:
                for method in ("GET", "HEAD", "POST"):
                    bounded(lambda adapter=adapter, method=method: check(adapter, wsgi_environ(method)))


class TestInputApplication:
    """PEP 3333, Input and Error Streams."""

    def test_no_more_than_content_length_is_read(self) -> None:
        """The input is read with sizes that add up to the Content-Length, in the server's own thread."""
        stream = Input(b"x" * 200_000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"%d" % len(await read_body(receive)))

        environ = wsgi_environ("POST", body=stream, CONTENT_LENGTH="200000")
        server_threads: list[int] = []

        with wsgi(app) as adapter:

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
            fetch(asgi(b"x"), environ)
            assert not environ["wsgi.errors"].closed
        finally:
            io.BytesIO.close(environ["wsgi.input"])

    def test_without_content_length_nothing_is_read(self) -> None:
        """A GET without a body leaves the input alone, whatever a read of it would do."""
        stream = Input(b"not the request's", hold=Flag())
        seen: list[Event] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(await receive())
            await reply(send, b"x")

        fetch(app, wsgi_environ(body=stream))

        assert [] == stream.reads
        assert [{"type": "http.request", "body": b"", "more_body": False}] == seen


class TestStartResponseApplication:
    """PEP 3333, The start_response() Callable."""

    @pytest.mark.parametrize("code", [200, 201, 299, 404, 418, 500, 599])
    def test_the_status_has_code_and_reason(self, code: int) -> None:
        """Also a code without a registered reason gives a string of the form `999 Message here`."""
        assert code == fetch(asgi(b"x", status=code)).code  # the scripted server checks the form

    def test_headers_are_a_list_of_pairs_of_native_strings(self) -> None:
        """Bytes become one code point each, order and repeats stay."""
        headers = [(b"set-cookie", b"a=1"), (b"x-name", b"J\xf6rg"), (b"set-cookie", b"b=2")]
        call = fetch(asgi(b"x", headers=headers))

        assert [("set-cookie", "a=1"), ("x-name", "J\xf6rg"), ("set-cookie", "b=2")] == [
            (name.lower(), value) for name, value in call.headers
        ]

    @pytest.mark.parametrize(
        "pair",
        [
            (b"x-a", b"x\r\nset-cookie: y"),
            (b"x-a", b"x\n"),
            (b"x-a", b"x\0"),
            (b"x\r\ny", b"x"),
            (b"bad name", b"x"),
            (b"", b"x"),
            (b":status", b"200"),
        ],
    )
    def test_a_header_that_breaks_the_head_does_not_get_out(self, pair: tuple[bytes, bytes], log: LogWatch) -> None:
        """What no server may send is an error of the ASGI app, and never reaches `start_response`."""
        call = fetch(asgi(b"x", headers=[pair]), fails=True)

        assert 0 == call.starts
        log.wait_for("header", level=40)

    @pytest.mark.parametrize(
        "name", [b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"]
    )
    def test_no_hop_by_hop_header_gets_out(self, name: bytes) -> None:
        """They are common in ASGI apps and forbidden here: they are left out, and the response is served."""
        call = fetch(asgi(b"x", headers=[(name, b"close"), (b"x-a", b"1")]))

        assert ["1"] == call.header("x-a")
        assert [] == call.header(name.decode())

    def test_content_length_passes(self) -> None:
        """The app's Content-Length reaches the server."""
        assert ["2"] == fetch(asgi(b"x", b"y", headers=[(b"content-length", b"2")])).header("content-length")

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_a_response_that_has_no_body_carries_none(self, method: str, status: int) -> None:
        """Responses to HEAD, 204 and 304 yield nothing."""
        call = fetch(asgi(b"body", status=status, headers=[(b"etag", b'"1"')]), wsgi_environ(method))

        assert (status, b"") == (call.code, call.body)
        assert ['"1"'] == call.header("etag")

    def test_write_is_not_used(self) -> None:
        """New applications should do without it, and so does the adapter."""
        assert b"abc" == fetch(asgi(b"a", b"b", b"c")).body  # the scripted server's write() raises


class TestErrorsApplication:
    """PEP 3333, Error Handling."""

    @pytest.mark.parametrize("when", ["at once", "after http.response.start"])
    def test_an_error_before_the_body_is_raised_from_the_call(self, when: str, log: LogWatch) -> None:
        """The server gets the exception with no header sent, so that it can answer 500; it is logged."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if when != "at once":
                await send({"type": "http.response.start", "status": 200})
            raise AppError("early")

        call = fetch(app, fails=True)

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

        with wsgi(app) as adapter:
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

        with wsgi(app, disconnect_grace=0.05) as adapter:
            with pytest.raises(AppError):
                bounded(lambda: adapter(wsgi_environ(), refusing))
            ended.wait()

    def test_middleware_sees_the_exception(self) -> None:
        """WSGI middleware around the adapter catches what the ASGI app raised, as the object it is."""
        cause = AppError("mine")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise cause

        with wsgi(app) as adapter:

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

        call = fetch(app, wsgi_environ(wsgi__file_wrapper=Wrapper))

        assert [call.result] == wrapped
        assert b"0123456789" == call.body
        assert wrapped[0].file.closed


class TestOverviewApplication:
    """PEP 3333, Specification Overview."""

    @pytest.mark.parametrize("bad", [None, 5, "app", lambda: None, lambda environ, start_response: []])
    def test_what_is_no_asgi_application_is_refused_at_construction(self, bad: Any) -> None:
        """What cannot be called with three positional arguments is a `TypeError` before the first request."""
        with pytest.raises(TypeError):
            AsgiToWsgi(bad)
