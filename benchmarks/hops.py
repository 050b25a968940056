"""The floor: the app without an adapter, behind a bare hop to another thread and back.

An adapter cannot be faster while the app runs in another thread than the server.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

from benchmarks.apps import ASGIApp, Environ, WSGIApp


def to_thread(app: ASGIApp) -> ASGIApp:
    """`app`, after a hop from the loop to a thread and back."""
    inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def work() -> None:
        while True:
            inbox.get()()

    threading.Thread(target=work, daemon=True).start()

    async def hopping(scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        inbox.put(lambda: loop.call_soon_threadsafe(arrived.set_result, None))
        await arrived
        await app(scope, receive, send)

    return hopping


def to_loop(app: WSGIApp) -> WSGIApp:
    """`app`, after a hop from the thread to a loop and back."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def hopping(environ: Environ, start_response: Any) -> Iterable[bytes]:
        arrived: SimpleQueue[None] = SimpleQueue()
        loop.call_soon_threadsafe(arrived.put, None)
        arrived.get()
        return app(environ, start_response)

    return hopping
