"""`apps.asgi_site`, and an app whose synchronous work waits for its client."""

import asyncio
import threading
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from support import apps


async def works(scope: Any, receive: Any, send: Any) -> None:
    """Waits in the server's thread, by asgiref or by an event, for a task that already waits for the client."""
    told = threading.Event()
    await receive()

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()
        apps.count("told of the leave")

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)
    apps.count("works")

    async def join() -> None:
        await task

    await sync_to_async(told.wait if scope["query_string"] == b"event" else async_to_sync(join))()


async def site(scope: Any, receive: Any, send: Any) -> None:
    chosen = works if scope.get("path") == "/works" else apps.asgi_site
    await chosen(scope, receive, send)
