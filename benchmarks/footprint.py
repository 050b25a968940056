"""What is held in memory: by an adapter that does nothing, by a request that waits, and by a stream that is open.

Each function is one sample, taken in a process of its own; it returns KiB by name. What is measured is what the process
has grown by over a number of them, divided by that number.
"""

import asyncio
import gc
import os
import threading
from pathlib import Path
from typing import Any

from benchmarks import apps, peers
from benchmarks.harness import Exchange, make_environ, make_scope, take_wsgi
from benchmarks.settings import Settings

ADAPTERS = 200
REQUESTS = 800  # with the first hundred still within the backlog
STREAMS = 200
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024


def _held() -> float:
    """KiB of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KIB


def idle(subject: str, settings: Settings) -> dict[str, float]:
    """Adapters of either kind that have served nothing yet."""
    peers.wsgi_to_asgi(subject, apps.wsgi_hello)
    peers.asgi_to_wsgi(subject, apps.asgi_hello)
    kept: list[Any] = []
    before = _held()
    for _ in range(ADAPTERS):
        kept.append(peers.wsgi_to_asgi(subject, apps.wsgi_hello))
        kept.append(peers.asgi_to_wsgi(subject, apps.asgi_hello))
    return {"adapter": (_held() - before) / len(kept)}


def waiting(subject: str, settings: Settings) -> dict[str, float]:
    """Requests to a WSGI app that wait for a thread, since all threads are held."""
    go = threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        go.wait(60)
        return apps.wsgi_hello(environ, start_response)

    adapter = peers.wsgi_to_asgi(subject, app)

    async def ask(number: int) -> list[Exchange]:
        exchanges = [Exchange([{"type": "http.request", "body": b"", "more_body": False}]) for _ in range(number)]
        tasks.extend(asyncio.ensure_future(adapter(make_scope(), each.receive, each.send)) for each in exchanges)
        for _ in range(20):
            await asyncio.sleep(0)
        return exchanges

    tasks: list[Any] = []

    async def sample() -> float:
        first = await ask(100)
        before = _held()
        rest = await ask(REQUESTS)
        held = (_held() - before) / REQUESTS
        go.set()
        await asyncio.gather(*tasks)
        for each in (*first, *rest):
            each.check(apps.HELLO)
        return held

    return {"request": asyncio.run(sample())}


def streaming(subject: str, settings: Settings) -> dict[str, float]:
    """Streams of an ASGI app that are open and quiet, each with a server's thread of its own."""
    go = asyncio.Event()
    begun = threading.Semaphore(0)
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError("this app speaks http only")
        loops.append(asyncio.get_running_loop())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        begun.release()
        await go.wait()
        await send({"type": "http.response.body", "body": b""})

    adapter = peers.asgi_to_wsgi(subject, app)
    threads: list[threading.Thread] = []

    def open_streams(number: int) -> None:
        new = [threading.Thread(target=take_wsgi, args=(adapter, make_environ())) for _ in range(number)]
        for thread in new:
            thread.start()
        for _ in new:
            if not begun.acquire(timeout=30):
                raise TimeoutError("a stream does not begin")
        threads.extend(new)

    open_streams(10)
    before = _held()
    open_streams(STREAMS)
    held = (_held() - before) / STREAMS
    loops[0].call_soon_threadsafe(go.set)
    for thread in threads:
        thread.join()
    return {"stream": held}
