"""The two functions for `asgi.py` and `wsgi.py`: their options, websockets, and the life of the process."""

import asyncio
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest

from bridge import LifespanFailed
from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project  # sets Django up
from support.django_clients import Asgi, Wsgi
from support.plain_servers import environ_for
from support.scripted_asgi_server import Request, get, lifespan, opened
from support.scripted_wsgi_server import ask
from support.websocket_clients import site

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"debug": True}


async def _sockets(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["path"]})
    await send({"type": "websocket.close"})


async def _connect(app: Any) -> list[str]:
    scope = {"type": "websocket", "path": "/live", "headers": [], "extensions": {}}
    request = Request(app, scope, [{"type": "websocket.connect"}], None)
    await request.run()
    if request.error is not None:
        raise request.error
    return [event["type"] for event in request.sent]


async def test_websockets_go_to_their_application() -> None:
    """Channels' router, say."""
    with get_asgi_application(websocket=_sockets) as app:
        assert ["websocket.accept", "websocket.send", "websocket.close"] == await _connect(app)


async def test_websockets_without_one_are_refused() -> None:
    """As by `WsgiToAsgi`."""
    with get_asgi_application() as app:
        assert ["websocket.close"] == await _connect(app)


def test_websockets_on_a_wsgi_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to their application, with the state of the startup, on the loop that the project's async code has."""
    seen = {}

    def startup(state: dict[str, Any]) -> None:
        state["loops"] = []

    async def sockets(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope["state"])
        await _sockets(scope, receive, send)

    with get_wsgi_application(websocket=sockets, startup=startup) as app, site(app) as running:
        with running.connect() as client:
            client.open("/live")
            assert "/live" == client.receive()
            client.answer_close(client.receive())  # type: ignore[arg-type]
        assert running.errors == []
        assert b"Not Found" in ask(app, environ_for("GET", "/nowhere")).body
    assert {"loops": []} == seen


def test_websockets_on_a_wsgi_server_without_a_connection() -> None:
    """They are refused, since the project's views make nothing of them."""
    environ = {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}
    with get_wsgi_application(websocket=_sockets) as app:
        assert "426 Upgrade Required" == ask(app, environ_for("GET", "/live", **environ)).status


async def test_hooks_and_state_on_an_asgi_server() -> None:
    """The server's lifespan; the requests see the state."""
    told: list[str] = []

    async def startup(state: dict[str, Any]) -> None:
        told.append("startup")
        state["pool"] = "made"

    app = get_asgi_application(startup=startup, shutdown=lambda: told.append("shutdown"))
    state: dict[str, Any] = {}
    async with lifespan(app, state):
        assert {"pool": "made"} == state
        async with opened(app, {**_scope("/facts"), "state": dict(state)}) as request:
            await request.ended()
        assert b'"state": {"pool": "made"}' in request.body
        assert ["startup"] == told
    assert ["startup", "shutdown"] == told


def _scope(path: str) -> dict[str, Any]:
    from support.plain_servers import scope_for

    return scope_for("GET", path)


@pytest.mark.parametrize("is_async", [True, False])
def test_hooks_and_state_on_a_wsgi_server(is_async: bool) -> None:
    """Once a process, before the first request and at the end; async ones on the loop of the async views."""
    told: list[Any] = []

    def sync_startup(state: dict[str, Any]) -> None:
        told.append("startup")
        state["pool"] = "made"

    async def startup(state: dict[str, Any]) -> None:
        state["loop"] = id(asyncio.get_running_loop())
        sync_startup(state)

    face = Wsgi(
        get_wsgi_application(startup=startup if is_async else sync_startup, shutdown=lambda: told.append("shutdown"))
    )
    try:
        first, second = face.ask("/facts").json()["state"], face.ask("/async_facts").json()["state"]
        assert "made" == first["pool"] == second["pool"]
        if is_async:
            assert face.ask("/async_where").json()["loop"] == first["loop"]
        assert ["startup"] == told
    finally:
        face.close()
    assert ["startup", "shutdown"] == told


class _Startup:
    """A hook that is an object whose call is async."""

    async def __call__(self, state: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        state["pool"] = "made"


@pytest.mark.parametrize("hook", [_Startup(), lambda state: _Startup()(state)], ids=["object", "lambda"])
@pytest.mark.parametrize("server", ["asgi", "wsgi"])
async def test_hooks_that_do_not_look_async(server: str, hook: Any) -> None:
    """Are awaited all the same, on both kinds of server."""
    state: dict[str, Any] = {}
    if server == "asgi":
        async with lifespan(get_asgi_application(startup=hook), state):
            assert {"pool": "made"} == state
        return
    face = Wsgi(get_wsgi_application(startup=hook))
    try:
        state = (await asyncio.to_thread(face.ask, "/facts")).json()["state"]
        assert {"pool": "made"} == state
    finally:
        await asyncio.to_thread(face.close)


def startup_of_a_path(state: dict[str, Any]) -> None:
    state["from"] = "path"


def test_hooks_by_their_dotted_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported once Django is set up."""
    monkeypatch.setattr(django_project, "startup_of_a_path", startup_of_a_path, raising=False)
    face = Wsgi(get_wsgi_application(startup="support.django_project.startup_of_a_path"))
    try:
        assert {"from": "path"} == face.ask("/facts").json()["state"]
    finally:
        face.close()


async def test_a_hook_that_fails_on_an_asgi_server_is_told_and_raised() -> None:
    """Test clients look at the exception, as Starlette's router raises it."""

    def startup() -> None:
        raise ConnectionError("no database")

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    with get_asgi_application(startup=startup) as app:
        async with opened(app, scope, [{"type": "lifespan.startup"}], fails=True) as server:
            pass
    assert ["lifespan.startup.failed"] == [event["type"] for event in server.sent]
    assert isinstance(server.error, ConnectionError)


@pytest.mark.parametrize("pathsend", [False, True])
async def test_a_file_is_left_to_the_server_where_the_project_asks_for_it(pathsend: bool) -> None:
    """`pathsend`, as for `WsgiToAsgi`."""
    with get_asgi_application(pathsend=pathsend) as app:
        scope, events = get("/file", extensions={"http.response.pathsend": {}})
        async with opened(app, scope, events) as request:
            pass
    assert pathsend is ("http.response.pathsend" in [event["type"] for event in request.sent])


@pytest.mark.parametrize("changes", [{}, {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}])
def test_a_body_without_a_length_arrives_on_a_wsgi_server(changes: dict[str, str]) -> None:
    """Where the input ends by itself: Django reads nothing without a length."""
    with get_wsgi_application() as app:
        environ = environ_for("POST", "/body") | {"wsgi.input": io.BytesIO(b"body")}
        for key in ("CONTENT_LENGTH", "wsgi.input_terminated"):
            environ.pop(key, None)
        assert b"body" in ask(app, environ | changes).body


def test_a_body_whose_end_nobody_knows_is_refused_on_a_wsgi_server() -> None:
    """RFC 9110 15.5.12: taken for an empty one, it would be lost without a word."""
    with get_wsgi_application() as app:
        environ = environ_for("POST", "/body") | {"wsgi.input": None, "HTTP_TRANSFER_ENCODING": "chunked"}
        for key in ("CONTENT_LENGTH", "wsgi.input_terminated"):
            environ.pop(key, None)
        assert "411 Length Required" == ask(app, environ).status


def test_a_startup_that_fails_on_a_wsgi_server() -> None:
    """Each request says so."""

    def startup() -> None:
        raise ConnectionError("no database")

    face = Wsgi(get_wsgi_application(startup=startup))
    try:
        for _ in range(2):
            reply = face.ask("/hello")
            assert isinstance(reply.error, LifespanFailed)
            assert "no database" in str(reply.error)
    finally:
        face.close()


@pytest.mark.parametrize(
    ("make", "options", "error", "said"),
    [
        (get_asgi_application, {"threads": 0}, ValueError, "threads must be 1 or more"),
        (
            get_asgi_application,
            {"websocket": "support.django_project.hello"},
            TypeError,
            "expected an ASGI 3 application",
        ),
        (get_asgi_application, {"websocket": "router"}, ImproperlyConfigured, "websocket names 'router', which"),
        (get_wsgi_application, {"startup": "nowhere.at"}, ImproperlyConfigured, "startup names 'nowhere.at', which"),
        (get_asgi_application, {"startup": 1}, TypeError, "startup must be None or a callable"),
        (get_wsgi_application, {"shutdown": 1}, TypeError, "shutdown must be None or a callable"),
        (get_wsgi_application, {"startup_timeout": -1}, ValueError, "startup_timeout"),
        (get_wsgi_application, {"threads": 4}, TypeError, "unexpected keyword argument 'threads'"),
    ],
)
def test_wrong_options(make: Callable[..., Any], options: dict[str, Any], error: type[Exception], said: str) -> None:
    """Raise where they are given."""
    with pytest.raises(error) as raised:
        make(**options)
    assert said in str(raised.value)


def test_the_request_is_djangos_own() -> None:
    """Middleware that looks at its class finds what it knows."""
    from bridge.django._request import Request as BridgeRequest

    assert issubclass(BridgeRequest, WSGIRequest)


def test_limits_answer() -> None:
    """`max_body`, as for `WsgiToAsgi`."""
    face = Asgi(get_asgi_application(max_body=10))
    try:
        assert 413 == face.ask("/body", pieces=[b"x" * 11]).status
    finally:
        face.close()
