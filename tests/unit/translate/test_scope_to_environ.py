"""A scope becomes an environ: a table for each rule, then what holds for any scope."""

from io import BytesIO, StringIO
from itertools import repeat
from operator import length_hint
from types import MappingProxyType
from typing import Any, ClassVar
from wsgiref.validate import validator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge._translate.scope_to_environ import scope_to_environ
from bridge.errors import ClientProtocolError, ServerProtocolError

# What "surrogateescape" makes of the byte 0xff.
ESCAPED = chr(0xDCFF)

few = settings(max_examples=40, deadline=None)


def a_scope(*headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    """A scope as Uvicorn makes it; a change to `...` takes the key out."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("10.0.0.1", 8000),
        "client": ("10.0.0.2", 54321),
        "scheme": "http",
        "root_path": "",
        "headers": list(headers),
        "state": {},
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
    } | changes
    return {key: value for key, value in scope.items() if value is not ...}


def a_path(path: str, raw_path: bytes | None = None, root_path: str = "") -> dict[str, Any]:
    return scope_to_environ(a_scope(path=path, raw_path=raw_path, root_path=root_path))


class TestWhole:
    def test_a_plain_request(self) -> None:
        """PEP 3333, "environ Variables": nothing is missing, and nothing is there that nobody sent."""
        scope = a_scope((b"host", b"example.com"), method="PUT", path="/a", raw_path=b"/a", query_string=b"b=c")
        assert scope_to_environ(scope) == {
            "REQUEST_METHOD": "PUT",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/a",
            "QUERY_STRING": "b=c",
            "REQUEST_URI": "/a?b=c",
            "RAW_URI": "/a?b=c",
            "SERVER_NAME": "10.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "10.0.0.2",
            "REMOTE_PORT": "54321",
            "HTTP_HOST": "example.com",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }

    def test_the_least_scope_will_do(self) -> None:
        """ASGI HTTP, "HTTP Connection Scope": the other keys are optional, or left out by servers all the same."""
        environ = scope_to_environ({"type": "http", "method": "GET", "path": "/", "headers": []})
        names = ("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "REMOTE_ADDR", "QUERY_STRING", "wsgi.url_scheme")
        assert [environ[name] for name in names] == ["localhost", "80", "HTTP/1.1", "", "", "http"]

    def test_optional_keys_may_be_none(self) -> None:
        """Servers that do not know something say so."""
        keys = ("http_version", "server", "client", "scheme", "root_path", "raw_path", "query_string", "extensions")
        environ = scope_to_environ(a_scope(**dict.fromkeys(keys)))
        least = scope_to_environ({"type": "http", "method": "GET", "path": "/", "headers": []})
        assert environ == least

    def test_each_environ_is_a_new_dict(self) -> None:
        """PEP 3333: the app may change it in any way it likes."""
        scope_to_environ(a_scope())["wsgi.run_once"] = "changed"
        environ = scope_to_environ(a_scope())
        assert (type(environ), environ["wsgi.run_once"]) == (dict, False)

    def test_the_process_environment_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A SCRIPT_NAME there would move every app of the process."""
        monkeypatch.setenv("SCRIPT_NAME", "/moved")
        monkeypatch.setenv("HTTP_HOST", "moved")
        environ = scope_to_environ(a_scope())
        assert (environ["SCRIPT_NAME"], environ.get("HTTP_HOST")) == ("", None)

    def test_wsgiref_finds_it_valid(self) -> None:
        """With the two streams that the adapter adds."""

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["PATH_INFO"].encode()]

        scope = a_scope((b"host", b"h"), (b"content-length", b"3"), root_path="/r", path="/r/p", raw_path=b"/r/p")
        environ = scope_to_environ(scope) | {"wsgi.input": BytesIO(), "wsgi.errors": StringIO()}
        response = validator(app)(environ, lambda status, headers, exc_info=None: lambda data: None)
        assert list(response) == [b"/p"]
        response.close()  # type: ignore[attr-defined]


class TestProtocolAndScheme:
    @pytest.mark.parametrize(
        ("version", "protocol"),
        [
            ("1.0", "HTTP/1.0"),
            ("1", "HTTP/1.0"),
            ("1.1", "HTTP/1.1"),
            ("2", "HTTP/2"),
            ("2.0", "HTTP/2"),
            ("3", "HTTP/3"),
            ("3.0", "HTTP/3"),
            ("4", "HTTP/4"),
        ],
    )
    def test_server_protocol(self, version: str, protocol: str) -> None:
        """RFC 3875 4.1.16, with the versions as ASGI names them."""
        assert scope_to_environ(a_scope(http_version=version))["SERVER_PROTOCOL"] == protocol

    @pytest.mark.parametrize(("scheme", "https"), [("http", None), ("https", "on"), ("", None), ("x", None)])
    def test_https_is_on_over_tls_only(self, scheme: str, https: str | None) -> None:
        """PEP 3333, "environ Variables": servers should say HTTPS where it applies; no scheme means http."""
        environ = scope_to_environ(a_scope(scheme=scheme))
        assert (environ["wsgi.url_scheme"], environ.get("HTTPS")) == (scheme or "http", https)


class TestPath:
    @pytest.mark.parametrize(
        ("root", "path", "script", "info"),
        [
            ("", "/x", "", "/x"),
            ("/api", "/api/x", "/api", "/x"),
            ("/api", "/api", "/api", ""),
            ("/api", "/api/", "/api", "/"),
            ("/api", "/api//x", "/api", "//x"),
            ("/api", "/apiv2/x", "/api", "/apiv2/x"),
            ("/api", "/x", "/api", "/x"),
            ("/api", "/", "/api", "/"),
            ("/api", "/api/api/x", "/api", "/api/x"),
            ("/api/", "/api/x", "/api", "/x"),
            # A slash at the end of the root is the path's as well.
            ("/api/", "/api/", "/api", "/"),
            ("/api/", "/api//x", "/api", "//x"),
            ("/api/", "/api", "/api", ""),
            ("/", "/", "", "/"),
            ("/", "/x", "", "/x"),
            ("/", "//x", "", "//x"),
            ("api/", "/api/", "/api", "/"),
            ("api", "api/x", "/api", "/x"),
            ("api", "/api/x", "/api", "/x"),
            ("/a/b", "/a/b/c", "/a/b", "/c"),
            ("", "*", "", "/*"),
            ("", "", "", ""),
        ],
    )
    def test_the_root_is_cut_off_between_segments(self, root: str, path: str, script: str, info: str) -> None:
        """ASGI HTTP: `root_path` is SCRIPT_NAME; RFC 3875 4.1.5 and 4.1.13: each is empty or starts with a slash.

        A path that does not hold the root was stripped by a proxy, and stays as it is.
        """
        environ = a_path(path, path.encode(), root)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, info)

    @pytest.mark.parametrize(
        ("root", "path", "raw", "script", "info"),
        [
            ("", "/é", b"/%C3%A9", "", "/Ã©"),
            ("", "/é", None, "", "/Ã©"),
            ("/é", "/é/ü", b"/%C3%A9/%C3%BC", "/Ã©", "/Ã¼"),
            ("/é", "/ü", b"/%C3%BC", "/Ã©", "/Ã¼"),
            # Bytes that are no UTF-8 come back from raw_path, where the server lost them or escaped them.
            ("", "/\ufffd", b"/%ff", "", "/\xff"),
            ("", "/" + ESCAPED, b"/%ff", "", "/\xff"),
            ("", "/\ufffd", b"/\xff?q=\xfe", "", "/\xff"),
            ("", "/\ufffd", b"/%EF%BF%BD", "", "/\xef\xbf\xbd"),
            ("/r", "/r/\ufffd", b"/r/%ff", "/r", "/\xff"),
            ("/r", "/\ufffd", b"/%ff", "/r", "/\xff"),
            ("/r", "/\ufffd", b"/r/%ff", "/r", "/\xff"),
            ("/\ufffd", "/\ufffd/\ufffd/x", b"/%fe/%ff/x", "/\xfe", "/\xff/x"),
            ("/\ufffd/b", "/\ufffd/b", b"/%fe/b", "/\xfe/b", ""),
            # Where raw_path is another path, or none, the replacement character is all there is.
            ("", "/\ufffd", b"/other", "", "/\xef\xbf\xbd"),
            ("", "/\ufffd", None, "", "/\xef\xbf\xbd"),
            ("", "/" + ESCAPED, None, "", "/\xff"),
        ],
    )
    def test_each_character_is_a_byte(self, root: str, path: str, raw: bytes | None, script: str, info: str) -> None:
        """PEP 3333, "Unicode Issues": native strings are bytes decoded as latin-1."""
        environ = a_path(path, raw, root)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, info)

    def test_a_path_that_stands_for_no_bytes_is_refused(self) -> None:
        """A lone surrogate is neither UTF-8 nor an escaped byte."""
        with pytest.raises(ClientProtocolError) as caught:
            a_path("/\ud800")
        assert caught.value.status == 400

    @pytest.mark.parametrize(
        ("path", "raw", "query", "uri"),
        [
            ("/a/b", b"/a%2Fb", b"", "/a%2Fb"),
            ("/a b", b"/a%20b", b"c=d%20e", "/a%20b?c=d%20e"),
            ("/a", b"/a?c=d", b"c=d", "/a?c=d"),
            ("/é", b"/\xc3\xa9", b"\xff", "/\xc3\xa9?\xff"),
            ("/a b/é?", None, b"c", "/a%20b/%C3%A9%3F?c"),
            ("/a;b=c/@:~!$&'()*+,", None, b"", "/a;b=c/@:~!$&'()*+,"),
            ("/" + ESCAPED, None, b"", "/%FF"),
        ],
    )
    def test_request_uri_is_what_the_client_sent(self, path: str, raw: bytes | None, query: bytes, uri: str) -> None:
        """With its escapes, where the server tells them in `raw_path`; RAW_URI is Gunicorn's name for the same."""
        environ = scope_to_environ(a_scope(path=path, raw_path=raw, query_string=query))
        assert (environ["REQUEST_URI"], environ["RAW_URI"]) == (uri, uri)

    @pytest.mark.parametrize(("query", "native"), [(b"", ""), (b"a=%C3%A9", "a=%C3%A9"), (b"a=\xff\xc3", "a=\xff\xc3")])
    def test_any_query_passes(self, query: bytes, native: str) -> None:
        """Its bytes are for the app to decode."""
        assert scope_to_environ(a_scope(query_string=query))["QUERY_STRING"] == native


class TestHeaders:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ([], {}),
            ([(b"X-A", b"b")], {"HTTP_X_A": "b"}),
            ([[b"x-a", b"b"]], {"HTTP_X_A": "b"}),
            ([(b"x-a", b"\xe9\xff\t")], {"HTTP_X_A": "\xe9\xff\t"}),
            ([(b"x-a", b"")], {"HTTP_X_A": ""}),
            ([(b"Content-Type", b"a/b"), (b"Content-Length", b"3")], {"CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "3"}),
            # RFC 9110 5.3
            ([(b"x-a", b"1"), (b"x-b", b"2"), (b"X-A", b"3")], {"HTTP_X_A": "1,3", "HTTP_X_B": "2"}),
            ([(b"x-a", b""), (b"x-a", b""), (b"x-a", b"a"), (b"x-a", b"a")], {"HTTP_X_A": ",,a,a"}),
            # RFC 9113 8.2.3
            ([(b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"Cookie", b"c=3")], {"HTTP_COOKIE": "a=1; b=2; c=3"}),
            ([(b"content-type", b"a/b"), (b"content-type", b"a/b")], {"CONTENT_TYPE": "a/b"}),
            # RFC 9110 8.6
            ([(b"content-length", b"3"), (b"content-length", b"3")], {"CONTENT_LENGTH": "3"}),
            ([(b"content-length", b"3, 3,3")], {"CONTENT_LENGTH": "3"}),
            # CGI's way to say that there is none
            ([(b"content-length", b"")], {}),
            ([(b"content-length", b" ")], {}),
            # RFC 9112 6.3
            (
                [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")],
                {"HTTP_TRANSFER_ENCODING": "chunked"},
            ),
            (
                [(b"transfer-encoding", b"chunked"), (b"content-length", b"3"), (b"content-length", b"x")],
                {"HTTP_TRANSFER_ENCODING": "chunked"},
            ),
            # Spoofing, httpoxy, pseudo-headers, nonsense
            ([(b"x_user", b"admin"), (b"x-user", b"me"), (b"X_User", b"root")], {"HTTP_X_USER": "me"}),
            ([(b"content_length", b"9"), (b"host_", b"h"), (b"proxy", b"p"), (b":path", b"/"), (b"", b"x")], {}),
            # Granian's empty Host where there is none
            ([(b"host", b"")], {}),
        ],
    )
    def test_headers(self, headers: list[Any], expected: dict[str, str]) -> None:
        """The rule is in the comment above each row."""
        plain = scope_to_environ(a_scope())
        environ = scope_to_environ(a_scope(headers=headers))
        assert {key: value for key, value in environ.items() if key not in plain} == expected

    @pytest.mark.parametrize(
        ("headers", "clause"),
        [
            ([(b"host", b"a"), (b"host", b"b")], "RFC 9112 3.2"),
            ([(b"host", b"a"), (b"Host", b"a")], "RFC 9112 3.2"),
            ([(b"host", b""), (b"host", b"a")], "RFC 9112 3.2"),
            ([(b"content-type", b"a/b"), (b"content-type", b"a/c")], "RFC 9110 5.3"),
            ([(b"content-length", b"3"), (b"content-length", b"4")], "RFC 9112 6.3"),
            ([(b"content-length", b"3"), (b"x-a", b""), (b"content-length", b"")], "RFC 9112 6.3"),
            ([(b"content-length", b"3,4")], "RFC 9112 6.3"),
            ([(b"content-length", b"3,")], "RFC 9112 6.3"),
            ([(b"content-length", b","), (b"content-length", b"")], "RFC 9112 6.3"),
            ([(b"content-length", b"-1")], "RFC 9112 6.3"),
            ([(b"content-length", b"+1")], "RFC 9112 6.3"),
            ([(b"content-length", b"1_0")], "RFC 9112 6.3"),
            ([(b"content-length", b"0x1")], "RFC 9112 6.3"),
            ([(b"content-length", b"\xb2")], "RFC 9112 6.3"),
            ([(b"content-length", b"9" * 5000)], "RFC 9112 6.3"),
            ([(b"x-a", b"a\nb")], "RFC 9110 5.5"),
            ([(b"x-a", b"a\r")], "RFC 9110 5.5"),
            ([(b"x-a", b"\0")], "RFC 9110 5.5"),
        ],
    )
    def test_what_http_forbids_is_refused(self, headers: list[Any], clause: str) -> None:
        """Differing lengths smuggle requests, two hosts poison caches."""
        with pytest.raises(ClientProtocolError) as caught:
            scope_to_environ(a_scope(headers=headers))
        assert (caught.value.status, caught.value.clause) == (400, clause)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (b"host", "sent 3 Host headers; expected one (RFC 9112 3.2)"),
            (b"content-type", "sent 2 different Content-Types; expected one (RFC 9110 5.3)"),
        ],
    )
    def test_the_message_counts_what_must_not_be_repeated(self, name: bytes, message: str) -> None:
        with pytest.raises(ClientProtocolError) as caught:
            scope_to_environ(a_scope((name, b"a"), (name, b"b"), (name, b"a")))
        assert f"the client {message}" == str(caught.value)

    def test_the_message_shows_no_value_but_a_length(self) -> None:
        """A cookie in a log is a leak."""
        with pytest.raises(ClientProtocolError) as caught:
            scope_to_environ(a_scope((b"cookie", b"secret\n")))
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("name", [b"x-a", b"cookie", b"content-length"])
    def test_a_header_may_occur_max_repeats_times(self, name: bytes) -> None:
        """RFC 6585 5: the status of one time too many is 431."""
        scope_to_environ(a_scope(*[(name, b"1")] * 3), max_repeats=3)
        with pytest.raises(ClientProtocolError) as caught:
            scope_to_environ(a_scope(*[(name, b"1")] * 4), max_repeats=3)
        assert caught.value.status == 431
        assert "more than 3 times; expected at most 3 times (RFC 6585 5)" in str(caught.value)

    def test_a_flood_of_repeats_is_not_read_to_its_end(self) -> None:
        """By default the 101st is the last that is looked at."""
        flood = repeat((b"x-a", b"b"), 100_000)
        with pytest.raises(ClientProtocolError):
            scope_to_environ(a_scope(headers=flood))
        assert length_hint(flood) == 100_000 - 101

    def test_repeats_take_linear_time(self) -> None:
        """No value is copied once more for each that follows it."""

        class Piece(str):
            __slots__ = ()

            def __add__(self, other: str) -> str:
                raise AssertionError("joined pair by pair")

            __radd__ = __add__

        class Value(bytes):
            __slots__ = ()

            def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
                return Piece(super().decode(encoding, errors))

        environ = scope_to_environ(a_scope(*[(b"x-a", Value(b"b"))] * 50, *[(b"cookie", Value(b"c"))] * 50))
        assert (environ["HTTP_X_A"], environ["HTTP_COOKIE"]) == (",".join("b" * 50), "; ".join("c" * 50))


class TestConnection:
    @pytest.mark.parametrize(
        ("client", "address", "port"),
        [
            (("10.0.0.2", 5), "10.0.0.2", "5"),
            (["10.0.0.2", 5], "10.0.0.2", "5"),
            (("10.0.0.2", "5"), "10.0.0.2", "5"),
            (("::1", 5, 0, 0), "::1", "5"),
            (("10.0.0.2", 0), "10.0.0.2", None),
            (("10.0.0.2", None), "10.0.0.2", None),
            (("", 5), "", None),
            (None, "", None),
            (..., "", None),
        ],
    )
    def test_client(self, client: Any, address: str, port: str | None) -> None:
        """RFC 3875 4.1.8, and REMOTE_PORT as servers know it; nothing is made up."""
        environ = scope_to_environ(a_scope(client=client))
        assert (environ["REMOTE_ADDR"], environ.get("REMOTE_PORT")) == (address, port)

    @pytest.mark.parametrize(
        ("server", "host", "scheme", "name", "port"),
        [
            (("10.0.0.1", 8000), b"example.com", "http", "10.0.0.1", "8000"),
            (["10.0.0.1", 8000], b"example.com", "http", "10.0.0.1", "8000"),
            (("10.0.0.1", "8000"), b"example.com", "http", "10.0.0.1", "8000"),
            (("::1", 8000), b"example.com", "http", "[::1]", "8000"),
            (("[::1]", 8000), b"example.com", "http", "[::1]", "8000"),
            (None, b"example.com", "http", "example.com", "80"),
            (..., b"example.com:81", "http", "example.com", "81"),
            (("/run/a.sock", None), b"example.com", "https", "example.com", "443"),
            (("/run/a.sock", None), b"[::1]", "http", "[::1]", "80"),
            (("/run/a.sock", None), b"[::1]:81", "http", "[::1]", "81"),
            (("/run/a.sock", None), b"example.com:", "http", "example.com", "80"),
            (("/run/a.sock", None), b"example.com:x", "http", "example.com", "80"),
            (("/run/a.sock", None), b":81", "http", "localhost", "81"),
            (("/run/a.sock", None), b"", "https", "localhost", "443"),
            (("", 8000), b"", "http", "localhost", "80"),
            (("10.0.0.1", 0), b"example.com:81", "http", "example.com", "81"),
        ],
    )
    def test_server(self, server: Any, host: bytes, scheme: str, name: str, port: str) -> None:
        """PEP 3333: SERVER_NAME and SERVER_PORT are never empty; where unknown, what the client called us will do."""
        environ = scope_to_environ(a_scope((b"host", host), server=server, scheme=scheme))
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


class TestTls:
    def test_the_extension_becomes_the_variables_of_mod_ssl(self) -> None:
        """ASGI TLS Extension, "TLS Connection Scope"; the table is in test_tls.py."""
        environ = scope_to_environ(a_scope(scheme="https", extensions={"tls": {"tls_version": 0x0304}}))
        assert (environ["SSL_PROTOCOL"], environ["SSL_CLIENT_VERIFY"]) == ("TLSv1.3", "NONE")

    def test_without_the_extension_there_are_none(self) -> None:
        """Nobody can know what an app would take a made-up value for."""
        environ = scope_to_environ(a_scope(scheme="https", extensions={"http.response.pathsend": {}}))
        assert [key for key in environ if key.startswith("SSL_")] == []


class TestCrossingTwice:
    OUTER: ClassVar[dict[Any, Any]] = {
        "REMOTE_USER": "ann",
        "SSL_CIPHER": "c",
        "mod_wsgi.version": (6, 1),
        "PATH_INFO": "/stale",
        "CONTENT_TYPE": "stale",
        "CONTENT_LENGTH": "1",
        "REMOTE_PORT": "1",
        "REMOTE_HOST": "stale",
        "HTTPS": "on",
        "HTTP_X_STALE": "1",
        "wsgi.input": "stale",
        "wsgi.file_wrapper": "stale",
        "asgi.scope": "stale",
        "bridge.state": "stale",
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": True,
        5: "five",
    }

    @pytest.mark.parametrize("kind", [dict, MappingProxyType])
    def test_what_the_outer_server_said_is_carried_over(self, kind: type) -> None:
        """The facts of the server and its middleware, and nothing of the request, which the scope tells."""
        plain = scope_to_environ(a_scope(client=None))
        environ = scope_to_environ(a_scope(client=None, wsgi_environ=kind(self.OUTER)))
        assert {key: value for key, value in environ.items() if plain.get(key) != value} == {
            "REMOTE_USER": "ann",
            "SSL_CIPHER": "c",
            "mod_wsgi.version": (6, 1),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": True,
        }

    def test_an_outer_environ_without_the_flags_changes_none(self) -> None:
        """Then ours hold."""
        assert scope_to_environ(a_scope(wsgi_environ={})) == scope_to_environ(a_scope())


class TestServerAtFault:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"method": ...}, "gave a scope without method; expected str"),
            ({"method": b"GET"}, "gave a scope whose method is of type bytes; expected str"),
            ({"method": None}, "method"),
            ({"path": ...}, "path"),
            ({"path": b"/"}, "path"),
            ({"path": None}, "path"),
            ({"path": bytearray()}, "path"),
            ({"headers": ...}, "headers"),
            ({"headers": None}, "headers"),
            ({"headers": 5}, "gave a scope whose headers is of type int"),
            ({"headers": [("host", b"h")]}, "gave a scope with a header of types (str, bytes)"),
            ({"headers": [None]}, "gave a scope with a header of type NoneType"),
            ({"headers": ["ab"]}, "gave a scope with a header of type str"),
            ({"headers": [(b"host", "h")]}, "header"),
            ({"headers": [(bytearray(b"host"), b"h")]}, "header"),
            ({"headers": [(b"a", b""), (b"host",)]}, "gave a scope with a header of types (bytes)"),
            # A query that is lost is another request.
            ({"query_string": ["a"]}, "query_string"),
            ({"wsgi_environ": 5}, "wsgi_environ"),
            # What can be mended beside it does not hide it.
            ({"path": ..., "scheme": b"http"}, "path"),
            # Looked at once, they are gone.
            ({"headers": iter([(b"host",)])}, "read only once"),
            ({"headers": iter([(b"host", b"h")]), "client": ("::1", 5, 0, 0)}, "read only once"),
        ],
    )
    def test_a_scope_that_asgi_forbids_is_the_servers_fault(self, changes: dict[str, Any], named: str) -> None:
        """The message names what is wrong, and the clause."""
        with pytest.raises(ServerProtocolError, match="ASGI HTTP") as caught:
            scope_to_environ(a_scope(**changes))
        assert named in str(caught.value)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"raw_path": "/a%20b", "path": "/a b"}, {"PATH_INFO": "/a b", "RAW_URI": "/a%20b"}),
            ({"raw_path": "/\xe9", "path": "/\xe9"}, {"PATH_INFO": "/\xc3\xa9", "RAW_URI": "/\xc3\xa9"}),
            ({"raw_path": ["/"], "path": "/a b"}, {"PATH_INFO": "/a b", "RAW_URI": "/a%20b"}),
            ({"query_string": "a=%20"}, {"QUERY_STRING": "a=%20"}),
            ({"query_string": bytearray(b"a")}, {"QUERY_STRING": "a"}),
            ({"root_path": b"/\xc3\xa9", "path": "/\xe9/x"}, {"SCRIPT_NAME": "/\xc3\xa9", "PATH_INFO": "/x"}),
            ({"http_version": 2}, {"SERVER_PROTOCOL": "HTTP/2"}),
            ({"http_version": 1.0}, {"SERVER_PROTOCOL": "HTTP/1.0"}),
            ({"http_version": b"1.0"}, {"SERVER_PROTOCOL": "HTTP/1.0"}),
            ({"scheme": b"https"}, {"wsgi.url_scheme": "https", "HTTPS": "on"}),
            ({"client": ("h", "x")}, {"REMOTE_ADDR": "h"}),
            ({"client": ("h",)}, {"REMOTE_ADDR": "h"}),
            ({"client": ("::1", 5, 0, 0)}, {"REMOTE_ADDR": "::1", "REMOTE_PORT": "5"}),
            ({"client": "h:5"}, {"REMOTE_ADDR": ""}),
            ({"client": (b"h", 5)}, {"REMOTE_ADDR": ""}),
            ({"client": (["h"], 5)}, {"REMOTE_ADDR": ""}),
            ({"server": ("h", "x")}, {"SERVER_NAME": "localhost"}),
            ({"server": 5}, {"SERVER_NAME": "localhost"}),
            ({"server": (b"h", 5)}, {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}),
            ({"server": (("h", 1), 5)}, {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}),
            ({"server": ("h", float("inf"))}, {"SERVER_NAME": "localhost"}),
            ({"extensions": {"tls": 5}}, {}),
            ({"extensions": {"tls": {"client_cert_chain": 5}}}, {}),
            ({"extensions": {"tls": {"client_cert_chain": "PEM"}}}, {"SSL_CLIENT_CERT": "", "SSL_CLIENT_VERIFY": ""}),
            ({"extensions": {"tls": {"client_cert_chain": [b"PEM"]}}}, {"SSL_CLIENT_CERT": ""}),
            ({"extensions": {"tls": {"client_cert_chain": ["PEM", None]}}}, {"SSL_CLIENT_CERT": ""}),
            ({"extensions": {"tls": {"client_cert_name": b"CN"}}}, {"SSL_CLIENT_S_DN": "", "SSL_CLIENT_VERIFY": ""}),
            ({"extensions": {"tls": {"server_cert": 5}}}, {"SSL_SERVER_CERT": ""}),
            ({"extensions": {"tls": {"client_cert_error": ["bad"]}}}, {"SSL_CLIENT_VERIFY": ""}),
            ({"extensions": {"tls": {"tls_version": []}}}, {}),
            ({"extensions": {"tls": {"cipher_suite": {"a": 1}}}}, {}),
            ({"extensions": ["tls"]}, {}),
        ],
    )
    def test_an_optional_key_of_a_wrong_type_is_taken_for_what_it_means(
        self, changes: dict[str, Any], expected: dict[str, str]
    ) -> None:
        """And for missing where it means nothing: there are servers that give a str, in each of their requests."""
        scope = a_scope(**changes)
        before = dict(scope)
        environ = scope_to_environ(scope)
        assert {key: environ.get(key, "") for key in expected} == expected
        assert scope == before

    def test_a_fault_of_ours_is_not_the_servers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blamed on the server, it would never be looked for here."""
        error = TypeError("of ours")

        def fail(*_arguments: object) -> None:
            raise error

        monkeypatch.setattr("bridge._translate.scope_to_environ._put_path", fail)
        with pytest.raises(TypeError) as caught:
            scope_to_environ(a_scope())
        assert caught.value is error


any_text = st.text(st.characters(exclude_categories=()), max_size=12)


class TestAnything:
    @few
    @given(
        st.lists(st.tuples(st.binary(max_size=16), st.binary(max_size=16)), max_size=6),
        st.lists(
            st.tuples(
                st.sampled_from([b"host", b"content-length", b"Content-Type", b"cookie", b"transfer-encoding", b"x_a"]),
                st.sampled_from([b"", b"1", b"2", b"1,1", b"chunked", b"a:1", b"[", b"]:", b"\xff"]),
            ),
            max_size=4,
        ),
        any_text,
        st.none() | st.binary(max_size=12),
        any_text,
        st.binary(max_size=12),
    )
    def test_a_client_can_cause_no_other_exception(
        self, odd: Any, known: Any, path: str, raw: bytes | None, root: str, query: bytes
    ) -> None:
        """Whatever it sends, it is served or refused, and what is served is made of native strings."""
        scope = a_scope(*odd, *known, path=path, raw_path=raw, root_path=root, query_string=query, server=None)
        try:
            environ = scope_to_environ(scope)
        except ClientProtocolError:
            return
        for key, value in environ.items():
            assert key.startswith("wsgi.") or value.encode("latin-1") is not None
        assert environ["SERVER_NAME"]
        assert environ["SERVER_PORT"].isdecimal()
        assert environ["PATH_INFO"][:1] in ("", "/")
        assert environ["SCRIPT_NAME"][:1] in ("", "/")
        assert environ.get("CONTENT_LENGTH", "0").isdecimal()
