"""The option `background` of `AsgiToWsgi`: whether the end of a response waits for the work after it."""

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from asgiref.sync import sync_to_async

from bridge import AsgiToWsgi, WsgiToAsgi
from support.patience import PATIENCE

TASK = 0.1  # seconds that work takes, so that who does not wait for it is seen; nothing else depends on it


class App:
    """Answers, and then works: `work` is what it does after its response."""

    def __init__(
        self, work: Callable[[], Any] | None = None, *, pieces: int = 1, pause: float = 0, status: int = 200
    ) -> None:
        self.done: list[str] = []
        self._work = work or self._sleep
        self._pieces = pieces
        self._pause = pause
        self._status = status

    async def _sleep(self) -> None:
        await asyncio.sleep(TASK)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        for number in range(self._pieces):
            more = number + 1 < self._pieces
            await send({"type": "http.response.body", "body": b"x" if self._status == 200 else b"", "more_body": more})
            if more:
                await asyncio.sleep(self._pause)
        await self._work()
        self.done.append("done")


def environ(method: str = "GET") -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "x",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": False, "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }  # fmt: skip


def ask(app: Callable[..., Iterable[bytes]], method: str = "GET", *, close: bool = False) -> bytes:
    """As a host without a socket asks: all of them take the body to its end, and few call `close`."""
    chunks = app(environ(method), lambda status, headers, exc_info=None: None)
    try:
        return b"".join(chunks)
    finally:
        if close and hasattr(chunks, "close"):
            chunks.close()


@pytest.fixture(name="adapted")
def adapted_fixture() -> Iterator[Callable[..., AsgiToWsgi]]:
    made: list[AsgiToWsgi] = []

    def adapt(app: Any, **options: Any) -> AsgiToWsgi:
        made.append(AsgiToWsgi(app, lifespan="off", **options))
        return made[-1]

    yield adapt
    for adapter in made:
        adapter.close()


class TestBefore:
    @pytest.mark.parametrize("close", [False, True])
    @pytest.mark.parametrize(
        ("app", "method", "body"),
        [
            pytest.param(lambda: App(), "GET", b"x", id="short"),
            pytest.param(lambda: App(pieces=3), "GET", b"xxx", id="streamed"),
            pytest.param(lambda: App(), "HEAD", b"", id="HEAD"),
            pytest.param(lambda: App(pieces=2, pause=TASK), "HEAD", b"", id="HEAD of a stream"),
            pytest.param(lambda: App(status=204), "GET", b"", id="204"),
        ],
    )
    def test_it_is_done_when_the_body_has_ended(
        self, app: Callable[[], App], method: str, body: bytes, close: bool, adapted: Callable[..., AsgiToWsgi]
    ) -> None:
        """At the end of the iteration already, since most such hosts never call `close`."""
        asked = app()

        assert body == ask(adapted(asked, background="before"), method, close=close)
        assert ["done"] == asked.done

    def test_it_is_done_before_the_server_gets_a_file(self, tmp_path: Path, adapted: Callable[..., AsgiToWsgi]) -> None:
        """The server sends it by itself: nothing tells when it has."""
        file = tmp_path / "file"
        file.write_bytes(b"content")
        done, threads = [], []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.pathsend", "path": str(file)})
            await asyncio.sleep(TASK)
            threads.append(await sync_to_async(threading.current_thread)())
            done.append("done")

        sends_files = environ() | {"wsgi.file_wrapper": FileWrapper}
        with closing(adapted(app, background="before", pathsend=True)(sends_files, lambda *_: None)) as chunks:
            assert ["done"] == done
            assert b"content" == b"".join(chunks)
        assert [threading.current_thread()] == threads

    def test_work_in_the_thread_of_the_request(self, adapted: Callable[..., AsgiToWsgi]) -> None:
        """Thread-sensitive code after the response runs in the thread that waits for it (Django's ORM)."""
        threads = []

        async def work() -> None:
            await sync_to_async(lambda: threads.append(threading.current_thread()))()

        app = App(work)
        ask(adapted(app, background="before"))

        assert ([threading.current_thread()], ["done"]) == (threads, app.done)

    def test_work_that_fails(self, adapted: Callable[..., AsgiToWsgi], caplog: pytest.LogCaptureFixture) -> None:
        """It is logged, and the response is as it was."""

        async def work() -> None:
            raise LookupError("no mail today")

        assert b"x" == ask(adapted(App(work), background="before"))
        assert "no mail today" in caplog.text

    def test_work_without_end(self, adapted: Callable[..., AsgiToWsgi], caplog: pytest.LogCaptureFixture) -> None:
        """After `shutdown_timeout` the response ends all the same, and one line says so; the work goes on."""
        begun, ended = threading.Event(), threading.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        adapter = adapted(App(work), background="before", shutdown_timeout=0.2)
        with caplog.at_level(logging.WARNING, logger="bridge"):
            assert b"x" == ask(adapter)

        assert (True, False) == (begun.is_set(), ended.is_set())
        assert 1 == sum("is not done" in record.getMessage() for record in caplog.records), caplog.text
        adapter.close()
        assert ended.wait(PATIENCE)

    def test_behind_the_other_adapter(self, adapted: Callable[..., AsgiToWsgi]) -> None:
        """On the loop of an ASGI host, with WSGI code between the two."""
        app = App()
        inner = adapted(app, background="before")

        def between(environ: Any, start_response: Any) -> Iterable[bytes]:
            return inner(environ, start_response)

        async def main() -> list[Any]:
            sent: list[Any] = []

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(event: Any) -> None:
                sent.append(event)

            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "", "headers": [],
            }  # fmt: skip
            async with asyncio.timeout(PATIENCE):
                await outer(scope, receive, send)
            return sent

        with WsgiToAsgi(between) as outer:
            sent = asyncio.run(main())

        assert b"x" == b"".join(event.get("body", b"") for event in sent)
        assert ["done"] == app.done


class TestAfter:
    @pytest.mark.parametrize("options", [{}, {"background": "after"}])
    def test_the_response_does_not_wait(self, options: dict[str, Any], adapted: Callable[..., AsgiToWsgi]) -> None:
        """The default: the work goes on, on the loop."""
        go, done = threading.Event(), threading.Event()

        async def work() -> None:
            while not go.is_set():
                await asyncio.sleep(0.005)
            done.set()

        app = App(work)
        assert b"x" == ask(adapted(app, **options))
        assert [] == app.done
        go.set()
        assert done.wait(PATIENCE)


class TestOption:
    @pytest.mark.parametrize("value", ["BEFORE", "", None, True])
    def test_a_wrong_value(self, value: Any) -> None:
        """It is an error at once, that names what there is."""
        with pytest.raises((TypeError, ValueError), match="background"):
            AsgiToWsgi(App(), background=value)
