"""Mixed traffic for minutes: every byte is checked, and nothing grows.

BRIDGE_SOAK_MINUTES says for how long, for all servers together. What a server holds is looked at between rounds, when
no request is live.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

import apps
import servers
from real_servers.cases import one_of_many, settled
from real_servers.kinds import ASGI_APP, WSGI_APP

MINUTES = float(os.environ.get("BRIDGE_SOAK_MINUTES", "3"))
SERVERS: list[tuple[Callable[[Path, str], servers.Running], str]] = [
    (servers.uvicorn_httptools_uvloop, WSGI_APP),
    (servers.gunicorn_gthread, ASGI_APP),
    (servers.apache_daemon, ASGI_APP),
]
AT_ONCE = 16
ROUND = 160  # requests
# What may be more at the end: memory that allocators keep, connections that a server has not closed yet.
MEBIBYTES, DESCRIPTORS, THREADS = 24, 8, 4

pytestmark = [pytest.mark.soak, pytest.mark.timeout(MINUTES * 60 + 120)]


class Held(NamedTuple):
    """What the processes of a server hold, all together."""

    processes: int
    threads: int
    descriptors: int
    mebibytes: int


def held(server: servers.Server) -> Held:
    family = server.family()
    return Held(
        len(family),
        sum(member.num_threads() for member in family),
        sum(member.num_fds() for member in family),
        sum(member.memory_info().rss for member in family) // servers.MIB,
    )


def upload(server: servers.Server) -> None:
    """One of 1 MiB; the app answers with its digest."""
    body = secrets.token_bytes(servers.MIB)
    with server.connect() as connection:
        answer = connection.ask("POST", "/upload", body).read()
    assert f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode() == answer


def download(server: servers.Server) -> None:
    with server.connect() as connection:
        digest = hashlib.sha256(connection.ask("GET", "/download?mib=2").read()).hexdigest()
    assert apps.digest_of_blocks(2) == digest.encode()


def leave_a_stream(server: servers.Server) -> None:
    with server.connect() as connection:
        assert apps.TICK == connection.ask("GET", "/endless").read(len(apps.TICK))
        connection.abort()


def leave_an_upload(server: servers.Server) -> None:
    with server.connect() as connection:
        connection.head("POST", "/upload", {"Content-Length": 100_000})
        connection.send(b"x" * 1000)


def fail(server: servers.Server) -> None:
    assert 500 == server.get("/raises")[0]


OTHERS = [upload, download, leave_a_stream, leave_an_upload, fail]


async def one_round(server: servers.Server, first: int) -> None:
    """`ROUND` requests, `AT_ONCE` at once; each number is that of one request for ever, and its answer carries it."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turns:
            if number % 10 == 9:
                await asyncio.to_thread(OTHERS[number // 10 % len(OTHERS)], server)
            else:
                await one_of_many(server, number, chunked=True)

    async with asyncio.TaskGroup() as group:
        for number in range(first, first + ROUND):
            group.create_task(one(number))


@pytest.mark.parametrize(("run", "app"), SERVERS, ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_is_mixed_and_nothing_grows(run: Any, app: str, tmp_path: Path) -> None:
    """What is held after the last rounds is what was held after the first ones."""
    seen: list[Held] = []
    with run(tmp_path, app) as server:
        end = time.monotonic() + MINUTES * 60 / len(SERVERS)
        while time.monotonic() < end or len(seen) < 6:
            asyncio.run(one_round(server, len(seen) * ROUND))
            settled(lambda: held(server).threads * 10_000 + held(server).descriptors)
            seen.append(held(server))
        print(f"{server.name}: {len(seen) * ROUND} requests; held {seen[0]}, {seen[len(seen) // 2]}, {seen[-1]}")
        # The first round makes threads, caches and pools; the worst of the next ones is what is normal.
        third = max(2, len(seen) // 3)
        before, after = seen[1 : third + 1], seen[-third:]
        for name, slack in (("threads", THREADS), ("descriptors", DESCRIPTORS), ("mebibytes", MEBIBYTES)):
            normal = max(getattr(each, name) for each in before)
            assert min(getattr(each, name) for each in after) <= normal + slack, (name, seen)
        assert psutil.Process(server.process.pid).is_running()


def test_ten_times_the_capacity(tmp_path: Path) -> None:
    """Four threads and a backlog of 16 for 200 at once: each is served or refused with 503, and then all is well."""
    app = "bridge.WsgiToAsgi(apps.wsgi_site, threads=4, backlog=16)"
    with servers.uvicorn_h11_asyncio(tmp_path, app) as server:

        def ask(number: int) -> tuple[int, str | None, bytes]:
            with server.connect() as connection:
                response = connection.ask("GET", f"/tagged?id={number}&delay=0.05")
                return response.status, response.getheader("Retry-After"), response.read()

        async def all_at_once() -> list[tuple[int, str | None, bytes]]:
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(200) as pool:
                return await asyncio.gather(*(loop.run_in_executor(pool, ask, number) for number in range(200)))

        answers = asyncio.run(all_at_once())
        served = {number for number, answer in enumerate(answers) if answer[0] == 200}
        assert all(answers[number][2] == f"{number}::{number}".encode() for number in served)
        assert {(503, "1")} == {answers[number][:2] for number in range(200) if number not in served}
        assert 20 <= len(served) < 200
        assert 200 == server.get("/hello")[0]
