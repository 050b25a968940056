"""`wsgi.file_wrapper`: what the app wraps reaches the client, sent by the server itself where that is the same."""

import bz2
import functools
import gzip
import io
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from bridge import WsgiToAsgi
from bridge._wsgi_to_asgi.file_wrapper import FileWrapper
from support.scripted_asgi_server import Adapt, Environ, Event, Request, get, opened
from support.waiting import HOLD, Flag, eventually

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(name="adapt")
def adapt_fixture(adapt: Adapt) -> Adapt:
    """Makes adapters that leave files to the server."""
    return functools.partial(adapt, pathsend=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file to send."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def sending(make: Callable[[], Any], *headers: tuple[str, str], status: str = "200 OK") -> Any:
    """An app that answers with a wrapped file-like object."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response(status, [*headers])
        return environ["wsgi.file_wrapper"](make())

    return app


async def fetch(adapter: WsgiToAsgi, *, offered: bool = True, method: str = "GET", fails: bool = False) -> Request:
    """One request to a server that offers `http.response.pathsend`, or not; each file is read when it is sent."""
    scope, events = get(extensions={"http.response.pathsend": {}} if offered else {})
    scope["method"] = method

    async def read(event: Event) -> None:
        if event["type"] == "http.response.pathsend":
            with open(event["path"], "rb") as file:
                event["body"] = file.read(2**20)

    async with opened(adapter, scope, events, read, fails=fails) as request:
        pass
    return request


def by_path(request: Request) -> list[str]:
    """The paths of the files that the server was asked to send."""
    return [event["path"] for event in request.sent if event["type"] == "http.response.pathsend"]


@pytest.mark.anyio
async def test_a_whole_file_is_sent_by_its_path(adapt: Adapt, path: Path) -> None:
    """One event after the start, with a length, and an absolute path (ASGI Extensions, "Path Send")."""
    request = await fetch(adapt(sending(lambda: path.open("rb"))))

    assert [event["type"] for event in request.sent] == ["http.response.start", "http.response.pathsend"]
    assert by_path(request) == [str(path)]
    assert request.header(b"content-length") == [b"%d" % len(CONTENT)]
    assert request.body == CONTENT


@pytest.mark.anyio
async def test_a_whole_file_is_read_unless_the_project_has_asked_for_it(adapt: Adapt, path: Path) -> None:
    """Middleware between the adapter and the server may not know the event, and would lose the response."""
    request = await fetch(adapt(sending(lambda: path.open("rb")), pathsend=False))

    assert by_path(request) == []
    assert request.body == CONTENT


@pytest.mark.anyio
async def test_a_whole_file_is_read_where_the_server_does_not_offer_it(adapt: Adapt, path: Path) -> None:
    """In blocks, in the app's thread."""
    request = await fetch(adapt(sending(lambda: path.open("rb"))), offered=False)

    assert by_path(request) == []
    assert request.body == CONTENT


@pytest.mark.anyio
@pytest.mark.parametrize("offered", [True, False])
async def test_the_file_is_closed(adapt: Adapt, path: Path, offered: bool) -> None:
    """`close()` of the wrapper is that of the file (PEP 3333, "Optional Platform-Specific File Handling")."""
    files: list[Any] = []

    def make() -> Any:
        files.append(path.open("rb"))
        return files[-1]

    await fetch(adapt(sending(make)), offered=offered)

    assert [file.closed for file in files] == [True]


@pytest.mark.anyio
async def test_the_file_is_closed_when_the_server_has_it(adapt: Adapt, path: Path) -> None:
    """Not while it is being sent: an app's `close()` may remove it."""
    files: list[Any] = []

    def make() -> Any:
        files.append(path.open("rb"))
        return files[-1]

    async def slow(event: Event) -> None:
        if event["type"] == "http.response.pathsend":
            with anyio.move_on_after(HOLD):
                await eventually(lambda: files[0].closed)
            assert not files[0].closed

    scope, events = get(extensions={"http.response.pathsend": {}})
    async with opened(adapt(sending(make)), scope, events, slow) as request:
        pass

    assert by_path(request) == [str(path)]
    assert files[0].closed


@pytest.mark.anyio
async def test_a_named_temporary_file(adapt: Adapt) -> None:
    """It reaches the client, though it is removed when it is closed."""

    def make() -> Any:
        file = tempfile.NamedTemporaryFile()  # noqa: SIM115  # the adapter closes it
        file.write(CONTENT)
        file.flush()
        file.seek(0)
        return file

    assert (await fetch(adapt(sending(make)))).body == CONTENT


def at(position: int, file: Any) -> Any:
    file.seek(position)
    return file


def removed(file: Any) -> Any:
    os.unlink(file.name)
    return file


def replaced(file: Any) -> Any:
    other = Path(file.name + ".other")
    other.write_bytes(b"another file")
    other.rename(file.name)
    return file


def with_name(content: bytes, name: Any) -> Any:
    file = io.BytesIO(content)
    file.name = name  # type: ignore[attr-defined]
    return file


class OnlyRead:
    """The least that may be wrapped: PEP 3333 wants `read`, and `close` if there is one."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


class Decoding(io.FileIO):
    """A file whose content is not what is on the disk."""

    def read(self, size: int | None = -1, /) -> bytes:
        return bytes(byte ^ 1 for byte in super().read(size) or b"")


class DecodingBuffer(io.BufferedReader):
    """The same with a buffer."""

    def read(self, size: int | None = -1, /) -> bytes:
        return bytes(byte ^ 1 for byte in super().read(size))


DECODED = bytes(byte ^ 1 for byte in CONTENT)


def gzipped(path: Path) -> Any:
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(CONTENT))
    return gzip.open(packed)


def bzipped(path: Path) -> Any:
    packed = path.with_suffix(".bz2")
    packed.write_bytes(bz2.compress(CONTENT))
    file = bz2.open(packed)  # noqa: SIM115
    if not hasattr(file, "name"):
        file.name = str(packed)  # type: ignore[attr-defined]  # which it has from Python 3.13 on, and not to be set
    return file


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: at(1000, path.open("rb")), CONTENT[1000:]),
        (lambda path: at(len(CONTENT), path.open("rb")), b""),
        (lambda path: removed(path.open("rb")), CONTENT),
        (lambda path: replaced(path.open("rb")), CONTENT),
        (lambda path: io.BytesIO(CONTENT), CONTENT),
        (lambda path: with_name(CONTENT, str(path)), CONTENT),
        (lambda path: with_name(b"other", str(path)), b"other"),
        (lambda path: with_name(CONTENT, 5), CONTENT),
        (lambda path: OnlyRead(CONTENT), CONTENT),
        (lambda path: open(os.open(path, os.O_RDONLY), "rb"), CONTENT),  # noqa: SIM115
        (lambda path: open(os.fsencode(path), "rb"), CONTENT),  # noqa: SIM115
        (Decoding, DECODED),
        (lambda path: io.BufferedReader(Decoding(path)), CONTENT),
        (lambda path: DecodingBuffer(io.FileIO(path)), DECODED),
        (gzipped, CONTENT),
        (bzipped, CONTENT),
    ],
    ids=[
        "offset",
        "at the end",
        "removed",
        "replaced",
        "in memory",
        "in memory with a name",
        "in memory with the name of another",
        "named with a number",
        "read only",
        "by descriptor",
        "bytes path",
        "decoding",
        "decoding below a buffer",
        "decoding buffer",
        "gzip",
        "bz2",
    ],
)
@pytest.mark.parametrize("offered", [True, False])
async def test_what_is_not_the_whole_of_a_file(
    adapt: Adapt, path: Path, make: Callable[[Path], Any], expected: bytes, offered: bool
) -> None:
    """The client gets what reading it would give, and the server is never asked for another file."""
    request = await fetch(adapt(sending(lambda: make(path))), offered=offered)

    assert request.complete
    assert request.body == expected


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["/proc/self/status", "/dev/zero"])
async def test_what_is_no_file_on_a_disk(adapt: Adapt, name: str) -> None:
    """Files that the system makes up have no size by which they could be sent."""

    class First(io.FileIO):
        has_been_read = False

        def read(self, size: int = -1, /) -> bytes:
            """The first block only, for those without an end."""
            if self.has_been_read:
                return b""
            self.has_been_read = True
            return super().read(100)

    request = await fetch(adapt(sending(lambda: First(name))))

    assert by_path(request) == []
    assert request.body


@pytest.mark.anyio
async def test_a_pipe(adapt: Adapt) -> None:
    """It is read to its end."""

    def make() -> Any:
        reading, writing = os.pipe()
        with open(writing, "wb") as end:
            end.write(b"through a pipe")
        return open(reading, "rb")

    assert (await fetch(adapt(sending(make)))).body == b"through a pipe"


@pytest.mark.anyio
async def test_a_relative_path_is_made_absolute(adapt: Adapt, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be somewhere else (ASGI Extensions, "Path Send": an absolute path)."""
    monkeypatch.chdir(path.parent)
    request = await fetch(adapt(sending(lambda: open(path.name, "rb"))))  # noqa: SIM115  # the adapter closes it

    assert by_path(request) == [str(path)]


@pytest.mark.anyio
@pytest.mark.parametrize(("given", "sent"), [(len(CONTENT), CONTENT), (1000, CONTENT[:1000])])
async def test_the_apps_content_length_holds(adapt: Adapt, path: Path, given: int, sent: bytes) -> None:
    """A length of the app's own is kept, and nothing beyond it is sent."""
    request = await fetch(adapt(sending(lambda: path.open("rb"), ("Content-Length", str(given)))))

    assert request.header(b"content-length") == [b"%d" % given]
    assert request.body == sent


@pytest.mark.anyio
async def test_a_file_shorter_than_the_apps_content_length(adapt: Adapt, path: Path) -> None:
    """The response is aborted."""
    app = sending(lambda: path.open("rb"), ("Content-Length", str(len(CONTENT) + 1)))
    request = await fetch(adapt(app), fails=True)

    assert not request.complete


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
)
async def test_responses_without_a_body(adapt: Adapt, path: Path, method: str, status: str) -> None:
    """Neither the file nor any part of it is sent (RFC 9110 6.4.1)."""
    request = await fetch(adapt(sending(lambda: path.open("rb"), status=status)), method=method)

    assert by_path(request) == []
    assert (request.body, request.complete) == (b"", True)


@pytest.mark.anyio
async def test_an_empty_file(adapt: Adapt, path: Path) -> None:
    """It is an empty response."""
    path.write_bytes(b"")
    request = await fetch(adapt(sending(lambda: path.open("rb"))))

    assert (request.body, request.complete) == (b"", True)


@pytest.mark.anyio
async def test_a_wrapper_within_another_iterable(adapt: Adapt, path: Path) -> None:
    """Middleware that wraps the wrapper gets the blocks, and nothing is sent past it."""

    class Upper:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.close = inner.close

        def __iter__(self) -> Any:
            return (block.upper() for block in self.inner)

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Upper(environ["wsgi.file_wrapper"](path.open("rb")))

    request = await fetch(adapt(app))

    assert request.body == CONTENT.upper()


@pytest.mark.anyio
async def test_after_write_the_rest_is_read(adapt: Adapt, path: Path) -> None:
    """A response that has begun cannot be left to the server."""

    def app(environ: Environ, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"before ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    request = await fetch(adapt(app))

    assert by_path(request) == []
    assert request.body == b"before " + CONTENT


@pytest.mark.anyio
async def test_a_client_that_leaves_while_a_file_is_read(adapt: Adapt, path: Path) -> None:
    """The file is closed, in the app's thread."""
    closings: list[int] = []
    threads: list[int] = []

    class Endless:
        def read(self, size: int) -> bytes:
            threads.append(threading.get_ident())
            return b"x" * size

        def close(self) -> None:
            closings.append(threading.get_ident())
            closed.set()

    closed = Flag()
    async with opened(adapt(sending(Endless)), *get()) as request:
        await request.until(lambda: len(request.body) > 2**18)
        request.leave()
        await closed.waited()

    assert closings == [threads[0]]


def test_it_is_what_pep_3333_says() -> None:
    """An iterable over blocks of the size asked for or more, with `close` exactly where the object has it."""
    wrapper = FileWrapper(io.BytesIO(CONTENT), 8192)

    assert b"".join(wrapper) == CONTENT
    assert hasattr(wrapper, "close")
    assert not hasattr(FileWrapper(OnlyRead(b"")), "close")
    assert list(FileWrapper(OnlyRead(b""))) == []
