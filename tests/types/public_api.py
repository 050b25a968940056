"""What type checkers make of the public names. Never executed: `mypy --strict` and `pyright` read it.

An application may be typed by any of the vocabularies below, and an adapter may be handed to whatever wants an
application of its side. A line with an ignored error is one that has to be an error.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Literal, assert_type
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.validate import validator

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as StarletteScope

import bridge
from bridge import (
    ApplicationProtocolError,
    AsgiToWsgi,
    ClientDisconnected,
    ClientProtocolError,
    LifespanFailed,
    LoopStats,
    Mounts,
    ProtocolError,
    ServerProtocolError,
    ThreadStats,
    WsgiToAsgi,
    as_asgi,
    as_wsgi,
    errors,
    interface_of,
)

# --- WsgiToAsgi takes any WSGI application ---------------------------------------------------------------------------


def by_wsgiref(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b""]


def by_hand(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    return []


def as_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Generator[bytes, None, None]:
    yield b""


def as_iterator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    return iter(())


class ByInstance:
    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> tuple[bytes, ...]:
        return ()


class ByClass:
    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None: ...

    def __iter__(self) -> Iterator[bytes]:
        yield b""


def wsgi_applications(wsgi: WSGIApplication, flask: Flask) -> None:
    assert_type(WsgiToAsgi(wsgi), WsgiToAsgi)
    assert_type(WsgiToAsgi(flask), WsgiToAsgi)
    assert_type(WsgiToAsgi(flask.wsgi_app), WsgiToAsgi)
    # Django has no types of its own (django-stubs has them), and pyright infers that it may return a coroutine.
    assert_type(WsgiToAsgi(WSGIHandler()), WsgiToAsgi)  # pyright: ignore[reportArgumentType]
    assert_type(WsgiToAsgi(validator(wsgi)), WsgiToAsgi)
    for app in (by_wsgiref, by_hand, as_generator, as_iterator):
        WsgiToAsgi(app)
    WsgiToAsgi(ByInstance())
    WsgiToAsgi(ByClass)


# --- AsgiToWsgi takes any ASGI application ---------------------------------------------------------------------------


async def by_asgiref(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await receive()


async def by_starlette(scope: StarletteScope, receive: Receive, send: Send) -> None:
    await send(await receive())


async def by_plain_dicts(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    await send(await receive())


class ByAsyncInstance:
    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None: ...


def asgi_applications(asgi: ASGI3Application, starlette: Starlette, some: ASGIApp) -> None:
    assert_type(AsgiToWsgi(asgi), AsgiToWsgi)
    assert_type(AsgiToWsgi(starlette), AsgiToWsgi)
    assert_type(AsgiToWsgi(some), AsgiToWsgi)
    assert_type(AsgiToWsgi(ASGIHandler()), AsgiToWsgi)
    AsgiToWsgi(by_asgiref)
    AsgiToWsgi(by_starlette)
    AsgiToWsgi(by_plain_dicts)
    AsgiToWsgi(ByAsyncInstance())


# --- Neither takes the other kind, nor a wrong option ----------------------------------------------------------------


def not_taken(flask: Flask, starlette: Starlette) -> None:
    WsgiToAsgi(by_asgiref)  # type: ignore[arg-type]
    WsgiToAsgi(starlette)  # type: ignore[arg-type]
    WsgiToAsgi(5)  # type: ignore[arg-type]
    AsgiToWsgi(by_wsgiref)  # type: ignore[arg-type]
    AsgiToWsgi(flask)  # type: ignore[arg-type]
    WsgiToAsgi(flask, 40)  # type: ignore[call-arg]
    WsgiToAsgi(flask, threads="40")  # type: ignore[arg-type]
    WsgiToAsgi(flask, thread=40)  # type: ignore[call-arg]
    AsgiToWsgi(starlette, lifespan="never")  # type: ignore[arg-type]
    AsgiToWsgi(starlette, loop_factory=asyncio.run)  # type: ignore[arg-type]


def startup(state: dict[str, Any]) -> None: ...


async def shutdown() -> None: ...


def options(flask: Flask, starlette: Starlette) -> None:
    WsgiToAsgi(
        flask,
        threads=1,
        backlog=0,
        collect=0,
        max_body=2**30,
        stream_chunked=True,
        max_repeats=1,
        startup=startup,
        shutdown=shutdown,
        shutdown_timeout=1,
        slow_warning=0.5,
        pathsend=True,
    )
    WsgiToAsgi(flask, max_body=None, startup=None, shutdown=None, slow_warning=None)
    AsgiToWsgi(
        starlette,
        lifespan="on",
        startup_timeout=1,
        shutdown_timeout=1.5,
        disconnect_grace=1,
        loop_factory=asyncio.new_event_loop,
        slow_warning=0.5,
        background="before",
        pathsend=True,
        websocket="reject",
        max_websockets=1,
        max_message=1,
        ping_interval=1.5,
        ping_timeout=None,
    )
    AsgiToWsgi(starlette, lifespan="off", loop_factory=None, slow_warning=None)


# --- What comes out is an application of the other side --------------------------------------------------------------


def adapters_are_applications(flask: Flask, starlette: Starlette) -> None:
    asgi: ASGI3Application = WsgiToAsgi(flask)
    for_starlette: ASGIApp = WsgiToAsgi(flask)
    wsgi: WSGIApplication = AsgiToWsgi(starlette)
    Mount("/legacy", app=WsgiToAsgi(flask))
    make_server("127.0.0.1", 0, AsgiToWsgi(starlette))
    flask.wsgi_app = AsgiToWsgi(starlette)  # type: ignore[method-assign]
    WsgiToAsgi(AsgiToWsgi(starlette))
    AsgiToWsgi(WsgiToAsgi(flask))
    print(asgi, for_starlette, wsgi)


def mounts_are_applications(flask: Flask, starlette: Starlette) -> None:
    site = Mounts({"/api": starlette, "/": flask, "/in": Mounts({}), "/mine": WsgiToAsgi(flask, threads=2)})
    asgi: ASGI3Application = site.asgi
    for_starlette: ASGIApp = site.asgi
    wsgi: WSGIApplication = site.wsgi
    Mount("/site", app=site.asgi)
    make_server("127.0.0.1", 0, site.wsgi)
    with site as same:
        assert_type(same, Mounts)
    print(asgi, for_starlette, wsgi)


def adapted_where_needed(flask: Flask, starlette: Starlette) -> None:
    asgi: ASGI3Application = as_asgi(flask)
    wsgi: WSGIApplication = as_wsgi(starlette)
    kind: Literal["asgi", "wsgi", "both"] = interface_of(flask)
    print(asgi, wsgi, kind)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    with WsgiToAsgi(by_wsgiref) as adapter:
        assert_type(adapter, WsgiToAsgi)
        yield


def closing(adapter: AsgiToWsgi, other: WsgiToAsgi) -> None:
    with adapter as same:
        assert_type(same, AsgiToWsgi)
    adapter.close()
    other.close()


# --- What can be asked of an adapter ---------------------------------------------------------------------------------


def statistics(one: WsgiToAsgi, other: AsgiToWsgi) -> None:
    threads = one.stats()
    assert_type(threads.alive, int)
    assert_type(threads.busy, int)
    assert_type(threads.idle, int)
    assert_type(threads.waiting, int)
    assert_type(threads.rejected, int)
    assert_type(threads.client_disconnects, int)
    assert_type(threads.aborted, int)
    assert_type(threads.served, int)
    loop = other.stats()
    assert_type(loop.tasks, int)
    assert_type(loop.longest_block, float)
    assert_type(loop.busy, int)
    assert_type(loop.rejected, int)
    assert_type(loop.client_disconnects, int)
    assert_type(loop.aborted, int)
    assert_type(loop.served, int)
    threads.served = 0  # type: ignore[misc]
    loop.tasks = 0  # type: ignore[misc]


# --- The errors ------------------------------------------------------------------------------------------------------


def caught(work: Callable[[], None]) -> None:
    try:
        work()
    except (ApplicationProtocolError, ServerProtocolError) as protocol_error:
        assert_type(protocol_error.did, str)
        assert_type(protocol_error.state, str)
        assert_type(protocol_error.expected, str)
        assert_type(protocol_error.clause, str)
    except ClientProtocolError as refusal:
        assert_type(refusal.status, int)
    except ProtocolError as error:
        assert_type(error.party, str)
    except ClientDisconnected as left:
        assert_type(left.errno, int | None)
    except LifespanFailed as failed:
        assert_type(str(failed), str)
    assert_type(bridge.__version__, str)
    assert_type(errors.ProtocolError.party, str)


# --- what they tell about themselves can be named --------------------------------------------------------------------

assert_type(WsgiToAsgi(by_wsgiref).stats(), ThreadStats)
assert_type(AsgiToWsgi(app=WsgiToAsgi(by_wsgiref)).stats(), LoopStats)
