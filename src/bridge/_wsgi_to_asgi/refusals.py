"""Refuses requests that cannot be served now, requests that are not complete, and WebSockets."""

import logging
from contextlib import suppress
from typing import Final

import anyio

from bridge._concurrency.calls import Dispatcher
from bridge._translate.response_to_events import text_events
from bridge._types import Receive, Scope, Send
from bridge.errors import ClientDisconnected, ClientProtocolError

# What proxies log for a request whose client has left.
_CLIENT_CLOSED_REQUEST: Final = 499
_CLIENT_CLOSED_TEXT: Final = "the client left before the response began"
# How long the server may take for it.
_NOBODY_SECONDS: Final = 1.0

_log = logging.getLogger("bridge")


def unavailable(when: str) -> ClientProtocolError:
    """The error (503) for a request that cannot be served now."""
    return ClientProtocolError(
        f"came {when}", expected="another attempt after a second", clause="RFC 9110 15.6.4", status=503
    )


def truncated(error: ClientDisconnected) -> ClientProtocolError:
    """The error for a request whose body broke off, if anybody still sees it."""
    refusal = ClientProtocolError(
        f"sent less than it announced ({error})", expected="as many bytes as Content-Length says", clause="RFC 9112 6.3"
    )
    refusal.__cause__ = error
    return refusal


async def refuse(dispatcher: Dispatcher, refusal: ClientProtocolError, send: Send) -> None:
    """Answer a request with `refusal`, and count it."""
    dispatcher.counters.rejected += 1
    _log.info("refused a request with %d: %s", refusal.status, refusal)
    extra = ((b"retry-after", b"1"),) if refusal.status == 503 else ()
    for event in text_events(refusal.status, str(refusal), *extra):
        await send(event)


async def answer_nobody(send: Send) -> None:
    """Answer a request whose client has left. The server drops this, or raises an error, which means nothing.

    Middleware may wait for a response, and raise an error of its own if there is none (Starlette's BaseHTTPMiddleware
    does: "No response returned").
    """
    with anyio.move_on_after(_NOBODY_SECONDS), suppress(Exception):
        for event in text_events(_CLIENT_CLOSED_REQUEST, _CLIENT_CLOSED_TEXT):
            await send(event)


async def deny_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI WebSocket: a close before the accept is a 403. With the denial response extension, it has a message."""
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" in (scope.get("extensions") or {}):
        start, body = text_events(404, "this application has no WebSockets: it is a WSGI application")
        await send({**start, "type": "websocket.http.response.start"})
        await send({**body, "type": "websocket.http.response.body"})
    else:
        await send({"type": "websocket.close", "code": 1000})
