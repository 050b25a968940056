"""Real frameworks with WebSockets, behind one ASGI app that sends each path to its own."""

from typing import Annotated, Any

import socketio  # type: ignore[import-untyped]
from asgiref.sync import async_to_sync
from channels.auth import AuthMiddlewareStack  # type: ignore[import-untyped]
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # type: ignore[import-untyped]
from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-untyped]
from channels.security.websocket import AllowedHostsOriginValidator  # type: ignore[import-untyped]
from django.conf import settings
from django.test.utils import override_settings
from django.urls import path
from fastapi import Depends, FastAPI, Header
from fastapi import WebSocket as FastWebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from support import apps, django_project

# -- python-socketio

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", ping_interval=5)


@sio.event  # type: ignore[untyped-decorator]
async def shout(sid: str, text: str) -> str:
    await sio.emit("shouted", text.upper(), to=sid)
    return f"{sio.transport(sid)}"


# -- Django Channels

django_project.configure()
settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]
    """What one says, all in the room hear."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept("chat" if "chat" in self.scope["subprotocols"] else None)

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)
        apps.signals.tell("departed", str(code))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("room", {"type": "room.said", "text": text_data})

    async def room_said(self, event: Any) -> None:
        await self.send(text_data=f"{self.scope['user']}: {event['text']}")


class Sync(WebsocketConsumer):  # type: ignore[misc]
    """The same in synchronous code, and it closes at a word."""

    def connect(self) -> None:
        if self.scope["query_string"] == b"refused":
            self.close()
            return
        async_to_sync(self.channel_layer.group_add)("room", self.channel_name)
        self.accept()

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)("room", self.channel_name)
        apps.signals.tell("departed", str(code))

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "close":
            self.close(code=4005, reason="as you say")
        else:
            async_to_sync(self.channel_layer.group_send)("room", {"type": "room.said", "text": text_data})

    def room_said(self, event: Any) -> None:
        self.send(text_data=f"{self.scope['user']}: {event['text']}")


with override_settings(ALLOWED_HOSTS=["localhost"]):
    consumers = AllowedHostsOriginValidator(
        AuthMiddlewareStack(
            URLRouter([path("channels/room", Room.as_asgi()), path("channels/sync", Sync.as_asgi())]),
        )
    )


# -- Starlette and FastAPI


async def talk(websocket: WebSocket) -> None:
    """Denies without a token; says what the session had in its state."""
    if websocket.query_params.get("token") != "right":
        await websocket.send_denial_response(PlainTextResponse("no token", 401, {"x-why": "token"}))
        return
    websocket.state.said = 0
    await websocket.accept("two" if "two" in websocket.scope["subprotocols"] else None, [(b"x-room", b"1")])
    async for message in websocket.iter_json():
        websocket.state.said += message["count"]
        await websocket.send_json({"said": websocket.state.said})
    apps.signals.tell("departed", "starlette")


starlette = Starlette(routes=[WebSocketRoute("/starlette", talk)])
fastapi = FastAPI()


def speaker(x_name: Annotated[str, Header()]) -> str:
    """A dependency in synchronous code, which runs in a thread."""
    return x_name


@fastapi.websocket("/fastapi/{room}")
async def say(websocket: FastWebSocket, room: int, name: Annotated[str, Depends(speaker)]) -> None:
    await websocket.accept()
    await websocket.send_text(f"{name} in {room}")
    await websocket.send_bytes(await websocket.receive_bytes())
    await websocket.close(4000, "enough")


async def site(scope: Any, receive: Any, send: Any) -> None:
    """All of them; plain http that is none of theirs is the test site's."""
    if scope["type"] == "lifespan":
        await apps.asgi_site(scope, receive, send)
        return
    for prefix, app in APPS.items():
        if scope["path"].startswith(prefix):
            await app(scope, receive, send)
            return
    await apps.asgi_site(scope, receive, send)


APPS: dict[str, Any] = {
    "/socket.io/": socketio.ASGIApp(sio),
    "/channels/": ProtocolTypeRouter({"websocket": consumers, "http": apps.asgi_site}),
    "/starlette": starlette,
    "/fastapi/": fastapi,
}
