"""An environ becomes a scope: a table for each rule, then what holds for any environ, there and back."""

from typing import Any, ClassVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.scope_to_environ import scope_to_environ
from bridge.errors import ClientProtocolError, ServerProtocolError

few = settings(max_examples=40, deadline=None)


def an_environ(**changes: Any) -> dict[str, Any]:
    """An environ as Gunicorn makes it; a change to `...` takes the key out, "__" stands for a dot."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "RAW_URI": "/",
        "SERVER_NAME": "10.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn/27.0.1",
        "REMOTE_ADDR": "10.0.0.2",
        "REMOTE_PORT": "54321",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    } | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in environ.items() if value is not ...}


def scope_of(**changes: Any) -> dict[str, Any]:
    return dict(environ_to_scope(an_environ(**changes)))


class TestWhole:
    def test_a_plain_request(self) -> None:
        """ASGI HTTP, "HTTP Connection Scope": nothing is missing, and nothing is there that nobody sent."""
        environ = an_environ(
            PATH_INFO="/a", QUERY_STRING="b=c", RAW_URI="/a?b=c", HTTP_HOST="h", CONTENT_TYPE="t", CONTENT_LENGTH="3"
        )
        scope = environ_to_scope(environ)
        assert scope.pop("wsgi_environ") is environ
        assert scope == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a",
            "raw_path": b"/a",
            "query_string": b"b=c",
            "root_path": "",
            "headers": [(b"host", b"h"), (b"content-type", b"t"), (b"content-length", b"3")],
            "client": ("10.0.0.2", 54321),
            "server": ("10.0.0.1", 8000),
            "extensions": {},
        }

    def test_the_least_environ_will_do(self) -> None:
        """PEP 3333 lets servers leave out what is empty, and some leave out more."""
        scope = environ_to_scope({"REQUEST_METHOD": "get"})
        assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == ("GET", "/", b"/", b"")
        assert (scope["scheme"], scope["client"], scope["server"], scope["headers"]) == ("http", None, None, [])

    def test_what_an_app_changes_in_one_scope_does_not_reach_the_next(self) -> None:
        """ASGI, "Middleware": a scope may be changed."""
        scope = scope_of()
        scope["asgi"]["version"] = scope["extensions"]["x"] = "changed"
        assert (scope_of()["asgi"]["version"], scope_of()["extensions"]) == ("3.0", {})

    @pytest.mark.parametrize(
        ("protocol", "version"),
        [
            ("HTTP/0.9", "1.0"),
            ("HTTP/1", "1.0"),
            ("HTTP/1.0", "1.0"),
            ("HTTP/1.1", "1.1"),
            ("http/1.1", "1.1"),
            ("HTTP/2", "2"),
            ("HTTP/2.0", "2"),
            ("HTTP/3", "3"),
            ("HTTP/3.0", "3"),
            ("INCLUDED", "1.1"),
            ("", "1.1"),
            (..., "1.1"),
        ],
    )
    def test_http_version(self, protocol: Any, version: str) -> None:
        """ASGI HTTP: one of 1.0, 1.1, 2 and 3."""
        assert scope_of(SERVER_PROTOCOL=protocol)["http_version"] == version

    @pytest.mark.parametrize("query", ["", "a=%C3%A9", "a=\xff\xc3\xa9"])
    def test_any_query_passes(self, query: str) -> None:
        """Its bytes are for the app to decode."""
        assert scope_of(QUERY_STRING=query)["query_string"] == query.encode("latin-1")


class TestPath:
    @pytest.mark.parametrize(
        ("script", "info", "root", "path"),
        [
            ("", "/x", "", "/x"),
            ("/api", "/x", "/api", "/api/x"),
            ("/api", "", "/api", "/api"),
            ("/api", "/", "/api", "/api/"),
            ("/api/", "/x", "/api", "/api/x"),
            ("/api/", "x", "/api", "/api/x"),
            # The slash is the path's, where a server told of a root that ends in one has cut it off.
            ("/api/", "", "/api", "/api/"),
            ("/api", "x", "/api", "/apix"),
            ("/", "/x", "", "/x"),
            ("/", "", "", "/"),
            ("", "", "", "/"),
            ("", "*", "", "*"),
            ("/Ã©", "/Ã¼", "/é", "/é/ü"),
            ("", "/\xff", "", "/\ufffd"),
            ("/\xff", "/é", "/\ufffd", "/\ufffd/\ufffd"),
        ],
    )
    def test_path_holds_the_root_and_is_text(self, script: str, info: str, root: str, path: str) -> None:
        """ASGI HTTP: `path` is decoded UTF-8, whole; what is no UTF-8 is replaced, as ASGI servers do."""
        scope = scope_of(SCRIPT_NAME=script, PATH_INFO=info, RAW_URI=...)
        assert (scope["root_path"], scope["path"]) == (root, path)

    @pytest.mark.parametrize(
        ("changes", "raw"),
        [
            ({"PATH_INFO": "/a/b", "REQUEST_URI": "/a%2Fb"}, b"/a%2Fb"),
            ({"PATH_INFO": "/a/b", "REQUEST_URI": "/a%2fb?c=/d%2F"}, b"/a%2fb"),
            ({"PATH_INFO": "/a/b", "REQUEST_URI": "http://h:80/a%2Fb?c"}, b"/a%2Fb"),
            ({"PATH_INFO": "/", "REQUEST_URI": "http://h?c"}, b"/"),
            ({"PATH_INFO": "*", "REQUEST_URI": "*"}, b"*"),
            ({"PATH_INFO": "/a/b", "RAW_URI": "/a%2Fb"}, b"/a%2Fb"),
            ({"PATH_INFO": "/a/b", "RAW_PATH_INFO": "/a%2Fb"}, b"/a%2Fb"),
            ({"PATH_INFO": "/a", "REQUEST_URI": "/%61", "RAW_URI": "/a"}, b"/%61"),
            ({"SCRIPT_NAME": "/r", "PATH_INFO": "/\xff", "REQUEST_URI": "/r/%ff"}, b"/r/%ff"),
            ({"PATH_INFO": "/\xc3\xa9", "REQUEST_URI": "/\xc3\xa9?x"}, b"/\xc3\xa9"),
            ({"PATH_INFO": "/%41", "REQUEST_URI": "/%2541"}, b"/%2541"),
            # Rewritten on the way, or nonsense: quoted anew.
            ({"PATH_INFO": "/%41", "REQUEST_URI": "/%41"}, b"/%2541"),
            ({"PATH_INFO": "/b", "REQUEST_URI": "/a", "RAW_URI": "/c%2F", "RAW_PATH_INFO": "/d"}, b"/b"),
            ({"PATH_INFO": "/b", "REQUEST_URI": "/a", "RAW_URI": "/%62"}, b"/%62"),
            ({"PATH_INFO": "/x", "REQUEST_URI": "//x"}, b"/x"),
            ({"SCRIPT_NAME": "/r", "PATH_INFO": "/x", "REQUEST_URI": "/x"}, b"/r/x"),
            ({"PATH_INFO": "/a", "REQUEST_URI": "/\u20ac"}, b"/a"),
            ({"PATH_INFO": "/?", "REQUEST_URI": "/\u20ac"}, b"/%3F"),
            ({"PATH_INFO": "/", "REQUEST_URI": ""}, b"/"),
            ({"PATH_INFO": "/a b/\xff%;=@:"}, b"/a%20b/%FF%25;=@:"),
        ],
    )
    def test_raw_path_is_what_the_client_sent(self, changes: dict[str, str], raw: bytes) -> None:
        """ASGI HTTP: unmodified, without the query; only where it still is the path that the app is asked for."""
        assert scope_of(**{"RAW_URI": ...} | changes)["raw_path"] == raw


class TestHeaders:
    @pytest.mark.parametrize(
        ("changes", "headers"),
        [
            ({}, []),
            ({"HTTP_X_A": "b"}, [(b"x-a", b"b")]),
            ({"HTTP_X_A": ""}, [(b"x-a", b"")]),
            ({"HTTP_X_A": "\xe9\xff\t"}, [(b"x-a", b"\xe9\xff\t")]),
            ({"HTTP_COOKIE": "a=1; b=2"}, [(b"cookie", b"a=1; b=2")]),
            ({"CONTENT_TYPE": "", "CONTENT_LENGTH": ""}, []),
            ({"CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "0"}, [(b"content-type", b"a/b"), (b"content-length", b"0")]),
            ({"HTTP_CONTENT_TYPE": "x", "HTTP_CONTENT_LENGTH": "9", "HTTP_PROXY": "p"}, []),
            (
                {"CONTENT_LENGTH": "3", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
                [(b"transfer-encoding", b"chunked")],
            ),
            (
                {"CONTENT_LENGTH": "3", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": False},
                [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")],
            ),
            # RFC 9110 5.5: blanks around a value are no part of it.
            ({"CONTENT_LENGTH": " 3\t"}, [(b"content-length", b"3")]),
            ({"CONTENT_LENGTH": " "}, []),
        ],
    )
    def test_headers(self, changes: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
        """ASGI HTTP: lower-case names, byte strings; PEP 3333: two keys may be empty where nothing was sent."""
        assert environ_to_scope(an_environ() | changes)["headers"] == headers

    @pytest.mark.parametrize("length", ["x", "-1", "+1", "1 1", "1_0", "3,3", "\xb2", "9" * 5000])
    def test_a_content_length_that_is_no_number_is_refused(self, length: str) -> None:
        """RFC 9110 8.6."""
        with pytest.raises(ClientProtocolError) as caught:
            scope_of(CONTENT_LENGTH=length)
        assert (caught.value.status, caught.value.clause) == (400, "RFC 9110 8.6")

    @pytest.mark.parametrize("value", ["a\r\n b", "a\n", "\r", "\0"])
    def test_a_value_that_http_forbids_is_refused(self, value: str) -> None:
        """RFC 9110 5.5; some servers pass folded lines on."""
        with pytest.raises(ClientProtocolError) as caught:
            scope_of(HTTP_X_A=value)
        assert (caught.value.status, caught.value.clause) == (400, "RFC 9110 5.5")


class TestConnection:
    @pytest.mark.parametrize(
        ("address", "port", "client"),
        [
            ("10.0.0.2", "5", ("10.0.0.2", 5)),
            ("10.0.0.2", 5, ("10.0.0.2", 5)),
            ("::1", "5", ("::1", 5)),
            ("10.0.0.2", ..., ("10.0.0.2", 0)),
            ("10.0.0.2", "", ("10.0.0.2", 0)),
            ("10.0.0.2", "x", ("10.0.0.2", 0)),
            ("", "5", None),
            (..., "5", None),
            (None, None, None),
        ],
    )
    def test_client(self, address: Any, port: Any, client: Any) -> None:
        """ASGI HTTP: host and integer port, or None."""
        assert scope_of(REMOTE_ADDR=address, REMOTE_PORT=port)["client"] == client

    @pytest.mark.parametrize(
        ("name", "port", "scheme", "server"),
        [
            ("h", "8000", "http", ("h", 8000)),
            ("h", 8000, "http", ("h", 8000)),
            ("[::1]", "8000", "http", ("::1", 8000)),
            ("::1", "8000", "http", ("::1", 8000)),
            ("h", "", "http", ("h", 80)),
            ("h", ..., "https", ("h", 443)),
            ("h", "x", "http", ("h", 80)),
            ("", "8000", "http", None),
            (..., "8000", "http", None),
            ("h", "/run/a.sock", "http", ("/run/a.sock", None)),
            ("/run/a.sock", "", "http", ("/run/a.sock", None)),
            ("/run/a.sock", ..., "http", ("/run/a.sock", None)),
        ],
    )
    def test_server(self, name: Any, port: Any, scheme: str, server: Any) -> None:
        """ASGI HTTP: host and integer port, or the path of a unix socket and None, or None."""
        assert scope_of(SERVER_NAME=name, SERVER_PORT=port, wsgi__url_scheme=scheme)["server"] == server


class TestExtensions:
    @pytest.mark.parametrize(
        ("changes", "names"),
        [
            ({}, set()),
            ({"wsgi.early_hints": print}, {"http.response.early_hint"}),
            ({"wsgi.early_hints": None}, set()),
            ({"wsgi.file_wrapper": print}, {"http.response.pathsend"}),
            ({"wsgi.file_wrapper": None}, set()),
            ({"wsgi.url_scheme": "https"}, set()),
            ({"wsgi.url_scheme": "https", "SSL_PROTOCOL": ""}, set()),
            ({"wsgi.url_scheme": "https", "SSL_PROTOCOL": "TLSv1.3"}, {"tls"}),
            ({"wsgi.url_scheme": "https", "SSL_CLIENT_CERT": "A"}, {"tls"}),
            ({"wsgi.url_scheme": "http", "SSL_PROTOCOL": "TLSv1.3"}, set()),
        ],
    )
    def test_what_the_server_can_do_is_offered(self, changes: dict[str, Any], names: set[str]) -> None:
        """And nothing else; ASGI TLS Extension: not on a connection without TLS."""
        assert set(environ_to_scope(an_environ() | changes, pathsend=True)["extensions"]) == names

    def test_pathsend_is_offered_only_where_it_is_asked_for(self) -> None:
        """Middleware that does not know it would lose the response."""
        assert environ_to_scope(an_environ() | {"wsgi.file_wrapper": print})["extensions"] == {}

    def test_tls(self) -> None:
        """ASGI TLS Extension; the table is in test_tls.py."""
        extension = scope_of(wsgi__url_scheme="https", SSL_PROTOCOL="TLSv1.3")["extensions"]["tls"]
        assert extension["tls_version"] == 0x0304


class TestCrossingTwice:
    OUTER: ClassVar[dict[str, Any]] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": "GET",
        "scheme": "https",
        "path": "/r/a",
        "raw_path": b"/r/%61",
        "query_string": b"q",
        "root_path": "/r",
        "headers": [(b"Host", b"example.com:81"), (b"x-a", b"1")],
        "client": ("10.0.0.2", 5),
        "server": ("/run/a.sock", None),
        "state": {"pool": 1},
        "extensions": {
            "tls": {"tls_version": 0x0304, "cipher_suite": 0x9999},
            "http.response.trailers": {},
            "http.response.pathsend": {},
            "websocket.http.response": {},
            "vendor.thing": {"a": 1},
        },
    }

    def home(self, **changes: Any) -> dict[str, Any]:
        environ = scope_to_environ(self.OUTER)
        environ.update(changes)
        return dict(environ_to_scope(environ, outer=self.OUTER))

    def test_the_scope_of_the_server_comes_home(self) -> None:
        """But for its ways to answer, since the response passes through WSGI."""
        scope = self.home()
        del scope["wsgi_environ"]
        extensions = {"tls": self.OUTER["extensions"]["tls"], "vendor.thing": {"a": 1}}
        headers = [(b"host", b"example.com:81"), (b"x-a", b"1")]
        assert scope == self.OUTER | {"extensions": extensions, "headers": headers}
        assert scope["state"] is self.OUTER["state"]

    def test_what_the_environ_can_honour_is_offered(self) -> None:
        """The same names, from the other side."""
        environ = scope_to_environ(self.OUTER) | {"wsgi.file_wrapper": print}
        scope = environ_to_scope(environ, outer=self.OUTER, pathsend=True)
        assert set(scope["extensions"]) == {"tls", "vendor.thing", "http.response.pathsend"}

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"REMOTE_ADDR": "10.9.9.9"}, {"client": ("10.9.9.9", 5)}),
            ({"REMOTE_ADDR": ""}, {"client": None}),
            ({"SERVER_NAME": "other"}, {"server": ("other", 81)}),
            ({"SERVER_PORT": "82"}, {"server": ("example.com", 82)}),
            ({"wsgi.url_scheme": "http"}, {"scheme": "http"}),
            ({"PATH_INFO": "/b"}, {"path": "/r/b", "raw_path": b"/r/b"}),
            ({"SCRIPT_NAME": "/r/a", "PATH_INFO": ""}, {"path": "/r/a", "raw_path": b"/r/%61", "root_path": "/r/a"}),
            ({"HTTP_X_A": "2"}, {"headers": [(b"host", b"example.com:81"), (b"x-a", b"2")]}),
            ({"REQUEST_METHOD": "POST"}, {"method": "POST"}),
        ],
    )
    def test_what_middleware_changed_wins(self, changes: dict[str, Any], expected: dict[str, Any]) -> None:
        """That is what it is there for."""
        scope = self.home(**changes)
        assert {key: scope[key] for key in expected} == expected

    @pytest.mark.parametrize("server", [None, ("/run/a.sock", None), ["/run/a.sock", None]])
    @pytest.mark.parametrize("headers", [[], [(b"host", b"")], [(b"host", b"h")]])
    def test_a_server_without_a_name_comes_home(self, server: Any, headers: list[Any]) -> None:
        """Its name was made up, for URLs."""
        outer = self.OUTER | {"server": server, "headers": headers}
        assert environ_to_scope(scope_to_environ(outer), outer=outer)["server"] == server

    def test_a_server_with_a_name_is_as_the_environ_says(self) -> None:
        """With the types of the specification, whatever those of the outer server were."""
        outer = self.OUTER | {"server": ["::1", "81"], "client": ["::2", "5"]}
        scope = environ_to_scope(scope_to_environ(outer), outer=outer)
        assert (scope["server"], scope["client"]) == (("::1", 81), ("::2", 5))

    def test_the_least_outer_scope_will_do(self) -> None:
        """Its optional keys are made up for nobody."""
        outer = {"type": "http", "method": "GET", "path": "/", "headers": []}
        scope = environ_to_scope(scope_to_environ(outer), outer=outer)
        assert ("state" in scope, scope["asgi"]["version"], scope["extensions"], scope["server"]) == (
            False,
            "3.0",
            {},
            None,
        )


class TestServerAtFault:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"REQUEST_METHOD": ...}, "an environ without REQUEST_METHOD; expected the method of the request"),
            ({"REQUEST_METHOD": None}, "REQUEST_METHOD"),
            (
                {"PATH_INFO": "/\u20ac"},
                "whose PATH_INFO has the character '\u20ac'; expected a str of characters up to",
            ),
            ({"PATH_INFO": ["/"]}, "whose PATH_INFO is of type list; expected a str of characters up to U+00FF"),
            ({"QUERY_STRING": "\u20ac"}, "QUERY_STRING"),
            ({"HTTP_X_A": ["b"]}, "HTTP_X_A"),
            ({"HTTP_X_A": "\u20ac"}, "HTTP_X_A"),
            ({"CONTENT_LENGTH": True}, "CONTENT_LENGTH"),
            ({"SERVER_PROTOCOL": 1.1}, "SERVER_PROTOCOL"),
            ({"HTTP_" + "X" * 10**6: 1.1}, "HTTP_XXX"),
        ],
    )
    def test_an_environ_that_pep_3333_forbids_is_the_servers_fault(self, changes: dict[str, Any], named: str) -> None:
        """The message names what is wrong, and the clause."""
        with pytest.raises(ServerProtocolError, match="PEP 3333") as caught:
            scope_of(**changes)
        assert named in str(caught.value)
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize("port", [float("inf"), float("nan"), None, "http", object()])
    def test_a_port_that_is_none_is_that_of_the_scheme(self, port: object) -> None:
        """It is the server's own, and no reason to refuse a request."""
        assert ("h", 80) == scope_of(SERVER_NAME="h", SERVER_PORT=port)["server"]

    @pytest.mark.parametrize("said", [{}, "", (), ("h",), 5, {"a": 1}])
    def test_an_address_of_the_outer_server_that_is_none_does_not_come_home(self, said: object) -> None:
        """Nor extensions that are none: that scope was mended on its way in."""
        scope = environ_to_scope(an_environ(), outer={"server": said, "extensions": [said], "headers": []})
        assert scope["server"] is None or 2 == len(scope["server"])

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"CONTENT_LENGTH": 3}, {"headers": [(b"content-length", b"3")]}),
            ({"CONTENT_LENGTH": None, "CONTENT_TYPE": None}, {"headers": []}),
            ({"HTTP_X_A": None}, {"headers": []}),
            ({"HTTP_X_A": 5}, {"headers": [(b"x-a", b"5")]}),
            ({"HTTP_X_A": b"\xe9"}, {"headers": [(b"x-a", b"\xe9")]}),
            ({"PATH_INFO": b"/\xc3\xa9"}, {"path": "/\xe9", "raw_path": b"/%C3%A9"}),
            ({"SCRIPT_NAME": None, "PATH_INFO": None}, {"path": "/", "root_path": ""}),
            ({"QUERY_STRING": None}, {"query_string": b""}),
            ({"SERVER_PROTOCOL": None}, {"http_version": "1.1"}),
            ({"SERVER_PROTOCOL": b"HTTP/1.0"}, {"http_version": "1.0"}),
            ({"REQUEST_METHOD": b"get"}, {"method": "GET"}),
            ({"SCRIPT_NAME": b""}, {"root_path": ""}),
            ({"wsgi.url_scheme": b"https"}, {"scheme": "https"}),
        ],
    )
    def test_what_stands_for_a_native_string_is_taken_for_it(
        self, changes: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        """There are servers that give a number, bytes or None; and whoever reads the environ later finds it mended."""
        environ = an_environ() | changes
        scope = environ_to_scope(environ)
        assert {key: scope[key] for key in expected} == expected
        assert all(isinstance(environ[key], str) for key in changes if key in environ)

    def test_a_fault_of_ours_is_not_the_servers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blamed on the server, it would never be looked for here."""
        error = TypeError("of ours")

        def fail(*_arguments: object) -> None:
            raise error

        monkeypatch.setattr("bridge._translate.environ_to_scope._extensions", fail)
        with pytest.raises(TypeError) as caught:
            scope_of()
        assert caught.value is error

    def test_keys_may_be_anything(self) -> None:
        """PEP 3333 forbids no other keys, so they are passed over."""
        environ: dict[Any, Any] = an_environ()
        environ[5] = environ[None] = environ[b"HTTP_X_A"] = environ[("a",)] = "x"
        assert environ_to_scope(environ)["headers"] == []


native = st.text(st.characters(max_codepoint=255), max_size=12)


class TestAnything:
    @few
    @given(
        st.dictionaries(
            st.sampled_from(["CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_HOST", "HTTP_X_A", "REMOTE_ADDR", "REMOTE_PORT"])
            | st.sampled_from(["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "SERVER_NAME", "SERVER_PORT"])
            | native.map("HTTP_".__add__),
            native,
        )
    )
    @example({"SCRIPT_NAME": "\xc2", "PATH_INFO": "\x80"})  # together they are a character
    def test_a_client_can_cause_no_other_exception(self, changes: dict[str, str]) -> None:
        """Whatever it sends, it is served or refused, and what is served can be encoded."""
        try:
            scope = environ_to_scope(an_environ() | changes)
        except ClientProtocolError:
            return
        assert scope["path"].encode()
        assert scope["path"].startswith(scope["root_path"])
        assert all(name == name.lower() for name, _ in scope["headers"])


TOKEN = "!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyz"
KNOWN = ("proxy", "host", "content-length", "content-type", "transfer-encoding")
names = st.text(TOKEN, min_size=1, max_size=6).filter(lambda name: name not in KNOWN)
values = native.filter(lambda value: not set("\r\n\0") & set(value))
other_headers = st.dictionaries(names, values, max_size=4)
known_headers = st.fixed_dictionaries(
    {},
    optional={
        "host": st.just("example.com"),
        "content-type": values.filter(bool),
        "content-length": st.integers(0, 2**40).map(str),
    },
)
headers = st.tuples(known_headers, other_headers).map(lambda pair: pair[0] | pair[1])
addresses = st.tuples(st.sampled_from(["10.0.0.1", "::1", "example.com"]), st.integers(1, 65535))
segments = st.lists(st.binary(min_size=1, max_size=5).filter(lambda segment: b"/" not in segment), max_size=4)
versions = st.sampled_from(["1.0", "1.1", "2", "3"])
safe = st.sampled_from(["", "/", "/!@"])


class TestThereAndBack:
    @few
    @given(st.data())
    def test_a_scope_comes_back(self, data: st.DataObject) -> None:
        """What both can express survives the environ, bytes that are no UTF-8 in the path included."""
        parts = data.draw(segments)
        raw = quote_from_bytes(b"/" + b"/".join(parts), "/" + data.draw(safe)).encode()
        root = b"".join(b"/" + part for part in parts[: data.draw(st.integers(0, len(parts)))])
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": data.draw(versions),
            "method": data.draw(st.sampled_from(["GET", "POST", "M-SEARCH"])),
            "scheme": data.draw(st.sampled_from(["http", "https"])),
            "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
            "raw_path": raw,
            "query_string": data.draw(st.binary(max_size=8)),
            "root_path": root.decode("utf-8", "replace"),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in data.draw(headers).items()],
            "client": data.draw(st.none() | addresses),
            "server": data.draw(addresses),
            "extensions": {},
        }
        environ = scope_to_environ(scope)
        assert environ_to_scope(environ) == scope | {"wsgi_environ": environ}
        assert (environ["SCRIPT_NAME"] + environ["PATH_INFO"]).encode("latin-1") == unquote_to_bytes(raw)

    @few
    @given(st.data())
    def test_an_environ_comes_back(self, data: st.DataObject) -> None:
        """What both can express survives the scope, whatever the bytes of the path are."""
        parts = data.draw(segments)
        cut = data.draw(st.integers(0, len(parts)))
        script, info = (b"".join(b"/" + part for part in some) for some in (parts[:cut], parts[cut:]))
        uri = quote_from_bytes(script + info or b"/", "/" + data.draw(safe))
        query = data.draw(native)
        environ = {
            "REQUEST_METHOD": data.draw(st.sampled_from(["GET", "POST", "M-SEARCH"])),
            "SCRIPT_NAME": script.decode("latin-1"),
            "PATH_INFO": info.decode("latin-1") if parts else "/",
            "QUERY_STRING": query,
            "REQUEST_URI": f"{uri}?{query}" if query else uri,
            "RAW_URI": f"{uri}?{query}" if query else uri,
            "SERVER_NAME": data.draw(st.sampled_from(["10.0.0.1", "[::1]", "example.com"])),
            "SERVER_PORT": str(data.draw(st.integers(1, 65535))),
            "SERVER_PROTOCOL": "HTTP/" + data.draw(versions),
            "REMOTE_ADDR": "10.0.0.2",
            "REMOTE_PORT": str(data.draw(st.integers(1, 65535))),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": data.draw(st.booleans()),
            "wsgi.multiprocess": data.draw(st.booleans()),
            "wsgi.run_once": data.draw(st.booleans()),
            "wsgi.input_terminated": True,
            "mod_wsgi.version": (6, 1),
        }
        for name, value in data.draw(headers).items():
            prefix = "" if name in ("content-type", "content-length") else "HTTP_"
            environ[prefix + name.upper().replace("-", "_")] = value
        assert scope_to_environ(environ_to_scope(environ)) == environ
