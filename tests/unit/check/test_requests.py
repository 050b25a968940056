"""The requests of a check: what is asked, and what is not where nothing may change."""

import contextlib
from typing import Any

import pytest

from bridge._check.probe import probe_wsgi
from bridge._check.requests import CheckRequest, requests_for
from support import apps


def test_they_are_what_they_say() -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        body = None
        with contextlib.suppress(OSError):
            body = environ["wsgi.input"].read()
        seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], body))
        return apps.wsgi_hello(environ, start_response)

    probe_wsgi(app, list(requests_for("/a b?x=1", safe=False)))

    assert {"GET", "HEAD", "POST"} == {method for method, *_ in seen}
    assert {"/a b"} == {path for _, path, *_ in seen}
    assert {"x=1", "x=1&bridge-check=%C3%BC%20+"} == {query for *_, query, _ in seen}
    assert {0, 7, 70_015} == {len(body) for *_, body in seen if body is not None}


def test_safe_ones_change_nothing() -> None:
    """RFC 9110 9.2.1."""
    assert {"GET", "HEAD"} == {request.method for request in requests_for("/", safe=True)}


@pytest.mark.parametrize("chunked", [True, False])
def test_how_a_body_is_framed(chunked: bool) -> None:
    headers = dict(CheckRequest("x", "POST", "/", (b"ab", b"c"), chunked=chunked).scope(None)["headers"])

    framing = {b"transfer-encoding": b"chunked"} if chunked else {b"content-length": b"3"}
    assert framing == {name: value for name, value in headers.items() if name in framing or b"length" in name}
