"""Async code that a WSGI app calls finds the request body there, in whatever way it is called and on whatever loop."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest
from asgiref.sync import async_to_sync

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi
from bridge.errors import ClientDisconnected
from support.scripted_asgi_server import Adapt, Environ, get, opened, piece_event, post, serve
from support.sizes import KIB, MIB
from support.waiting import Flag
from support.wsgi_apps import hello, reply

BODY = bytes(range(256)) * (12 * KIB)  # 3 MiB
HALF = len(BODY) // 2

Way = Callable[[Callable[[], Any]], Any]


def through_async_to_sync(read: Callable[[], Any]) -> Any:
    async def code() -> Any:
        await anyio.sleep(0)
        return read()

    return async_to_sync(code)()


def through_anyio(read: Callable[[], Any]) -> Any:
    async def code() -> Any:
        await anyio.sleep(0)
        return read()

    return anyio.from_thread.run(code)


def through_a_callback(read: Callable[[], Any]) -> Any:
    return anyio.from_thread.run_sync(read)


each_way = pytest.mark.parametrize("way", [through_async_to_sync, through_anyio, through_a_callback])


class Reader:
    """An app that has async code read the body, and keeps what that got or raised."""

    def __init__(self, way: Way, read: Callable[[Any], Any] = lambda body: body.read()) -> None:
        self.entered = Flag()
        self.began = Flag()
        self.seen: list[Any] = []
        self.threads: list[int] = []
        self._way = way
        self._read = read

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/upload":
            return hello(environ, start_response)
        self.threads.append(threading.get_ident())
        self.entered.set()

        def read() -> Any:
            self.began.set()
            self.threads.append(threading.get_ident())
            return self._read(environ["wsgi.input"])

        try:
            self.seen.append(self._way(read))
        except Exception as error:
            self.seen.append(error)
        return reply(start_response, b"read")


@pytest.mark.anyio
@each_way
@pytest.mark.parametrize("collect", [0, KIB, 2**20])
async def test_the_body_is_there_before_async_code_begins(adapt: Adapt, way: Way, collect: int) -> None:
    """It begins once the last byte has come; meanwhile the loop serves others."""
    app = Reader(way)
    adapter = adapt(app, collect=collect)
    async with opened(adapter, *post(BODY[:HALF], length=len(BODY), ends=False, path="/upload")) as upload:
        await app.entered.waited()
        await upload.asked()
        assert (await serve(adapter, *get())).body == b"served"
        assert not app.began.is_set()
        upload.feed(piece_event(BODY[HALF:], more=False))
        await upload.ended()

    assert app.seen == [BODY]
    assert upload.body == b"read"
    assert len(set(app.threads)) == 2


@pytest.mark.anyio
@each_way
async def test_what_the_app_has_read_before_is_not_there_again(adapt: Adapt, way: Way) -> None:
    """Async code goes on where the app's thread has stopped, by lines too."""
    app = Reader(way, lambda body: [body.readline(), *body])

    def reads_first(environ: Environ, start_response: Any) -> list[bytes]:
        assert environ["wsgi.input"].read(3) == b"one"
        return app(environ, start_response)

    pieces = [b"one\ntwo", b"\nthr", b"ee\n" + b"x" * MIB, b"\nend"]
    await serve(adapt(reads_first, collect=0), *post(*pieces, path="/upload"))

    assert app.seen == [[b"\n", b"two\n", b"three\n", b"x" * MIB + b"\n", b"end"]]


@pytest.mark.anyio
@each_way
async def test_a_client_that_leaves_in_the_middle(adapt: Adapt, way: Way) -> None:
    """The async code is told when it reads, as sync code would be; and the thread is free."""
    app = Reader(way)
    adapter = adapt(app, threads=1, collect=0)
    async with opened(adapter, *post(b"half", length=MIB, ends=False, path="/upload")) as upload:
        await app.entered.waited()
        upload.leave()
    assert (await serve(adapter, *get())).body == b"served"

    assert [type(error) for error in app.seen] == [ClientDisconnected]


@pytest.mark.anyio
@each_way
async def test_a_body_above_the_limit(adapt: Adapt, way: Way) -> None:
    """The answer is 413, though the app makes another one of it."""
    adapter = adapt(Reader(way), collect=KIB, max_body=MIB, stream_chunked=True)
    upload = await serve(adapter, *post(b"x" * MIB, b"y", length=None, path="/upload"))

    assert upload.status == 413


@pytest.mark.anyio
@each_way
async def test_a_body_that_is_asked_for(adapt: Adapt, way: Way) -> None:
    """With Expect: 100-continue the client sends when somebody wants to read."""
    app = Reader(way)
    headers = [(b"expect", b"100-continue")]
    async with opened(adapt(app), post(length=len(BODY), path="/upload", headers=headers)[0], []) as upload:
        await upload.asked()
        upload.feed(piece_event(BODY, more=False))

    assert app.seen == [BODY]


@pytest.mark.anyio
@each_way
@pytest.mark.parametrize("mounted", [True, False], ids=["Mounts", "AsgiToWsgi"])
async def test_further_in(way: Way, mounted: bool) -> None:
    """Also where another adapter is around the app."""
    app = Reader(way)
    inner = WsgiToAsgi(app, collect=0, shutdown_timeout=2.0)
    site: Any = Mounts({"/": app}) if mounted else WsgiToAsgi(AsgiToWsgi(inner, lifespan="off"), collect=0)
    server = site.asgi if mounted else site
    async with opened(server, *post(BODY[:HALF], length=len(BODY), ends=False, path="/upload")) as upload:
        if mounted:
            await app.entered.waited()
        await upload.asked()
        upload.feed(piece_event(BODY[HALF:], more=False))
    await anyio.to_thread.run_sync(site.close)
    await anyio.to_thread.run_sync(inner.close)

    assert app.seen == [BODY]


@pytest.mark.anyio
async def test_a_flask_view(adapt: Adapt) -> None:
    """An `async def` view that reads an upload of some MiB, and one that streams what it has read."""
    import flask

    app = flask.Flask(__name__)

    @app.post("/upload")
    async def upload() -> str:
        await anyio.sleep(0)
        return str(len(flask.request.files["f"].read()))

    @app.post("/echo")
    async def echo() -> flask.Response:
        def parts() -> Any:
            while data := flask.request.stream.read(64 * KIB):
                yield data

        return flask.Response(flask.stream_with_context(parts()))

    content = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + BODY + b"\r\n--b--\r\n"
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    pieces = [content[at : at + 64 * KIB] for at in range(0, len(content), 64 * KIB)]
    adapter = adapt(app)
    sent = await serve(adapter, *post(*pieces, path="/upload", headers=headers))
    echoed = await serve(adapter, *post(*pieces, path="/echo"))

    assert (sent.status, sent.body) == (200, b"%d" % len(BODY))
    assert echoed.body == content


@pytest.mark.anyio
async def test_a_loop_of_the_apps_own(adapt: Adapt) -> None:
    """`asyncio.run` in a sync app is its own affair: that loop is in the thread of the request, and may wait there."""

    def in_a_new_loop(read: Callable[[], Any]) -> Any:
        async def code() -> Any:
            await asyncio.sleep(0)
            return read()

        return asyncio.run(code())

    reader = Reader(in_a_new_loop)
    await serve(adapt(reader), *post(BODY[:HALF], BODY[HALF:], path="/upload"))

    assert [BODY] == reader.seen
