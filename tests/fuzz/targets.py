"""The targets by name, and one run of one of them."""

import time
from collections.abc import Callable
from pathlib import Path

from fuzz import adapters, bodies, heads, responses, websockets
from fuzz.draw import Draw

TARGETS: dict[str, Callable[[Draw], None]] = {
    "scope": heads.fuzz_scope,
    "environ": heads.fuzz_environ,
    "body-events": bodies.fuzz_events,
    "body-input": bodies.fuzz_input,
    "body-reads": bodies.fuzz_reads,
    "headers": responses.fuzz_headers,
    "asgi-response": responses.fuzz_asgi,
    "wsgi-response": responses.fuzz_wsgi,
    "websocket-frames": websockets.fuzz_frames,
    "websocket-order": websockets.fuzz_order,
    "wsgi-to-asgi": adapters.fuzz_wsgi_to_asgi,
    "asgi-to-wsgi": adapters.fuzz_asgi_to_wsgi,
}
CORPUS = Path(__file__).with_name("corpus")
# The processor's time that an input may take beside what its size explains, in seconds; and for each byte of it.
CPU_BASE = 0.5
CPU_PER_BYTE = 20e-6


class Slow(Exception):
    """An input took more time than one of its size may."""


def run(name: str, data: bytes, *, measured: bool = False) -> None:
    """One input; raises what is wrong. `measured`: also where it takes more than linear time."""
    draw = Draw(data)
    before = time.thread_time()
    TARGETS[name](draw)
    took = time.thread_time() - before
    if measured and took > CPU_BASE + CPU_PER_BYTE * draw.size:
        raise Slow(f"{took:.2f} s for {draw.size} bytes")


def kept(name: str) -> list[bytes]:
    """The inputs of a target's corpus: a line of hexadecimal digits each."""
    path = CORPUS / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, inputs: list[bytes]) -> None:
    """Write a target's corpus."""
    CORPUS.mkdir(exist_ok=True)
    lines = sorted({each.hex() for each in inputs}, key=lambda line: (len(line), line))
    (CORPUS / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
