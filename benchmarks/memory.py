"""Large transfers over a real server: the peak memory of the process that runs the app, over what it has when idle.

The client sends and takes pieces of 64 KiB, and verifies every byte by length and checksum.
"""

import contextlib
import os
import sys
import zlib
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter

from benchmarks import apps, servers
from benchmarks.harness import check
from benchmarks.settings import Settings

PIECE = apps.TRANSFER_PIECE
_MIB = 2**20
_WARM_UP_REQUESTS = 20


def uvicorn(subject: str, settings: Settings) -> dict[str, float]:
    """Peak MiB over idle, and MiB a second, of Uvicorn with the WSGI app behind the adapter of `subject`."""
    return _transfers("uvicorn", subject, settings)


def gunicorn(subject: str, settings: Settings) -> dict[str, float]:
    """Peak MiB over idle, and MiB a second, of Gunicorn's gthread worker with the ASGI app behind that of `subject`."""
    return _transfers("gunicorn-gthread", subject, settings)


def supported() -> bool:
    """Whether the peak of a process can be read here: Linux's /proc."""
    return sys.platform == "linux"


def _transfers(server: str, subject: str, settings: Settings) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, transfer in (("upload", _upload), ("download", _download)):
        # A server of its own for each, since memory that one transfer took is idle memory for the next.
        with servers.running(server, subject) as site:
            connection = HTTPConnection("127.0.0.1", site.port, timeout=60)
            with contextlib.closing(connection):
                for _ in range(_WARM_UP_REQUESTS):
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    check(response.status, response.read(), apps.HELLO)
                idle = reset_peak(site.pid)
                started = perf_counter()
                transfer(connection, settings.transfer_bytes)
                elapsed = perf_counter() - started
                metrics[name] = peak_over_idle(site.pid, idle) / _MIB
                metrics[f"{name}-rate"] = settings.transfer_bytes / _MIB / elapsed
    return metrics


def _upload(connection: HTTPConnection, size: int) -> None:
    piece, checksum = apps.pattern(PIECE), 0
    connection.putrequest("POST", "/up")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    for _ in range(size // PIECE):
        connection.send(piece)
        checksum = zlib.crc32(piece, checksum)
    response = connection.getresponse()
    check(response.status, response.read(), f"{size} {checksum:08x}".encode())


def _download(connection: HTTPConnection, size: int) -> None:
    piece, buffer, total, checksum, expected = apps.pattern(PIECE), memoryview(bytearray(PIECE)), 0, 0, 0
    connection.request("GET", f"/down?{size // PIECE}x{PIECE}")
    response = connection.getresponse()
    while count := response.readinto(buffer):
        total += count
        checksum = zlib.crc32(buffer[:count], checksum)
    for _ in range(size // PIECE):
        expected = zlib.crc32(piece, expected)
    check(response.status, f"{total} {checksum:08x}".encode(), f"{size} {expected:08x}".encode())


def peak_over_idle(pid: int, idle: int) -> int:
    """The bytes by which the peak of the process is over `idle`."""
    return _status(pid, "VmHWM") - idle


def reset_peak(pid: int) -> int:
    """The bytes that the process holds now; its peak counts from here, where the kernel allows that (proc(5))."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)
    return _status(pid, "VmRSS")


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {key}")
