"""Mixed traffic for minutes: every byte is checked, and nothing grows.

BRIDGE_SOAK_MINUTES says for how long, for all servers together. What a server holds is looked at between rounds, when
no request is live. The first rounds make threads, caches and pools; from the middle of the run on it has to be flat.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import servers
from real_servers.kinds import ASGI_APP, HELLO, WSGI_APP
from servers import Server
from soak.holdings import SLACK, Held, at_rest, grown
from soak.traffic import ROUND, one_round

MINUTES = float(os.environ.get("BRIDGE_SOAK_MINUTES", "3"))
SERVERS: list[tuple[Callable[[Path, str], servers.Running], str]] = [
    (servers.uvicorn_httptools_uvloop, WSGI_APP),
    (servers.gunicorn_gthread, ASGI_APP),
    (servers.apache_daemon, ASGI_APP),
]
LEAST_ROUNDS = 8
# That of ten times the capacity takes some as well.
SECONDS = max(MINUTES * 60 - 20, 0) / len(SERVERS)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 240)]


@pytest.mark.parametrize(("run", "app"), SERVERS, ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_is_mixed_and_nothing_grows(run: Any, app: str, tmp_path: Path) -> None:
    """What is held at the end of the run is what was held in the middle of it."""
    seen: list[Held] = []
    with run(tmp_path, app) as server:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or len(seen) < LEAST_ROUNDS:
            asyncio.run(one_round(server, len(seen) * ROUND))
            seen.append(at_rest(server))
        print(f"{server.name}: {len(seen)} rounds of {ROUND} requests")
        for moment, index in (("first", 0), ("middle", len(seen) // 2), ("last", -1)):
            print(f"  {moment}: {seen[index]}")
        assert {} == grown(seen), seen
        assert psutil.Process(server.process.pid).is_running()


def test_ten_times_the_capacity(tmp_path: Path) -> None:
    """Two hundred clients for twenty places, who come again after Retry-After: what each of them waits for is printed.

    tests/load/test_admission.py says who is admitted, and in which order.
    """
    app = "apps.with_stats(bridge.WsgiToAsgi(apps.wsgi_site, threads=4, backlog=16))"
    waited: dict[int, list[float]] = {200: [], 503: []}

    async def ask(server: Server, path: str, answer: bytes) -> int:
        since = time.monotonic()
        reader, writer = await asyncio.open_connection(sock=server.connect_socket())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        status = int(head.split()[1])
        assert body == answer if status == 200 else b"\r\nretry-after: 1\r\n" in head.lower()
        waited[status].append(time.monotonic() - since)
        return status

    async def client(server: Server, number: int, end: float) -> None:
        while time.monotonic() < end:
            if await ask(server, f"/tagged?id={number}&delay=0.05", f"{number}::{number}".encode()) == 503:
                await asyncio.sleep(1)

    async def all_at_once(server: Server) -> float:
        end = time.monotonic() + 10
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(client(server, number, end))
            await asyncio.sleep(end - time.monotonic())
            while await ask(server, "/hello", HELLO) == 503:
                pass
            return time.monotonic() - end

    with servers.uvicorn_httptools_uvloop(tmp_path, app) as server:
        recovery = asyncio.run(all_at_once(server))
        for status, seconds in sorted(waited.items()):
            half, most = (statistics.quantiles(seconds, n=100)[percent - 1] * 1000 for percent in (50, 99))
            print(f"  {status}: {len(seconds)}; half within {half:.0f} ms, 99 % within {most:.0f} ms")
        print(f"  served again {recovery * 1000:.0f} ms after the last of them has come")
        server.wait_for(lambda: b'"busy": 0, "idle": 4, "waiting": 0' in server.get("/stats")[1], "all is at rest")
        assert 200 == server.get("/hello")[0]


class TestFlatness:
    """What is to be found is found, and what is noise is not."""

    FLAT = Held(2, 12, 40, 3, 50_000, 80.0)

    def test_noise(self) -> None:
        """The first rounds, and one that has not come to rest."""
        early = [self.FLAT._replace(threads=2, objects=30_000, mebibytes=50.0)] * 2
        odd = self.FLAT._replace(threads=20, tasks=9, objects=60_000, mebibytes=120.0)
        late = self.FLAT._replace(threads=14, objects=50_070)
        assert {} == grown([*early, *[self.FLAT] * 4, odd, *[late] * 5])

    @pytest.mark.parametrize("name", Held._fields)
    def test_growth(self, name: str) -> None:
        """A little more in each round."""
        step = 2 * SLACK[name] / 8 + 1
        rising = [self.FLAT._replace(**{name: getattr(self.FLAT, name) + step * number}) for number in range(12)]
        assert {name} == grown(rising).keys()
