"""What docs/migrating.md says of adapters for ASGI apps, as `moving_wsgi` does of the others."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async

from bridge import AsgiToWsgi
from support.moving_wsgi import IN_VAIN, Make, Probe
from support.patience import PATIENCE
from support.plain_servers import environ_for


@contextmanager
def a_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A running loop for a2wsgi, which never ends the one that it makes itself."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        # What a2wsgi has cancelled, or left waiting, ends here.
        async def end() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def made_wsgi(make: Make, app: Any) -> Iterator[Any]:
    if make is AsgiToWsgi:
        with AsgiToWsgi(app, disconnect_grace=1) as adapter:
            yield adapter
        return
    with a_loop() as loop:
        yield make(app, loop=loop)


async def reply(send: Any, body: bytes = b"x") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def call(make: Make, app: Any, environ: Any = None, see: Callable[[Any], Any] = lambda body: b"".join(body)) -> Any:
    """The body of a response, or what `see` sees in what the adapter returns."""
    with made_wsgi(make, app) as adapter:
        return see(adapter(environ or environ_for("GET", "/"), lambda *_: lambda chunk: None))


def runs_lifespan(make: Make) -> bool:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        assert scope["type"] == "http"
        await reply(send)

    call(make, app)
    return "lifespan" in seen


def waits_for_work(make: Make) -> bool:
    """Whether the response has not ended while the app is still at work."""
    release: list[Callable[[], object]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        release.append(lambda: loop.call_soon_threadsafe(event.set))
        await reply(send)
        await event.wait()

    def see(body: Any) -> bool:
        ended = threading.Event()

        def read() -> None:
            b"".join(body)
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
        in_time = ended.wait(IN_VAIN)
        release[0]()
        reader.join(PATIENCE)
        return not in_time

    return bool(call(make, app, see=see))


def starts_a_thread(make: Make) -> bool:
    before = set(threading.enumerate())
    adapter = make(lambda scope, receive, send: None)
    new = set(threading.enumerate()) - before
    if new:
        adapter.loop.call_soon_threadsafe(adapter.loop.stop)
        for thread in new:
            thread.join(PATIENCE)
        adapter.loop.close()
    return bool(new)


def app_raises(make: Make) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    try:
        return call(make, app)
    except LookupError:
        return LookupError


def closed_early(make: Make) -> Any:
    """What the app is told when the server closes its response after the first chunk."""
    told: list[str] = []
    over = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        told.append((await receive())["type"])
        over.set()

    def see(body: Any) -> Any:
        assert next(iter(body)) == b"x"
        body.close()
        over.wait(IN_VAIN)
        return told[0] if told else None

    return call(make, app, see=see)


def of_body(environ: dict[str, Any]) -> Probe:
    """The events that the app receives of a request body, the first two."""

    def probe(make: Make) -> Any:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            for _ in range(2):
                event = await receive()
                seen.append(event.get("body", event["type"]))
                if not event.get("more_body"):
                    break
            await reply(send)

        call(make, app, dict(environ))
        return seen

    return probe


def list_of_one(make: Make) -> bool:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await reply(send)

    def see(body: Any) -> bool:
        is_list = type(body) is list
        b"".join(body)
        return is_list

    return bool(call(make, app, see=see))


def own_thread(make: Make) -> bool:
    """Whether thread-sensitive code runs in the server's thread."""
    seen: list[threading.Thread] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await sync_to_async(lambda: seen.append(threading.current_thread()))()
        await reply(send)

    call(make, app)
    return seen == [threading.current_thread()]
