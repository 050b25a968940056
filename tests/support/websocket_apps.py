"""The app behind the real servers of the WebSocket cases; what is no WebSocket is the site's of `apps`."""

import contextlib
import importlib
import os
import sys
from typing import Any

from support import apps


async def site(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket for each question, by path."""
    if scope["type"] != "websocket":
        await apps.asgi_site(scope, receive, send)
        return
    assert "websocket.connect" == (await receive())["type"]
    await PATHS[scope["path"]](scope, receive, send)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"][-1:]), None)})
    while (event := await receive())["type"] == "websocket.receive":
        kept = {key: event[key] for key in ("text", "bytes") if event.get(key) is not None}
        await send({"type": "websocket.send", **kept})
    # Hypercorn gives no reason.
    apps.signals.tell("departed", f"{event['code']} {event.get('reason', '')}")


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """Messages without end, until nobody takes them."""
    await send({"type": "websocket.accept"})
    with contextlib.suppress(OSError):
        while True:
            await send({"type": "websocket.send", "bytes": b"f" * 2**18})
    apps.signals.tell("flooded")


async def large(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    for number in range(4):
        await send({"type": "websocket.send", "bytes": bytes([number]) * 2**20})


async def close(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 3001, "reason": "done"})
    event = await receive()
    apps.signals.tell("departed", f"{event['code']} {event['reason']}")


async def deny(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"8")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"not you\n"})


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """A 403."""
    await send({"type": "websocket.close"})


async def cookie(scope: Any, receive: Any, send: Any) -> None:
    """Says which one there is, and is done."""
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": dict(scope["headers"]).get(b"cookie", b"").decode()})


def native(module: str, name: str) -> Any:
    """A function that may wait, as it was before gevent: the loop runs in a thread of the operating system."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return getattr(importlib.import_module(module), name) if monkey is None else monkey.get_original(module, name)


async def fork(scope: Any, receive: Any, send: Any) -> None:
    """A child of this process stays until it may end, with all that is open here."""
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event["text"] != "fork":
            await send({"type": "websocket.send", "text": event["text"]})
            continue
        if (child := native("os", "fork")()) == 0:
            while not apps.signals.told("children may end"):
                native("time", "sleep")(0.005)
            apps.signals.tell("child ended")
            os._exit(0)
        native("_thread", "start_new_thread")(native("os", "waitpid"), (child, 0))
        await send({"type": "websocket.send", "text": "forked"})


PATHS = {
    "/fork": fork,
    "/echo": echo,
    "/flood": flood,
    "/large": large,
    "/close": close,
    "/deny": deny,
    "/refuse": refuse,
    "/cookie": cookie,
}
