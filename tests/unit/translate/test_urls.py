"""The parts of a URL: a table for each, and what holds for any path."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge._translate.urls import native_path, server_address, text_path
from bridge.errors import ClientProtocolError

few = settings(max_examples=40, deadline=None)

# What "surrogateescape" makes of the byte 0xff.
ESCAPED = chr(0xDCFF)


@pytest.mark.parametrize(
    ("native", "text"),
    [("/a", "/a"), ("/\xc3\xa9", "/é"), ("/\xff", "/\ufffd"), ("/\xe2\x82", "/\ufffd"), ("", "")],
)
def test_text_path(native: str, text: str) -> None:
    """ASGI HTTP: a path is text; bytes that are no UTF-8 are replaced."""
    assert text == text_path(native)


@pytest.mark.parametrize(
    ("text", "native"), [("/a", "/a"), ("/é", "/\xc3\xa9"), ("/" + ESCAPED, "/\xff"), ("/\ufffd", "/\xef\xbf\xbd")]
)
def test_native_path(text: str, native: str) -> None:
    """PEP 3333, Unicode Issues: each character is a byte; escaped bytes are bytes again."""
    assert native == native_path(text)


@pytest.mark.parametrize("text", ["/\ud800", "\udc7f"])
def test_a_path_that_stands_for_no_bytes_is_refused(text: str) -> None:
    """RFC 3986 2.5."""
    with pytest.raises(ClientProtocolError) as caught:
        native_path(text)
    assert (400, "RFC 3986 2.5") == (caught.value.status, caught.value.clause)
    assert f"the client sent a URL with the character {text[-1]!r}, which does not stand for a byte" in str(
        caught.value
    )


@few
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    """Each of the two is the inverse of the other, for what is UTF-8."""
    assert text == text_path(native_path(text))


@pytest.mark.parametrize(
    ("server", "host", "scheme", "expected"),
    [
        (("10.0.0.1", 8000), "example.com", "http", ("10.0.0.1", "8000")),
        (("10.0.0.1", "8000"), None, "http", ("10.0.0.1", "8000")),
        (("::1", 8000), None, "http", ("[::1]", "8000")),
        (("[::1]", 8000), None, "http", ("[::1]", "8000")),
        (None, "example.com", "http", ("example.com", "80")),
        (None, "example.com:81", "https", ("example.com", "81")),
        (None, "[::1]", "https", ("[::1]", "443")),
        (None, "[::1]:81", "http", ("[::1]", "81")),
        (None, "example.com:x", "http", ("example.com", "80")),
        (None, "example.com:\xb2", "http", ("example.com", "80")),
        (None, ":81", "http", ("localhost", "81")),
        (None, None, "https", ("localhost", "443")),
        (("/run/a.sock", None), "example.com", "http", ("example.com", "80")),
        (("", 8000), "", "http", ("localhost", "80")),
        (("10.0.0.1", 0), "example.com:81", "http", ("example.com", "81")),
    ],
)
def test_server_address(server: Any, host: str | None, scheme: str, expected: tuple[str, str]) -> None:
    """PEP 3333, environ Variables: never empty; where unknown, what the client called us will do."""
    assert expected == server_address(server, host, scheme)
