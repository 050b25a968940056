"""Names, values and statuses: what passes in either direction, what is dropped, and what is refused."""

from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge._translate import headers
from bridge._translate.headers import (
    ENVIRON_KEYS,
    SCOPE_NAMES,
    asgi_headers,
    header_faults,
    status_code,
    status_line,
    wsgi_headers,
)
from bridge.errors import ApplicationProtocolError

few = settings(max_examples=40, deadline=None)

HOP_BY_HOP = [
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Trailers",
    "Transfer-Encoding",
    "Upgrade",
]


class TestEnvironKey:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            (b"host", "HTTP_HOST"),
            (b"x-forwarded-for", "HTTP_X_FORWARDED_FOR"),
            (b"X-Forwarded-For", "HTTP_X_FORWARDED_FOR"),
            (b"content-type", "CONTENT_TYPE"),
            (b"Content-Type", "CONTENT_TYPE"),
            (b"CONTENT-LENGTH", "CONTENT_LENGTH"),
            (b"content-length-x", "HTTP_CONTENT_LENGTH_X"),
            (b"proxy-authorization", "HTTP_PROXY_AUTHORIZATION"),
            (b"!#$%&'*+.^`|~09", "HTTP_!#$%&'*+.^`|~09"),
        ],
    )
    def test_a_header_has_the_key_of_cgi(self, name: bytes, key: str) -> None:
        """RFC 3875 4.1.18: upper case, "-" as "_", HTTP_ in front, but for the two that have keys of their own."""
        assert ENVIRON_KEYS[name] == key

    @pytest.mark.parametrize("name", [b"x_user", b"X_Forwarded_For", b"content_type", b"_", b"x-a_b"])
    def test_a_name_with_an_underscore_is_dropped(self, name: bytes) -> None:
        """It would become the key of the name with "-", which perhaps only a proxy may set."""
        assert ENVIRON_KEYS[name] is None

    @pytest.mark.parametrize("name", [b"proxy", b"Proxy", b"PROXY"])
    def test_proxy_is_dropped(self, name: bytes) -> None:
        """HTTP_PROXY configures HTTP clients."""
        assert ENVIRON_KEYS[name] is None

    @pytest.mark.parametrize("name", [b"", b":authority", b"a b", b"a\nb", b"a:", b"\xe9", b"a\0", b"(a)", b"a,b"])
    def test_what_is_no_token_is_dropped(self, name: bytes) -> None:
        """RFC 9110 5.6.2; HTTP/2 pseudo-headers are among them."""
        assert ENVIRON_KEYS[name] is None

    @pytest.mark.parametrize("name", ["host", None, 5])
    def test_a_name_that_is_no_bytes_is_a_type_error(self, name: object) -> None:
        """The caller knows whose fault it is."""
        with pytest.raises(TypeError):
            ENVIRON_KEYS[name]  # type: ignore[arg-type]


class TestScopeName:
    @pytest.mark.parametrize(
        ("key", "name"),
        [
            ("HTTP_HOST", b"host"),
            ("HTTP_X_FORWARDED_FOR", b"x-forwarded-for"),
            ("CONTENT_TYPE", b"content-type"),
            ("CONTENT_LENGTH", b"content-length"),
        ],
    )
    def test_a_key_has_a_lower_case_name(self, key: str, name: bytes) -> None:
        """ASGI HTTP, "HTTP Connection Scope": header names are lower-case byte strings."""
        assert SCOPE_NAMES[key] == name

    @pytest.mark.parametrize(
        "key",
        [
            "HTTP_CONTENT_TYPE",
            "HTTP_CONTENT_LENGTH",
            "HTTP_PROXY",
            "HTTP_",
            "HTTP_A B",
            "HTTP_\xe9",
            "HTTP_\u20ac",
            "HTTPS",
            "PATH_INFO",
            "wsgi.input",
            "",
            5,
        ],
    )
    def test_other_keys_have_none(self, key: str) -> None:
        """Neither do the keys that would make a second Content-Type or Content-Length."""
        assert SCOPE_NAMES[key] is None

    @few
    @given(st.binary(max_size=20))
    def test_it_is_the_inverse_of_environ_key(self, name: bytes) -> None:
        """A name that has a key comes back from it in lower case."""
        key = ENVIRON_KEYS[name]
        assert key is None or SCOPE_NAMES[key] == name.lower()


class TestMemo:
    def test_a_flood_of_names_does_not_grow_it(self) -> None:
        """Names are the client's choice, memory is ours."""
        for number in range(3 * headers.ENVIRON_KEYS.LIMIT):
            ENVIRON_KEYS[b"x-%d" % number]
            SCOPE_NAMES[f"HTTP_X_{number}"]
        assert len(headers.ENVIRON_KEYS) <= headers.ENVIRON_KEYS.LIMIT
        assert len(headers.SCOPE_NAMES) <= headers.SCOPE_NAMES.LIMIT

    def test_a_long_name_is_not_remembered(self) -> None:
        """A thousand names of a megabyte each would be a gigabyte."""
        name = b"x" * (headers.ENVIRON_KEYS.LONGEST + 1)
        assert ENVIRON_KEYS[name] == "HTTP_" + "X" * len(name)
        assert name not in headers.ENVIRON_KEYS

    def test_a_name_is_worked_out_once(self) -> None:
        """The second request of a server pays a dict look-up."""
        ENVIRON_KEYS[b"x-once"]
        assert headers.ENVIRON_KEYS.get(b"x-once") == "HTTP_X_ONCE"


class TestAsgiHeaders:
    def test_names_are_lower_case_and_order_is_kept(self) -> None:
        """ASGI HTTP, "Response Start"."""
        given_headers = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("SET-COOKIE", "b=2"), ("X-A", "")]
        expected = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-a", b"")]
        assert asgi_headers(given_headers) == (expected, None, ())

    def test_values_are_latin_1_and_may_hold_tabs(self) -> None:
        """PEP 3333, "Unicode Issues"; RFC 9110 5.5."""
        assert asgi_headers([("X-A", "\xe9\x80\xff\xad\t.")]) == ([(b"x-a", b"\xe9\x80\xff\xad\t.")], None, ())

    def test_identical_content_lengths_collapse(self) -> None:
        """RFC 9110 8.6."""
        given_headers = [("Content-Length", "12"), ("X-A", "b"), ("content-length", "12")]
        assert asgi_headers(given_headers) == ([(b"content-length", b"12"), (b"x-a", b"b")], 12, ())

    @pytest.mark.parametrize(
        ("given_headers", "fault"),
        [
            ((("X-A", "b"),), "headers of type tuple"),
            ({"X-A": "b"}.items(), "headers of type dict_items"),
            (iter([("X-A", "b")]), "headers of type list_iterator"),
            ([["X-A", "b"]], "a header of type list"),
            ([("X-A", " b\t")], "blanks"),
        ],
        ids=["tuple", "dict_items", "list_iterator", "pair", "blanks"],
    )
    def test_what_servers_take_is_taken_and_told(self, given_headers: Any, fault: str) -> None:
        """Gunicorn and Waitress take all of these; `bridge check` says that others do not."""
        assert fault in " ".join(map(str, header_faults(given_headers)))
        assert asgi_headers(given_headers) == ([(b"x-a", b"b")], None, ())

    def test_blanks_around_a_length_are_no_part_of_it(self) -> None:
        """RFC 9110 5.5."""
        assert asgi_headers([("Content-Length", " 5 ")]) == ([(b"content-length", b"5")], 5, ())

    @pytest.mark.parametrize("name", HOP_BY_HOP)
    def test_hop_by_hop_headers_are_dropped_and_told(self, name: str) -> None:
        """PEP 3333, "Other HTTP Features", forbids them; views that hand on another server's headers give them."""
        given_headers = [(name, "x"), ("X-A", "b"), (name.upper(), "x")]
        assert asgi_headers(given_headers) == ([(b"x-a", b"b")], None, [name, name.upper()])
        faults = list(header_faults(given_headers))
        assert [fault.did for fault in faults] == [
            f"gave the hop-by-hop header {each}" for each in (name, name.upper())
        ]

    @pytest.mark.parametrize("right", [[], [("X-A", "b"), ("Content-Length", "5")]])
    def test_what_is_right_has_no_fault(self, right: list[tuple[str, str]]) -> None:
        """What all servers take is no finding."""
        assert list(header_faults(right)) == []

    @pytest.mark.parametrize("wrong", [None, 5, "ab", [None], [("X-A",)], [(b"X-A", 5)]], ids=repr)
    def test_faults_of_nonsense_can_be_asked_for(self, wrong: Any) -> None:
        """`asgi_headers` refuses it; this is asked first."""
        list(header_faults(wrong))
        with pytest.raises(ApplicationProtocolError):
            asgi_headers(wrong)

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            {"X-A": "b"},
            "ab",
            [("X-A",)],
            [("X-A", "b", "c")],
            ["ab"],
            [None],
            [(b"X-A", "b")],
            [("X-A", b"b")],
            [("X-A", 5)],
            [("X-A", None)],
            [("", "b")],
            [("X A", "b")],
            [("X-A:", "b")],
            [("X-A\n", "b")],
            [("X-\xe9", "b")],
            [("X-A", "b\r\nSet-Cookie: c")],
            [("X-A", "\n")],
            [("X-A", "\r")],
            [("X-A", "\0")],
            [("X-A", "\x7f")],
            [("X-A", "\x1b[0m")],
            [("X-A", "\u20ac")],
            [("X-A", "\ud800")],
            [("Content-Length", "")],
            [("Content-Length", "-1")],
            [("Content-Length", "+1")],
            [("Content-Length", "1_0")],
            [("Content-Length", "1 1")],
            [("Content-Length", "\xb2")],
            [("Content-Length", "3,3")],
            [("Content-Length", "9" * 5000)],
            [("Content-Length", "1"), ("Content-Length", "2")],
        ],
        ids=repr,
    )
    def test_what_pep_3333_forbids_is_refused(self, wrong: list[tuple[str, str]]) -> None:
        """The error names the clause, the second time too."""
        for _ in range(2):
            with pytest.raises(ApplicationProtocolError, match="PEP 3333"):
                asgi_headers(wrong)

    def test_the_message_does_not_show_a_value(self) -> None:
        """A cookie in a log is a leak."""
        with pytest.raises(ApplicationProtocolError) as caught:
            asgi_headers([("Set-Cookie", "secret\n")])
        assert "secret" not in str(caught.value)


class TestMessages:
    """An error names what it saw. It is for a log, so there is a bound to what it quotes, and no value in it."""

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([("a", "b", "c")], "gave a header of 3 items; expected a tuple (name, value)"),
            (["ab"], "gave a header of type str; expected a tuple (name, value)"),
            ([("x-a", "secret\n")], "gave the header x-a a value with '\\n'; expected no control characters"),
            ([("x-a", "secret \u20ac")], "gave the header x-a a value with '\u20ac'; expected characters of latin-1"),
        ],
    )
    def test_of_wsgi_headers_name_what_was_seen(self, given: Any, message: str) -> None:
        with pytest.raises(ApplicationProtocolError) as caught:
            asgi_headers(given)
        assert str(caught.value).startswith(f"the application {message} (PEP 3333")

    @pytest.mark.parametrize(("given", "kind"), [(None, "NoneType"), ([(b"a",)], "list"), ({b"a": b"b"}, "dict")])
    def test_of_asgi_headers_name_what_was_seen(self, given: Any, kind: str) -> None:
        with pytest.raises(ApplicationProtocolError) as caught:
            wsgi_headers(given)
        expected = f"sent headers of type {kind} that are not pairs; expected an iterable of [name, value] (ASGI HTTP"
        assert str(caught.value).startswith(f"the application {expected}")

    LONG = "x" * 10**6

    @pytest.mark.parametrize("value", ["\n", "\u0131"])
    def test_of_wsgi_headers(self, value: str) -> None:
        with pytest.raises(ApplicationProtocolError) as caught:
            asgi_headers([(self.LONG, value)])
        assert len(str(caught.value)) < 400

    def test_of_asgi_headers(self) -> None:
        with pytest.raises(ApplicationProtocolError) as caught:
            wsgi_headers([(self.LONG.encode(), b"\n")])
        assert len(str(caught.value)) < 400


class TestWsgiHeaders:
    @pytest.mark.parametrize("kind", [list, tuple, iter])
    def test_any_iterable_of_any_pairs_passes(self, kind: type) -> None:
        """ASGI HTTP, "Response Start": an iterable of [name, value] two-item iterables."""
        pairs = kind(
            [[b"content-type", b"text/plain"], (b"X-A", b"\xe9\t"), [b"set-cookie", b"a"], [b"set-cookie", b"b"]]
        )
        expected = [("content-type", "text/plain"), ("X-A", "\xe9"), ("set-cookie", "a"), ("set-cookie", "b")]
        assert wsgi_headers(pairs) == (expected, None)

    @pytest.mark.parametrize("name", HOP_BY_HOP)
    def test_hop_by_hop_headers_are_dropped(self, name: str) -> None:
        """PEP 3333, "Other HTTP Features", forbids them; ASGI apps may send them."""
        pairs = [(name.encode(), b"close"), (b"x-a", b"b"), (name.lower().encode(), b"close")]
        assert wsgi_headers(pairs) == ([("x-a", "b")], None)

    def test_identical_content_lengths_collapse(self) -> None:
        """RFC 9110 8.6."""
        pairs = [(b"Content-Length", b"12"), (b"content-length", b" 12\t")]
        assert wsgi_headers(pairs) == ([("Content-Length", "12")], 12)

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            5,
            [5],
            [b"ab"],
            [(b"x-a",)],
            [(b"x-a", b"b", b"c")],
            [("x-a", b"b")],
            [(b"x-a", "b")],
            [(b"x-a", 5)],
            [(b"x-a", bytearray(b"b"))],
            [(b"", b"b")],
            [(b"x a", b"b")],
            [(b":status", b"200")],
            [(b"x-a\r\n", b"b")],
            [(b"x-\xe9", b"b")],
            [(b"x-a", b"b\r\nset-cookie: c")],
            [(b"x-a", b"\n")],
            [(b"x-a", b"\r")],
            [(b"x-a", b"\0")],
            [(b"x-a", b"\x7f")],
            [(b"connection", b"a\nb")],
            [(b"content-length", b"")],
            [(b"content-length", b"-1")],
            [(b"content-length", b"a")],
            [(b"content-length", b"\xb2")],
            [(b"content-length", b"1"), (b"content-length", b"2")],
        ],
        ids=repr,
    )
    def test_what_asgi_or_http_forbids_is_refused(self, wrong: list[tuple[bytes, bytes]]) -> None:
        """The error names the clause."""
        with pytest.raises(ApplicationProtocolError, match='ASGI HTTP, "Response Start"'):
            wsgi_headers(wrong)

    @few
    @given(st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=8))))
    def test_what_passes_comes_back(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """What one direction lets pass, the other gives back, in lower case."""
        try:
            native, length = wsgi_headers(pairs)
        except ApplicationProtocolError:
            return
        lower = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in native]
        assert asgi_headers(native) == (lower, length, ())


class TestStatus:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            ("200 OK", 200),
            ("404 Not Found", 404),
            ("200", 200),
            ("200 ", 200),
            ("999 \xe9", 999),
            ("100 Continue", 100),
        ],
    )
    def test_a_status_has_a_code(self, status: str, code: int) -> None:
        """PEP 3333, "The start_response() Callable"; a missing reason is tolerated."""
        assert status_code(status) == code

    @pytest.mark.parametrize(
        "status",
        [
            *("", "OK", "20", "2000 OK", "200OK", " 200 OK", "099 x", "000", "-20 x", "2 0 x", "\xb200 x"),
            *("200 OK\r\n", "200 O\nK", "200 \x7f", "200 \0", "200\tOK", "200 \t"),
            *(b"200 OK", 200, None, ["200 OK"]),
        ],
    )
    def test_another_status_is_refused(self, status: object) -> None:
        """The error names the clause."""
        with pytest.raises(ApplicationProtocolError, match="PEP 3333"):
            status_code(status)

    @pytest.mark.parametrize(
        ("code", "line"),
        [
            (200, "200 OK"),
            (404, "404 Not Found"),
            (299, "299 Unknown"),
            (HTTPStatus.OK, "200 OK"),
            (999, "999 Unknown"),
        ],
    )
    def test_a_code_has_a_line_with_a_reason(self, code: int, line: str) -> None:
        """PEP 3333: a status is a code and a reason with one space between."""
        assert status_line(code) == line

    @pytest.mark.parametrize("code", [True, False, 99, 1000, -200, 200.0, "200", b"200", None])
    def test_another_code_is_refused(self, code: object) -> None:
        """ASGI HTTP, "Response Start": an integer."""
        with pytest.raises(ApplicationProtocolError, match='ASGI HTTP, "Response Start"'):
            status_line(code)

    def test_each_line_has_its_code(self) -> None:
        """The two are inverses."""
        assert [status_code(status_line(code)) for code in range(100, 1000)] == list(range(100, 1000))
