"""The chat's WebSockets: a plain ASGI application, which the entry points pass to `bridge.django`."""

import asyncio
import io
import json
from importlib import import_module
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.urls import Resolver404, resolve

from .forms import ArrivalForm
from .models import Room
from .views import live

# RFC 6455, section 7.4.1, and IANA's registry.
POLICY_VIOLATION, MESSAGE_TOO_BIG, SERVICE_RESTART = 1008, 1009, 1012

# In characters: the longest text as JSON, if every character is escaped, and the rest of the JSON.
LONGEST = 13_000


class Refused(Exception):
    """The argument is the code to close with."""


async def application(scope, receive, send):
    """One WebSocket, from its handshake to its end."""
    await receive()  # websocket.connect
    hub = scope["state"]["hub"]
    try:
        visit = await arrive(hub, scope)
    except (Refused, DisallowedHost, Resolver404, Room.DoesNotExist):
        await send({"type": "websocket.close"})  # the client gets 403
        return
    try:
        await send({"type": "websocket.accept"})
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(tell(visit, send))
            await listen(hub, visit, receive)
            telling.cancel()
    except* Refused as refusals:
        await send({"type": "websocket.close", "code": refusals.exceptions[0].args[0]})
    finally:
        # Not in the task that sends: it may find the client gone, and be cancelled while it takes leave.
        await visit.leave()


async def arrive(hub, scope):
    # A handshake is a GET request: Django can read its host, its cookies and its query.
    request = ASGIRequest({**scope, "method": "GET"}, io.BytesIO())
    match = resolve(request.path)
    arrival = ArrivalForm(request.GET)
    if match.func is not live or not is_from_this_site(request) or not arrival.is_valid():
        raise Refused(POLICY_VIOLATION)
    store = import_module(settings.SESSION_ENGINE).SessionStore
    session = store(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    limited = "wsgi_environ" in scope
    return await hub.visit(session, match.kwargs["slug"], arrival.cleaned_data["after"], limited=limited)


def is_from_this_site(request):
    """Whether a page of this site asks. Browsers let pages of any site connect, and send this site's cookies along."""
    return urlsplit(request.headers.get("Origin", "")).netloc == request.get_host()


async def tell(visit, send):
    """Send the events of the visit, and close the WebSocket when the visit is ended here."""
    try:
        async for event in visit.events():
            await send({"type": "websocket.send", "text": json.dumps(event)})
        await send({"type": "websocket.close", "code": SERVICE_RESTART})
    except OSError:
        return  # the client has left, and the other task is told so


async def listen(hub, visit, receive):
    """Do what the page asks for, until it leaves."""
    while (received := await receive())["type"] == "websocket.receive":
        text = received.get("text") or ""
        if len(text) > LONGEST:
            raise Refused(MESSAGE_TOO_BIG)
        asked = parsed(text)
        do = {"say": hub.say, "here": hub.here}.get(asked.get("type"))
        if do is None or visit.visitor is None:
            raise Refused(POLICY_VIOLATION)
        if answer := await do(visit.room, visit.visitor, asked):
            visit.tell(answer)


def parsed(text):
    """A JSON object of strings."""
    try:
        asked = json.loads(text)
        "".join(asked.values()).encode()  # text that cannot be encoded cannot be saved
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Refused(POLICY_VIOLATION) from None
    return asked
