"""WebSockets: the same echoing app behind `AsgiToWsgi` on Gunicorn's gthread worker, and on Uvicorn with `websockets`.

The client is one thread with ready-made frames, so that the servers are what is measured; every byte of each answer is
compared.
"""

import contextlib
import select
import socket
from collections.abc import Iterator
from time import perf_counter

import psutil  # type: ignore[import-untyped]

from benchmarks import peers, servers
from benchmarks.child import SampleError
from benchmarks.settings import Settings

SESSIONS = 8
QUIET_SESSIONS = 100
UVICORN_WEBSOCKETS = "uvicorn-websockets"
_SMALL_BYTES, _LARGE_BYTES = 32, 2**20
_HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASK = b"\x37\xfa\x21\x3d"
# Until the threads of the server, and what they have allocated, are there.
_WARM_UP_MESSAGES = 200


def echo(subject: str, settings: Settings) -> dict[str, float]:
    """Messages a second: small ones in `SESSIONS` sessions, and large ones, as MiB a second, in one."""
    with _running(subject) as site, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_open(site.port)) for _ in range(SESSIONS)]
        small = _Echoes(_SMALL_BYTES)
        small.run(clients, messages=_WARM_UP_MESSAGES)
        metrics = {"small": small.rate(clients, settings.load_seconds)}
        large = _Echoes(_LARGE_BYTES)
        large.run(clients[:1], messages=4)
        metrics["large"] = large.rate(clients[:1], settings.load_seconds) * _LARGE_BYTES / 2**20
        return metrics


def quiet(subject: str, settings: Settings) -> dict[str, float]:
    """What sessions that say nothing hold, and how long it takes to open all of them."""
    del settings
    with _running(subject) as site, contextlib.ExitStack() as stack:
        with _open(site.port) as first:
            _Echoes(_SMALL_BYTES).run([first], messages=_WARM_UP_MESSAGES)
        process = psutil.Process(site.pid)
        memory, threads = process.memory_info().rss, process.num_threads()
        started = perf_counter()
        clients = [stack.enter_context(_connect(site.port)) for _ in range(QUIET_SESSIONS)]
        for client in clients:
            client.sendall(_HANDSHAKE)
        for client in clients:
            _answered(client)
        elapsed = perf_counter() - started
        _Echoes(_SMALL_BYTES).run(clients, messages=2)  # each has read and sent something
        return {
            "open": elapsed * 1000,
            "memory": (process.memory_info().rss - memory) / QUIET_SESSIONS / 1024,
            "threads": (process.num_threads() - threads) / QUIET_SESSIONS,
        }


@contextlib.contextmanager
def _running(subject: str) -> Iterator[servers.Server]:
    on_uvicorn = subject == UVICORN_WEBSOCKETS
    server, app = (UVICORN_WEBSOCKETS, peers.NATIVE) if on_uvicorn else ("gunicorn-websockets", subject)
    with servers.running(server, app) as site:
        yield site


@contextlib.contextmanager
def _connect(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


@contextlib.contextmanager
def _open(port: int) -> Iterator[socket.socket]:
    with _connect(port) as client:
        client.sendall(_HANDSHAKE)
        _answered(client)
        yield client


def _answered(client: socket.socket) -> None:
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        piece = client.recv(4096)
        head += piece
        if not piece or not head.startswith(b"HTTP/1.1 101 "[: len(head)]):
            raise SampleError(f"the handshake was answered with {bytes(head)!r}")


class _Echoes:
    """Messages of one size that come back: binary, in one frame, masked as RFC 6455 5.3 has it."""

    def __init__(self, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
        length = bytes([size]) if size < 126 else b"\x7f" + size.to_bytes(8, "big")
        self._answer = data
        mask = (_MASK * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
        self._frame = b"\x82" + bytes([length[0] | 0x80]) + length[1:] + _MASK + masked
        self._buffer = bytearray(size)

    def rate(self, clients: list[socket.socket], seconds: float) -> float:
        """Messages a second, each session one after the other."""
        started = perf_counter()
        count = self.run(clients, until=started + seconds)
        return count / (perf_counter() - started)

    def run(self, clients: list[socket.socket], *, messages: int | None = None, until: float = 0.0) -> int:
        """Have so many messages in each session come back, or as many as do until then; how many that were."""
        if len(clients) == 1:
            return self._run_one(clients[0], messages, until)
        poll = select.epoll()
        with contextlib.closing(poll):
            by_number = {client.fileno(): client for client in clients}
            left = dict.fromkeys(by_number, messages or 0)
            for number, client in by_number.items():
                poll.register(number, select.EPOLLIN)
                client.sendall(self._frame)
            done = 0
            while left:
                ready = poll.poll(20)
                if not ready:
                    raise SampleError("a message did not come back")
                on = messages is not None or perf_counter() < until
                for number, _ in ready:
                    client = by_number[number]
                    self._take(client)
                    done += 1
                    left[number] -= 1
                    if on if messages is None else left[number]:
                        client.sendall(self._frame)
                    else:
                        del left[number]
            return done

    def _run_one(self, client: socket.socket, messages: int | None, until: float) -> int:
        done = 0
        while (done < messages) if messages is not None else (perf_counter() < until):
            client.sendall(self._frame)
            self._take(client)
            done += 1
        return done

    def _take(self, client: socket.socket) -> None:
        got, finished = 0, False
        while not finished:
            head = self._read(client, memoryview(bytearray(2)))
            size = head[1]
            if size > 125:
                size = int.from_bytes(self._read(client, memoryview(bytearray(2 if size == 126 else 8))), "big")
            if head[0] & 0x7F != (0 if got else 2) or got + size > len(self._buffer):
                raise SampleError(f"a frame began with {head.hex()} at {got} of {len(self._buffer)} bytes")
            self._read(client, memoryview(self._buffer)[got : got + size])
            got, finished = got + size, head[0] > 0x7F
        if self._buffer != self._answer:
            raise SampleError("a message came back changed")

    def _read(self, client: socket.socket, view: memoryview) -> memoryview:
        left = view
        while left:
            count = client.recv_into(left)
            if not count:
                raise SampleError("the server closed a session")
            left = left[count:]
        return view
