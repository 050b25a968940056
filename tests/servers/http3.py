"""A client that speaks HTTP/3 (RFC 9114), over QUIC on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent, StreamReset


class Http3Client(QuicConnectionProtocol):
    """One connection. Each request is a stream, whose events are awaited in the order in which they come."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http: H3Connection | None = None
        self._events: dict[int, asyncio.Queue[H3Event | StreamReset]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if isinstance(event, StreamReset) and event.stream_id in self._events:
            self._events[event.stream_id].put_nowait(event)
        if self._http is not None:
            for each in self._http.handle_event(event):
                if isinstance(each, HeadersReceived | DataReceived) and each.stream_id in self._events:
                    self._events[each.stream_id].put_nowait(each)

    def ask(self, method: str, path: str, body: Iterable[bytes] = ()) -> int:
        """Send a request, its body in these pieces; returns the number of its stream."""
        assert self._http is not None
        stream = self._quic.get_next_available_stream_id()
        self._events[stream] = asyncio.Queue()
        head = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        pieces = list(body)
        headers = [(name.encode(), value.encode()) for name, value in head.items()]
        self._http.send_headers(stream, headers, end_stream=not pieces)
        for number, piece in enumerate(pieces, 1):
            self._http.send_data(stream, piece, end_stream=number == len(pieces))
        self.transmit()
        return stream

    async def event(self, stream: int) -> H3Event | StreamReset:
        return await self._events[stream].get()

    async def response(self, stream: int) -> tuple[int, bytes]:
        """Status and body, to its end. Raises `ConnectionError` where the server has reset the stream."""
        status, body, ended = 0, b"", False
        while not ended:
            event = await self.event(stream)
            if isinstance(event, StreamReset):
                raise ConnectionResetError(f"stream {stream} was reset after {len(body)} bytes")
            if isinstance(event, HeadersReceived) and not status:
                status = int(dict(event.headers)[b":status"])
            elif isinstance(event, DataReceived):
                body += event.data
            ended = bool(getattr(event, "stream_ended", False))
        return status, body

    def leave(self, stream: int) -> None:
        """Give one response up."""
        self._quic.stop_stream(stream, 0x10C)  # H3_REQUEST_CANCELLED
        self.transmit()


@asynccontextmanager
async def http3(port: int, certificate: Path) -> AsyncIterator[Http3Client]:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_REQUIRED)
    configuration.load_verify_locations(str(certificate))
    configuration.server_name = "localhost"
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Http3Client) as client:
        assert isinstance(client, Http3Client)
        yield client
