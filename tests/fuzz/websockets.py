"""Whatever a WebSocket client or an app sends becomes messages within their bound, or ends as RFC 6455 has it."""

from typing import Any

from bridge._asgi_to_wsgi.websocket_protocol import Answer, Closed, Pong, WebSocketProtocol
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.websocket import Accept, Close, Message, Respond, WebSocketOrder
from bridge.errors import ApplicationProtocolError, ClientProtocolError
from fuzz.draw import Draw

MAX_MESSAGE = 1000
KEYS = ("dGhlIHNhbXBsZSBub25jZQ==", "", "short", "dGhlIHNhbXBsZSBub25jZQ")
EXTENSIONS = ("permessage-deflate", "permessage-deflate; client_max_window_bits", "", "x; y=1, permessage-deflate")
PROTOCOLS = ("chat", "chat, superchat", ",", "")
OPCODES = (1, 2, 0, 8, 9, 10, 3, 11, 15)
EVENTS = (
    *("websocket.accept", "websocket.send", "websocket.send", "websocket.close", "websocket.http.response.start"),
    *("websocket.http.response.body", "http.response.start", ""),
)
CODES = (1000, 1001, 1005, 1006, 1015, 3000, 4999, 5000, -1, True, None, "1000")


def fuzz_frames(draw: Draw) -> None:
    """Any handshake and any bytes after it: messages of at most their bound, and after a close nothing."""
    environ = {
        "HTTP_UPGRADE": "websocket",
        "HTTP_SEC_WEBSOCKET_VERSION": draw.pick(("13", "13", "13", "8", "")),
        "HTTP_SEC_WEBSOCKET_KEY": draw.pick(KEYS) if not draw.seldom() else draw.native(),
        "HTTP_SEC_WEBSOCKET_EXTENSIONS": draw.pick(EXTENSIONS) if not draw.seldom() else draw.native(),
        "HTTP_SEC_WEBSOCKET_PROTOCOL": draw.pick(PROTOCOLS) if not draw.seldom() else draw.native(),
        "HTTP_CONNECTION": draw.pick(("Upgrade", "keep-alive, Upgrade", "close", "")),
    }
    try:
        environ_to_scope({"REQUEST_METHOD": "GET", **environ})  # as each request is looked at first
        protocol = WebSocketProtocol(environ, MAX_MESSAGE)
    except ClientProtocolError as refusal:
        assert 400 <= refusal.status < 500, refusal
        return
    try:
        answer = protocol.accept(Accept(None, []))
    except ApplicationProtocolError:
        return
    assert answer.startswith(b"HTTP/1.1 101 ")
    while draw.left:
        if draw.byte() > 240:
            sent = draw.pick(([protocol.ping()], protocol.message("text"), protocol.message(b"bytes")))
            assert b"".join(sent)
        for received in protocol.feed(_frame(draw) if not draw.seldom() else draw.raw()):
            assert isinstance(received, str | bytes | Answer | Pong | Closed)
            if isinstance(received, str | bytes):
                size = len(received.encode() if isinstance(received, str) else received)
                assert size <= MAX_MESSAGE, size
            if isinstance(received, Closed):
                assert not received.failed or received.answer
                return


def fuzz_order(draw: Draw) -> None:
    """What an app sends is a step that may be taken, or an error that has no effect."""
    order = WebSocketOrder(["chat"])
    while draw.left:
        before = order.state
        event: Any = _event(draw)
        try:
            step = order.feed(event)
        except ApplicationProtocolError as error:
            assert order.state is before
            assert len(str(error)) < 9000
            continue
        assert step is None or isinstance(step, Accept | Message | Close | Respond)
        if isinstance(step, Message) and isinstance(step.data, str):
            step.data.encode()
        if isinstance(step, Accept):
            assert step.subprotocol in (None, "chat")


def _frame(draw: Draw) -> bytes:
    """A frame as a client masks it; now and then its length or its bits are wrong."""
    payload = draw.raw()
    first = draw.pick(OPCODES) | (0x80 if not draw.seldom() else 0)
    if draw.seldom():
        first |= draw.pick((0x40, 0x20, 0x10))
    size = len(payload)
    if draw.seldom():
        size = draw.pick((0, 125, 126, 2**16, 2**40, 2**63))
    mask = 0x80 if draw.byte() < 0xF8 else 0
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 2**16:
        head = bytes([first, mask | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, mask | 127]) + size.to_bytes(8, "big")
    # A key of zeros changes nothing, so that the fuzzer finds its way to what is inside.
    return head + (b"\0\0\0\0" if mask else b"") + payload


def _event(draw: Draw) -> Any:
    if draw.byte() > 250:
        return draw.anything()
    event = draw.mapping(
        {
            "type": lambda: draw.pick(EVENTS),
            "subprotocol": lambda: draw.pick((None, "chat", "other")),
            "headers": lambda: [(draw.raw(), draw.raw()) for _ in draw.times(2)],
            "more_body": lambda: draw.byte() % 2 == 0,
            "code": lambda: draw.pick(CODES),
            "reason": lambda: draw.pick((None, "", "bye")),
        }
    )
    if draw.seldom():
        event["text"] = draw.text() if not draw.seldom() else draw.anything()
    if draw.seldom():
        event["bytes"] = draw.raw() if not draw.seldom() else draw.anything()
    return event
