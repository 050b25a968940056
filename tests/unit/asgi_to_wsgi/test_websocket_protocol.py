"""The protocol of one connection: any messages, cut anywhere, are the same messages."""

import itertools
from typing import Any

import pytest
import wsproto
import wsproto.events as ws
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.extensions import PerMessageDeflate

from bridge._asgi_to_wsgi.websocket_protocol import Answer, Closed, Pong, WebSocketProtocol
from bridge._translate.websocket import Accept
from bridge.errors import ApplicationProtocolError, ClientProtocolError

few = settings(max_examples=60, deadline=None)
HANDSHAKE = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "keep-alive, Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}


class Pair:
    """Both ends of a connection; `client` is wsproto's."""

    def __init__(self, *, deflate: bool = False, max_message: int = 2**20) -> None:
        self.client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        extensions: list[Any] = [PerMessageDeflate()] if deflate else []
        lines = self.client.send(ws.Request("localhost", "/", extensions=extensions)).decode().split("\r\n")[1:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        self.server = WebSocketProtocol(environ, max_message)
        self.client.receive_data(self.server.accept(Accept(None, [])))
        assert [ws.AcceptConnection] == list(map(type, self.client.events()))

    def to_server(self, *events: Any, cuts: tuple[int, ...] = ()) -> list[Any]:
        data = b"".join(bytes(self.client.send(event)) for event in events)
        places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
        got: list[Any] = []
        for start, end in itertools.pairwise(places):
            if not any(isinstance(item, Closed) for item in got):
                got.extend(self.server.feed(data[start:end]))
        return got


message = st.text(max_size=40) | st.binary(max_size=40)


@few
@given(
    st.lists(st.tuples(message, st.lists(st.integers(0, 40), max_size=3)), max_size=6),
    st.lists(st.integers(0, 2000), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_any_messages_in_any_fragments_cut_anywhere(
    messages: list[tuple[Any, list[int]]], cuts: list[int], deflate: bool, pinged: bool
) -> None:
    events: list[Any] = []
    for data, places in messages:
        kind = ws.TextMessage if isinstance(data, str) else ws.BytesMessage
        ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
        for start, end in zip([0, *ends], ends, strict=False):
            events.append(kind(data[start:end], message_finished=end == len(data)))
            if pinged:
                events.append(ws.Ping(b"p"))
    got = Pair(deflate=deflate).to_server(*events, cuts=tuple(cuts))
    assert [data for data, _ in messages] == [item for item in got if isinstance(item, str | bytes)]
    assert (len(events) // 2 if pinged else 0) == len([item for item in got if isinstance(item, Answer)])


@few
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_messages_or_an_end(data: bytes, deflate: bool) -> None:
    """Nothing but what is known comes out, and nothing is raised."""
    for item in Pair(deflate=deflate).server.feed(data):
        assert isinstance(item, str | bytes | Answer | Pong | Closed)


@pytest.mark.parametrize("size", [100, 101])
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", ["bytes", "ascii", "unicode"])
def test_max_message_is_in_bytes(size: int, deflate: bool, parts: int, kind: str) -> None:
    data: Any = {"bytes": b"x" * size, "ascii": "x" * size, "unicode": "é" * (size // 2) + "x" * (size % 2)}[kind]
    message = ws.BytesMessage if kind == "bytes" else ws.TextMessage
    events = [message(data[part::parts], message_finished=part == parts - 1) for part in range(parts)]
    got = Pair(deflate=deflate, max_message=100).to_server(*events)
    if size == 100:
        assert [type(data)] == list(map(type, got))
    else:
        assert (1009, True) == (got[-1].code, got[-1].failed)
        assert 1 == len(got)


def test_a_message_that_grows_is_seen_before_it_is_whole() -> None:
    """64 MiB of zeros in 64 KiB: the most that there is at any time is about what a message may have."""
    pair = Pair(deflate=True, max_message=2**16)
    import tracemalloc

    frame = bytes(pair.client.send(ws.BytesMessage(bytes(64 * 2**20))))
    tracemalloc.start()
    try:
        got = list(pair.server.feed(frame))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [1009] == [item.code for item in got if isinstance(item, Closed)]
    assert peak < 8 * 2**20


def test_closing_from_either_side() -> None:
    pair = Pair()
    (closed,) = pair.to_server(ws.CloseConnection(4000, "bye"))
    assert (4000, "bye", False) == (closed.code, closed.reason, closed.failed)
    assert closed.answer
    assert b"" == pair.server.close(1000, "")
    assert b"" == pair.server.ping()

    pair = Pair()
    pair.client.receive_data(pair.server.close(1000, "x" * 200))
    (event,) = pair.client.events()
    assert (1000, 123) == (event.code, len(event.reason))
    (closed,) = pair.to_server(event.response())
    assert (1000, b"") == (closed.code, closed.answer)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, 400),
        ({"HTTP_CONNECTION": "close"}, 400),
        # What wsproto and h11 have errors of their own for.
        ({"HTTP_SEC_WEBSOCKET_EXTENSIONS": "\xff"}, 400),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "\xe9"}, 400),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "\x0c"}, 400),
        ({"HTTP_CONNECTION": "\x00"}, 400),
    ],
)
def test_a_handshake_that_is_none(changed: dict[str, Any], status: int) -> None:
    environ = {key: value for key, value in {**HANDSHAKE, **changed}.items() if value is not None}
    with pytest.raises(ClientProtocolError) as raised:
        WebSocketProtocol(environ, 100)
    assert status == raised.value.status


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    """RFC 9110 5.5; a server may leave them there."""
    protocol = WebSocketProtocol({**HANDSHAKE, "HTTP_SEC_WEBSOCKET_PROTOCOL": " chat,\tsuperchat "}, 100)
    assert b"superchat" in protocol.accept(Accept("superchat", []))


def test_a_server_that_keeps_connection_for_itself() -> None:
    environ = {key: value for key, value in HANDSHAKE.items() if key != "HTTP_CONNECTION"}
    assert b"101 Switching Protocols" in WebSocketProtocol(environ, 100).accept(Accept(None, []))


def test_headers_that_http_does_not_have() -> None:
    with pytest.raises(ApplicationProtocolError, match="cannot be sent"):
        WebSocketProtocol(HANDSHAKE, 100).accept(Accept(None, [(b"x", b"a\r\nb")]))


@pytest.mark.parametrize(
    "parameter", ["client_max_window_bits=many", "server_max_window_bits=", "client_max_window_bits=99"]
)
def test_an_offer_of_compression_that_is_none_is_declined(parameter: str) -> None:
    environ = {**HANDSHAKE, "HTTP_SEC_WEBSOCKET_EXTENSIONS": f"permessage-deflate; {parameter}"}
    answer = WebSocketProtocol(environ, 100).accept(Accept(None, []))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"deflate" not in answer.lower()
