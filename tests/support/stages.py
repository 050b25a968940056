"""Places where a request to `WsgiToAsgi` is held, each with the app that gets it there."""

import threading
from collections.abc import Iterator
from typing import Any

from support.scripted_asgi_server import Environ, Event, Request, Scope, get, piece_event, post
from support.sizes import BOUND, MIB
from support.waiting import Flag, eventually
from support.wsgi_apps import Chunks, endless, reply


class Stage:
    """A place where one request is held, and the WSGI app that gets it there; it serves every other request.

    At the place it has the app's own code wait for `go`, or waits in a call of the adapter that ends by itself.
    """

    needs_go = True
    served = False  # whether the response is whole there

    def __init__(self) -> None:
        self.entered = Flag()
        self.go = Flag()
        self.chunks = Chunks(endless())
        self.ran: list[int] = []
        self.returned = False
        self.raised: BaseException | None = None

    def __call__(self, environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/held":
            return reply(start_response)
        self.ran.append(threading.get_ident())
        try:
            iterable = self.app(environ, start_response)
        except BaseException as error:
            self.raised = error
            raise
        self.returned = True
        return iterable

    def request(self) -> tuple[Scope, list[Event]]:
        return get("/held")

    async def slow(self, request: Request, event: Event) -> None:
        """What the client does about each event that is sent to it."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return self.chunks

    def in_own_code(self) -> None:
        self.entered.set()
        self.go.wait()

    async def reached(self, request: Request) -> None:
        await self.entered.waited()


class Collecting(Stage):
    """The adapter waits for the rest of a body that is collected."""

    needs_go = False

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"half", length=8, ends=False, path="/held")

    async def reached(self, request: Request) -> None:
        await request.asked()


class CollectingChunked(Collecting):
    """The adapter waits for the rest of a body without Content-Length."""

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"half", length=None, ends=False, path="/held")


class Calling(Stage):
    """The app has been called and has not returned."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        self.in_own_code()
        return self.chunks


class Reading(Stage):
    """The app reads a body of which more has to come."""

    needs_go = False

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"half", length=2 * MIB, ends=False, path="/held")

    def app(self, environ: Environ, start_response: Any) -> Any:
        self.entered.set()
        environ["wsgi.input"].read()
        return super().app(environ, start_response)

    async def reached(self, request: Request) -> None:
        request.feed(piece_event(b"x" * MIB, more=True))
        await self.entered.waited()
        await request.asked()


class ReadingFirst(Reading):
    """The app reads a body of which no byte has come."""

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"", length=2 * MIB, ends=False, path="/held")


class Starting(Stage):
    """The client does not take the headers."""

    needs_go = False

    async def slow(self, request: Request, event: Event) -> None:
        await request.gate.wait()

    async def reached(self, request: Request) -> None:
        await request.until(lambda _: request.sending)


class Blocked(Stage):
    """The client does not take the body, so that the app's thread waits."""

    needs_go = False

    async def slow(self, request: Request, event: Event) -> None:
        if event["type"] == "http.response.body":
            await request.gate.wait()

    async def reached(self, request: Request) -> None:
        await request.until(lambda _: request.sending and request.sending["type"] == "http.response.body")
        await eventually(lambda: self.chunks.taken > BOUND * 3 // 4)


class Writing(Blocked):
    """The client does not take what the app writes with `write()`."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        for chunk in self.chunks:
            write(chunk)


class Streaming(Stage):
    """The app has yielded a chunk, and takes its time for the next one."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        def pausing() -> Iterator[bytes]:
            yield b"first"
            self.in_own_code()
            yield from endless()

        start_response("200 OK", [])
        self.chunks = Chunks(pausing())
        return self.chunks


class Polling(Stage):
    """The app has yielded a chunk, and looks again and again whether there is more."""

    needs_go = False

    def app(self, environ: Environ, start_response: Any) -> Any:
        def polling() -> Iterator[bytes]:
            yield b"first"
            self.entered.set()
            for _ in self.looks():
                yield b""

        start_response("200 OK", [])
        self.chunks = Chunks(polling())
        return self.chunks

    def looks(self) -> Iterator[None]:
        """Once a millisecond, for longer than any test lasts."""
        pause = threading.Event()
        for _ in range(10**5):
            pause.wait(0.001)
            yield


class PollingFirst(Polling):
    """As that, before it has anything to send."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        def polling() -> Iterator[bytes]:
            self.entered.set()
            for _ in self.looks():
                yield b""

        start_response("200 OK", [])
        self.chunks = Chunks(polling())
        return self.chunks


class PollingByWrite(Polling):
    """As that, with `write()`."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        self.entered.set()
        for _ in self.looks():
            write(b"")


class StreamingAtOnce(Stage):
    """Chunks go to the client as fast as it takes them."""

    needs_go = False

    async def reached(self, request: Request) -> None:
        await request.until(lambda _: len(request.body) > 3 * BOUND)


class Closing(Stage):
    """The response is whole, and the app's `close()` takes its time."""

    served = True

    def app(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        self.chunks = Chunks([b"all"])
        close = self.chunks.close

        def slow_close() -> None:
            self.in_own_code()
            close()

        self.chunks.close = slow_close  # type: ignore[method-assign]
        return self.chunks

    async def reached(self, request: Request) -> None:
        await super().reached(request)
        await request.until(lambda _: request.complete)
