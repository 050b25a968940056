"""The extensions for files and early hints, where the server has what they need."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.asgi_apps import chunk, reply, start
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import Flag, LogWatch

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


class Wrapper:
    """A `wsgi.file_wrapper`."""

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        self.file = file
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.block_size), b"")

    def close(self) -> None:
        self.file.close()


@pytest.fixture(name="file")
def file_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content of the file" * 10000)
    return path


def sends_path(file: Path, *, pauses: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, [(b"content-length", b"%d" % file.stat().st_size)])
        if pauses:
            await asyncio.sleep(0.001)
        await send({"type": "http.response.pathsend", "path": str(file)})

    return app


class TestPathSend:
    """`http.response.pathsend` through `wsgi.file_wrapper` (PEP 3333, "Optional ... File Handling")."""

    def test_the_wrapper_of_the_server_is_returned_itself(self, file: Path) -> None:
        """Servers look for its type, and send the file by themselves."""
        with adapted(sends_path(file), pathsend=True) as adapter:
            served = ask(adapter, environ_for("GET", "/", wsgi__file_wrapper=Wrapper))

            assert Wrapper is type(served.result)
            assert file.read_bytes() == served.body
            assert served.result.file.closed
            assert 1 == adapter.stats().served

    def test_after_the_head_has_left_the_bytes_of_the_file_are_sent(self, file: Path) -> None:
        """A middleware between the app and us may pause after the start."""
        with adapted(sends_path(file, pauses=True), pathsend=True) as adapter:
            assert file.read_bytes() == ask(adapter, environ_for("GET", "/", wsgi__file_wrapper=Wrapper)).body

    @pytest.mark.parametrize("pauses", [False, True])
    def test_a_head_request_gets_no_file(self, file: Path, pauses: bool) -> None:
        with adapted(sends_path(file, pauses=pauses), pathsend=True) as adapter:
            served = ask(adapter, environ_for("HEAD", "/", wsgi__file_wrapper=Wrapper))

        assert b"" == served.body
        assert ["190000"] == served.header("content-length")

    @pytest.mark.parametrize("pauses", [False, True])
    def test_the_file_is_open_when_send_has_returned(self, file: Path, pauses: bool) -> None:
        """So that the app may remove it then, as a background task of a framework does."""
        content = file.read_bytes()
        go = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            if pauses:
                await go.waited()
            await send({"type": "http.response.pathsend", "path": str(file)})
            file.unlink()

        environ = environ_for("GET", "/", wsgi__file_wrapper=Wrapper)
        with adapted(app, pathsend=True) as adapter, Served(adapter, environ) as served:
            served.call()
            go.set()
            assert content == served.rest()
            served.close()

    def test_an_app_hears_of_a_file_that_has_vanished(self, tmp_path: Path) -> None:
        """And can still answer something else."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            with pytest.raises(FileNotFoundError, match="missing"):
                await send({"type": "http.response.pathsend", "path": str(tmp_path / "missing")})
            await chunk(send, b"it has gone", more=False)

        with adapted(app, pathsend=True) as adapter:
            assert b"it has gone" == ask(adapter, environ_for("GET", "/", wsgi__file_wrapper=Wrapper)).body

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_what_is_no_regular_file_is_refused_without_a_wait(self, tmp_path: Path, make: Callable[..., None]) -> None:
        """To open a pipe waits for its writer, and this is on the loop."""
        path = str(tmp_path / "odd")
        make(path)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            with pytest.raises(OSError, match="not a regular file"):
                await send({"type": "http.response.pathsend", "path": path})
            await chunk(send, b"refused", more=False)

        with adapted(app, pathsend=True) as adapter:
            assert b"refused" == ask(adapter, environ_for("GET", "/", wsgi__file_wrapper=Wrapper)).body

    def test_a_file_that_nobody_takes_is_closed(self, file: Path) -> None:
        """The client leaves while the app is about to send it; the fixtures look for what is left open."""
        begun, left, sent = Flag(), Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await begun.waited()
            await left.waited()
            try:
                with pytest.raises(OSError, match="left"):
                    await send({"type": "http.response.pathsend", "path": str(file)})
            finally:
                sent.set()

        environ = environ_for("GET", "/", wsgi__file_wrapper=Wrapper)
        with adapted(app, pathsend=True) as adapter, Served(adapter, environ) as served:
            served.on_start = begun.set
            served.call()
            served.close()
            left.set()
            sent.wait()

    def test_a_file_that_was_sent_and_is_not_taken_is_closed(self, file: Path) -> None:
        """The client leaves when it is there."""
        begun, sent = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await begun.waited()
            await send({"type": "http.response.pathsend", "path": str(file)})
            sent.set()

        environ = environ_for("GET", "/", wsgi__file_wrapper=Wrapper)
        with adapted(app, pathsend=True) as adapter, Served(adapter, environ) as served:
            served.on_start = begun.set
            served.call()
            sent.wait()
            served.close()

    def test_it_is_offered_only_where_the_project_asks_for_it(self) -> None:
        """Compressing middleware that does not know it loses the response, or passes it by."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, repr(sorted(scope["extensions"])).encode())

        with adapted(app) as adapter:
            assert b"[]" == ask(adapter, environ_for("GET", "/", wsgi__file_wrapper=Wrapper)).body

    def test_a_file_that_is_not_there_is_an_error_before_the_head(self, tmp_path: Path, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "missing")})

        environ = environ_for("GET", "/", wsgi__file_wrapper=Wrapper)
        with adapted(app, pathsend=True) as adapter, Served(adapter, environ) as served:
            with pytest.raises(FileNotFoundError):
                served.call()
            assert not served.started.is_set()

        assert log.having("ERROR", "missing")

    def test_a_server_that_fails_at_the_head_leaves_no_open_file(self, file: Path) -> None:
        def fail() -> None:
            raise AssertionError("no")

        environ = environ_for("GET", "/", wsgi__file_wrapper=Wrapper)
        with adapted(sends_path(file), pathsend=True) as adapter, Served(adapter, environ) as served:
            served.on_start = fail
            with pytest.raises(AssertionError, match="no"):
                served.call()

    def test_it_is_not_offered_where_the_server_has_no_wrapper(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, repr(sorted(scope["extensions"])).encode())

        with adapted(app, pathsend=True) as adapter:
            assert b"[]" == ask(adapter).body


class TestEarlyHint:
    """`http.response.early_hint` through `wsgi.early_hints`, which Gunicorn has."""

    def test_links_are_sent_before_the_response(self) -> None:
        events: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert {} == scope["extensions"]["http.response.early_hint"]
            await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]})
            await reply(send, b"ok")

        environ = environ_for("GET", "/", wsgi__early_hints=events.append)
        with adapted(app) as adapter, Served(adapter, environ) as served:
            served.on_start = lambda: events.append("head")
            served.run()

        assert [[("Link", "</a>; rel=preload"), ("Link", "</b>")], "head"] == events

    def test_they_are_sent_while_the_app_works(self) -> None:
        hinted = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            await hinted.waited()
            await reply(send, b"ok")

        with adapted(app) as adapter:
            assert b"ok" == ask(adapter, environ_for("GET", "/", wsgi__early_hints=lambda _: hinted.set())).body

    @pytest.mark.parametrize("pauses", [False, True])
    def test_after_the_start_they_do_not_get_into_the_body(self, pauses: bool) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            if pauses:
                await asyncio.sleep(0.001)
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            await chunk(send, b"ok", more=False)

        with adapted(app) as adapter:
            assert b"ok" == ask(adapter, environ_for("GET", "/", wsgi__early_hints=lambda _: None)).body
