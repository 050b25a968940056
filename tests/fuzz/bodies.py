"""A request body is handed on to the byte, never longer than it may be, and as `io.BytesIO` hands it out."""

import io
from typing import Any

from bridge._translate.events_to_input import BodyCounter, file_input, stream_input
from bridge._translate.input_to_events import BodyEvents
from bridge.errors import ClientProtocolError, ServerProtocolError
from fuzz.draw import Draw

KINDS = ("http.request", "http.request", "http.request", "http.disconnect", "http.response.start")
LENGTHS = (None, 0, 1, 5, 64, 4096)
SIZES = (None, -1, 0, 1, 2, 7, 100, 65536, 10**6)


def fuzz_events(draw: Draw) -> None:
    """What a counter lets through is what came, up to its length and its limit; a body that breaks off says so."""
    length, limit = draw.pick(LENGTHS), draw.pick(LENGTHS)
    try:
        counter = BodyCounter(length, limit, framed=draw.seldom())
    except ClientProtocolError as refusal:
        assert refusal.status == 413, refusal
        assert limit is not None
        assert length is not None
        assert length > limit
        return
    came = got = b""
    while draw.left and not counter.ended:
        event: dict[str, Any] = draw.mapping(
            {"type": lambda: draw.pick(KINDS), "body": draw.raw, "more_body": lambda: draw.byte() % 4 != 0}
        )
        try:
            taken = counter.take(event)
        except ClientProtocolError as refusal:
            assert refusal.status == 413, refusal
            return
        except ServerProtocolError:
            return
        if event["type"] == "http.request":
            came += bytes(event.get("body", b""))
        got += taken
        assert isinstance(taken, bytes)
        assert came.startswith(got)
        assert got == (came if length is None else came[:length])
        assert limit is None or len(got) <= limit
        assert counter.received == len(got)
    if counter.ended and not counter.disconnected:
        assert counter.truncated == (length is not None and len(got) < length)
    assert not counter.truncated or len(got) != length


def fuzz_input(draw: Draw) -> None:
    """Whatever is called, in whichever order, the streams give what `io.BytesIO` gives."""
    pieces = [draw.raw() for _ in draw.times(6)]
    body = b"".join(pieces)
    left = [piece for piece in pieces if piece]
    expected = io.BytesIO(body)
    streams = [stream_input(lambda: left.pop(0) if left else b""), file_input(_Raw(body))]
    while draw.left:
        name = draw.pick(("read", "readline", "readlines", "__next__", "read1", "readinto"))
        arguments: tuple[Any, ...] = () if draw.seldom() else (draw.pick(SIZES),)
        if name == "read1":
            continue  # as much as there is at once, which is no promise of BytesIO
        if name == "readinto":
            buffers = [bytearray(draw.byte()) for _ in range(3)]
            buffers[1:] = [bytearray(len(buffers[0])) for _ in buffers[1:]]
            counts = [each.readinto(buffer) for each, buffer in zip((expected, *streams), buffers, strict=True)]
            assert counts == [counts[0]] * 3
            assert buffers == [buffers[0]] * 3
            continue
        wanted = _outcome(expected, name, () if name == "__next__" else arguments)
        for stream in streams:
            assert _outcome(stream, name, () if name == "__next__" else arguments) == wanted, (name, arguments)


def fuzz_reads(draw: Draw) -> None:
    """What a server's input gives becomes events with no more bytes than may come, of which one is the last."""
    left = draw.pick(LENGTHS)
    events = BodyEvents(left)
    read = got = b""
    while draw.left:
        step = draw.pick((1, 7, 64, 65536))
        size = events.size(step)
        assert 0 <= size <= step
        data = draw.raw()
        event = events.event(data)
        if event["type"] == "http.disconnect":
            assert left is not None
            assert len(got) < left
            assert not data
            return
        read += data
        got += event["body"]
        assert got == (read if left is None else read[:left])
        if not event["more_body"]:
            assert not data if left is None else len(got) == left
            return


class _Raw(io.RawIOBase):
    """An unbuffered file."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._data.readinto(buffer)


def _outcome(stream: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(stream, name)(*arguments)
    except (StopIteration, TypeError) as error:
        return type(error)
