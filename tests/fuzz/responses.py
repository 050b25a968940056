"""Whatever an app answers becomes a legal response, in order and to the byte, or raises one of our errors."""

import io
import string
from typing import Any

from bridge._translate.events_to_response import END as ASGI_END
from bridge._translate.events_to_response import AsgiResponse, EarlyHint, File, Head
from bridge._translate.headers import asgi_headers, header_faults, status_code, status_line, wsgi_headers
from bridge._translate.response_to_events import END as WSGI_END
from bridge._translate.response_to_events import WsgiResponse
from bridge.errors import ApplicationProtocolError
from fuzz.draw import Draw

TOKEN = set("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits)
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
NAMES = ("Content-Type", "content-length", "Content-Length", "Set-Cookie", "Connection", "X-A", "te", "")
VALUES = ("text/plain", "0", "5", " 5 ", "a=b", "close", "1\n2", "\x7f", "\u0131", "")
STATUSES = (
    "200 OK",
    "204 No Content",
    "304 Not Modified",
    "101",
    "500 ",
    "20",
    "200OK",
    "2000 OK",
    "200 O\nK",
    "\u0662",
)
CODES = (200, 204, 304, 103, 500, 999, 99, 1000, True, "200", None)
KINDS = (
    *("http.response.start", "http.response.body", "http.response.body", "http.response.body"),
    *("http.response.pathsend", "http.response.early_hint", "http.response.trailers", "http.request"),
)
EXTENSIONS: tuple[dict[str, Any], ...] = ({}, {"http.response.pathsend": {}, "http.response.early_hint": {}})


class Planned(Exception):
    """What an app hands to start_response."""


def fuzz_headers(draw: Draw) -> None:
    """Headers and statuses of either kind come out clean, or the app is told what is wrong with them."""
    native, pairs = draw_headers(draw, str), draw_headers(draw, bytes)
    for fault in header_faults(native):
        assert isinstance(fault, ApplicationProtocolError)
    try:
        headers, length, dropped = asgi_headers(native)
    except ApplicationProtocolError as error:
        assert len(str(error)) < 9000, error
    else:
        _check_asgi_headers(headers, length)
        assert all(isinstance(name, str) for name in dropped)
    try:
        answered, length = wsgi_headers(pairs)
    except ApplicationProtocolError as error:
        assert len(str(error)) < 9000, error
    else:
        _check_wsgi_headers(answered, length)
    status: Any = draw.pick(STATUSES) if not draw.seldom() else draw.anything(0)
    try:
        code = status_code(status)
    except ApplicationProtocolError:
        pass
    else:
        assert 100 <= code <= 999
        assert status.startswith(str(code))
    status = draw.pick(CODES) if not draw.seldom() else draw.anything(0)
    try:
        line = status_line(status)
    except ApplicationProtocolError:
        return
    assert line[:4] == f"{status} "
    assert line[4:]


def fuzz_asgi(draw: Draw) -> None:
    """The events of an ASGI app become one head, then bytes up to its length, then one end; an error has no effect."""
    opened: list[io.BytesIO] = []

    def open_file(path: str) -> io.BytesIO:
        if not path:
            raise FileNotFoundError(path)
        opened.append(io.BytesIO(path.encode("utf-8", "surrogatepass")))
        return opened[-1]

    response = AsgiResponse(head_only=draw.seldom(), extensions=draw.pick(EXTENSIONS), open_file=open_file)
    items: list[Any] = []
    while draw.left:
        before = (response.state, response.complete)
        if draw.byte() > 250:
            items += response.flush() if response.state.name == "HELD" else ()
            continue
        event: Any = draw_event(draw)
        try:
            given = response.feed(event)
        except ApplicationProtocolError as error:
            assert (response.state, response.complete) == before
            assert len(str(error)) < 9000
            continue
        except FileNotFoundError:
            continue
        assert not given or not before[1], "after the end"
        items += given
    _check_asgi_items(items, response)


def fuzz_wsgi(draw: Draw) -> None:
    """What a WSGI app does becomes one start, then bytes up to its length, then one end; or raises into the app."""
    response = WsgiResponse(head_only=draw.seldom(), write=lambda data: None)
    items: list[Any] = []
    while draw.left:
        what = draw.byte() % 16
        try:
            if what < 4:
                status: Any = draw.pick(STATUSES) if not draw.seldom() else draw.anything(0)
                planned = Planned()
                exc_info: Any = None if draw.byte() % 2 else (Planned, planned if not draw.seldom() else None, None)
                response.start_response(status, draw_headers(draw, str), exc_info)
            elif what < 11:
                data: Any = draw.raw() if not draw.seldom() else draw.anything(0)
                items += response.chunk(data)
            elif what < 12:
                items += response.flush()
            elif what < 13:
                items += response.file("/file", draw.byte()) or ()
            elif what < 14:
                try:
                    head, data = response.whole([draw.raw() for _ in draw.times(3)])
                except ValueError:
                    assert response.state.name in ("SENT", "FULL", "ENDED"), response.state
                else:
                    items += [head, *([data] if data else []), WSGI_END]
            else:
                items += response.end()
                break
        except (ApplicationProtocolError, Planned) as error:
            assert len(str(error)) < 9000
    _check_wsgi_items(items, response)


# --- what is drawn


def draw_headers(draw: Draw, kind: type) -> Any:
    if draw.byte() > 250:
        return draw.anything()
    headers: list[Any] = []
    for _ in draw.times(6):
        name, value = (draw.pick(NAMES), draw.pick(VALUES))
        if draw.seldom():
            name, value = draw.native(), draw.text()
        pair: Any = (name, value)
        if kind is bytes:
            pair = (name.encode("latin-1"), value.encode("utf-8", "surrogatepass"))
        if draw.byte() > 250:
            pair = draw.anything()
        headers.append(pair)
    return headers if not draw.seldom() else draw.pick((tuple, iter))(headers)


def draw_event(draw: Draw) -> Any:
    if draw.byte() > 250:
        return draw.anything()
    event = draw.mapping(
        {
            "type": lambda: draw.pick(KINDS),
            "status": lambda: draw.pick(CODES),
            "headers": lambda: draw_headers(draw, bytes),
            "body": draw.raw,
            "more_body": lambda: draw.byte() % 4 != 0,
        }
    )
    if event.get("type") == "http.response.pathsend":
        event["path"] = draw.text() if not draw.seldom() else draw.anything()
    if event.get("type") == "http.response.early_hint":
        event["links"] = [draw.raw() for _ in draw.times(3)] if not draw.seldom() else draw.anything()
    return event


# --- what is checked


def _check_asgi_headers(headers: Any, length: int | None) -> None:
    for name, value in headers:
        assert set(name.decode()) <= TOKEN
        assert name == name.lower()
        assert name.decode() not in HOP_BY_HOP
        assert not set(value) & {*range(9), *range(10, 32), 127}
        assert value == value.strip(b" \t")
    lengths = [value for name, value in headers if name == b"content-length"]
    assert len(lengths) <= 1
    assert length == (int(lengths[0]) if lengths else None)


def _check_wsgi_headers(headers: Any, length: int | None) -> None:
    assert isinstance(headers, list)
    _check_asgi_headers([(name.lower().encode(), value.encode("latin-1")) for name, value in headers], length)


def _check_asgi_items(items: list[Any], response: AsgiResponse) -> None:
    final = [item for item in items if not isinstance(item, EarlyHint)]
    if not final:
        return
    head, *rest = final
    assert isinstance(head, Head)
    assert rest.count(ASGI_END) == (1 if response.complete else 0)
    assert ASGI_END not in rest[:-1]
    sent = sum(len(item) for item in rest if isinstance(item, bytes))
    lengths = [int(value) for name, value in head.headers if name.lower() == "content-length"]
    files = [item for item in rest if isinstance(item, File)]
    if response.bodyless:
        assert sent == 0
        assert not files
    elif lengths:
        assert sent <= lengths[0]
        if response.complete and not any(item is ASGI_END for item in rest[:-1]) and not files:
            assert sent == lengths[0] or _by_path(rest)


def _by_path(rest: list[Any]) -> bool:
    return rest[:2] == [b"", ASGI_END]


def _check_wsgi_items(items: list[Any], response: WsgiResponse) -> None:
    if not items:
        return
    head, *rest = items
    assert head["type"] == "http.response.start"
    assert rest.count(WSGI_END) <= 1
    assert WSGI_END not in rest[:-1]
    lengths = [int(value) for name, value in head["headers"] if name == b"content-length"]
    sent = sum(len(item) for item in rest if isinstance(item, bytes))
    assert all(isinstance(item, bytes) and item for item in rest if item is not WSGI_END and not isinstance(item, dict))
    by_path = any(isinstance(item, dict) for item in rest)
    if response.bodyless:
        assert sent == 0
    elif lengths and not by_path:
        assert sent <= lengths[0]
        assert sent == lengths[0] or WSGI_END not in rest
