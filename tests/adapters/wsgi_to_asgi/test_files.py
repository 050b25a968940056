"""Bodies in temporary files: written off the loop, and gone after the request, however that ends."""

import errno
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.scripted_asgi_server import Adapt, Environ, get, opened, piece_event, post, serve
from support.sizes import KIB
from support.stages import Calling
from support.waiting import Flag, eventually
from support.wsgi_apps import Gate, hello, reader


class Files:
    """The temporary files that were made, and a place to hold those who make them."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.made: list[Any] = []
        self.makers: list[str] = []
        self.writing = Flag()
        self.go = Flag()
        self.go.set()

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.makers.append(threading.current_thread().name)
        self.writing.set()
        self.go.wait()
        self.made.append(self.make(*args, **options))
        return self.made[-1]

    @property
    def closed(self) -> list[bool]:
        return [file.closed for file in self.made]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """Watch the temporary files of the adapter."""
    files = Files(tempfile.TemporaryFile)
    monkeypatch.setattr(tempfile, "TemporaryFile", files)
    return files


@pytest.mark.anyio
async def test_a_large_chunked_body_goes_to_a_file(adapt: Adapt, files: Files) -> None:
    """Above `collect` bytes it is written in worker threads, off the loop, and the file is gone after the request."""
    seen: list[Any] = []
    pieces = [bytes([at]) * 100 * KIB for at in range(10)]
    await serve(adapt(reader(seen), collect=200 * KIB), *post(*pieces, length=None))

    assert seen[0] == b"".join(pieces)
    assert seen[1]["CONTENT_LENGTH"] == str(1000 * KIB)
    assert [name[:7] for name in files.makers] == ["bridge-"]
    assert files.closed == [True]


@pytest.mark.anyio
async def test_a_small_chunked_body_needs_no_file(adapt: Adapt, files: Files) -> None:
    """Up to `collect` bytes it stays in memory."""
    await serve(adapt(hello, collect=6), *post(b"abc", b"def", length=None))

    assert files.made == []


@pytest.mark.anyio
async def test_the_file_of_a_client_that_leaves(adapt: Adapt, files: Files) -> None:
    """It is gone soon after the client, though no thread had a part in the request."""
    app = Gate()
    async with opened(adapt(app, collect=2), *post(b"abc", b"def", length=None, ends=False)) as request:
        await request.asked()
        request.leave()
        await request.ended()
        await eventually(lambda: files.closed == [True])

    assert app.paths == []


@pytest.mark.anyio
@pytest.mark.parametrize("threads", [1, 2])
async def test_the_file_of_a_request_that_is_cancelled_while_it_is_written(
    adapt: Adapt, files: Files, threads: int
) -> None:
    """The writer finishes, and then the file is removed."""
    files.go = Flag()
    adapter = adapt(hello, collect=2, threads=threads)
    async with opened(adapter, *post(b"abc", b"def", length=None, ends=False)) as request:
        await files.writing.waited()
        request.cancel()
        await request.ended()
        assert request.cancelled
        files.go.set()
        await eventually(lambda: files.closed == [True])
        assert (await serve(adapter, *get())).body == b"served"


@pytest.mark.anyio
async def test_the_file_of_a_request_that_is_cancelled_while_it_is_collected(adapt: Adapt, files: Files) -> None:
    """It is removed."""
    async with opened(adapt(hello, collect=2), *post(b"abc", b"def", length=None, ends=False)) as request:
        await request.asked()
        request.cancel()
        await request.ended()
        await eventually(lambda: files.closed == [True])


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_the_file_of_a_request_that_ends_while_the_app_runs(adapt: Adapt, files: Files, ends: str) -> None:
    """The app can still read it; it is removed when the app is done."""
    app = Gate()
    adapter = adapt(app, collect=2)
    async with opened(adapter, *post(b"abc", b"def", length=None, path="/held")) as request:
        await app.entered.waited()
        getattr(request, ends)()
        await request.ended()
        assert files.closed == [False]
        app.go.set()
        await eventually(lambda: files.closed == [True])


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_the_file_of_a_request_that_ends_before_the_app_is_iterated(
    adapt: Adapt, files: Files, ends: str
) -> None:
    """The same where the app has yet to be asked for its first chunk."""
    stage = Calling()
    adapter = adapt(stage, collect=2)
    async with opened(adapter, *post(b"abc", b"def", length=None, path="/held")) as request:
        await stage.entered.waited()
        getattr(request, ends)()
        await request.ended()
        stage.go.set()
        await eventually(lambda: files.closed == [True])
        await stage.chunks.closed.waited()


@pytest.mark.anyio
async def test_the_file_of_a_request_that_is_queued_and_cancelled(adapt: Adapt, files: Files) -> None:
    """It is removed though the app is never run."""
    app = Gate()
    adapter = adapt(app, threads=1, collect=2)
    async with opened(adapter, *post(b"abc", b"def", length=None, path="/queued", ends=False)) as upload:
        await upload.asked()
        async with opened(adapter, *get("/held")) as first:
            await app.entered.waited()
            upload.feed(piece_event(b"", more=False))
            await eventually(lambda: adapter.stats().waiting == 1)
            upload.cancel()
            await upload.ended()
            app.go.set()
            await first.ended()
        await eventually(lambda: files.closed == [True])

    assert app.paths == ["/held"]


@pytest.mark.anyio
@pytest.mark.parametrize("size", [3, 100 * KIB])
async def test_a_disk_that_is_full(adapt: Adapt, files: Files, size: int) -> None:
    """The server gets the error, the app is not run, and nothing is left over."""
    files.make = lambda *_args, **options: open("/dev/full", "w+b", **options)  # noqa: SIM115
    app = Gate()
    adapter = adapt(app, collect=2)
    request = await serve(adapter, *post(b"x" * size, b"y" * size, length=None), fails=True)

    assert isinstance(request.error, OSError)
    assert request.error.errno == errno.ENOSPC
    assert request.sent == []
    assert app.paths == []
    await eventually(lambda: files.closed == [True])
    assert (await serve(adapter, *get())).body == b"served"
    assert (adapter.stats().aborted, adapter.stats().client_disconnects) == (1, 0)


@pytest.mark.anyio
async def test_a_disk_without_room_for_a_file(adapt: Adapt, files: Files) -> None:
    """The same where not even the file can be made."""

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    files.make = refuse
    app = Gate()
    adapter = adapt(app, collect=2)
    request = await serve(adapter, *post(b"abc", b"def", length=None), fails=True)

    assert isinstance(request.error, OSError)
    assert app.paths == []
    assert (await serve(adapter, *get())).body == b"served"


@pytest.mark.anyio
async def test_the_file_is_open_while_the_response_is_streamed(adapt: Adapt, files: Files) -> None:
    """An app may read the body in the generator that it returns, and in `close()`."""
    read: list[bytes] = []

    class Reading:
        def __init__(self, body: Any) -> None:
            self.body = body

        def __iter__(self) -> Iterator[bytes]:
            yield self.body.read(2)
            yield self.body.read(2)

        def close(self) -> None:
            read.append(self.body.read())

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Reading(environ["wsgi.input"])

    request = await serve(adapt(app, collect=2), *post(b"abc", b"def", length=None))

    assert (request.body, read) == (b"abcd", [b"ef"])
    assert files.closed == [True]


@pytest.mark.anyio
@pytest.mark.parametrize("collect", [4, 100], ids=["in a file", "in memory"])
async def test_a_chunked_body_that_turns_out_too_large(adapt: Adapt, files: Files, collect: int) -> None:
    """413 as soon as it is known; the app is not run, what was received is gone."""
    app = Gate()
    adapter = adapt(app, max_body=10, collect=collect)
    request = await serve(adapter, *post(b"1234567", b"8901", length=None, ends=False))

    assert (request.status, request.complete) == (413, True)
    assert app.paths == []
    await eventually(lambda: all(files.closed))
