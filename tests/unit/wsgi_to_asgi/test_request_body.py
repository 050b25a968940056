"""The temporary file of a large body, in itself; what requests do with it is tested with the adapter."""

import io
import tempfile
import threading
from typing import Any

import pytest

from bridge._concurrency.calls import PeerGone
from bridge._translate.events_to_input import BodyCounter
from bridge._wsgi_to_asgi.request_body import MEMORY_BYTES, RequestBody, SpoolFile
from bridge.errors import ClientDisconnected
from support.patience import PATIENCE
from support.waiting import Flag


class Made:
    """Makes temporary files, holds who makes them, and keeps them in view."""

    def __init__(self) -> None:
        self.files: list[Any] = []
        self.making = Flag()
        self.go = Flag()
        self.go.set()
        self._make = tempfile.TemporaryFile

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.making.set()
        self.go.wait()
        self.files.append(self._make(*args, **options))
        return self.files[-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The temporary files that are made."""
    made = Made()
    monkeypatch.setattr(tempfile, "TemporaryFile", made)
    return made


def test_what_was_written_can_be_read(made: Made) -> None:
    """From its start, in the order in which it was written."""
    spool = SpoolFile()
    spool.write([b"one\n", b"", b"two\n"])
    spool.write([])
    spool.write([b"three"])
    lines = list(spool.rewind())
    spool.close()

    assert lines == [b"one\n", b"two\n", b"three"]
    assert [file.closed for file in made.files] == [True]


def test_much_can_be_written() -> None:
    """More than any buffer holds."""
    spool = SpoolFile()
    block = bytes(range(256)) * 1024
    for _ in range(8):
        spool.write([block])
    body = spool.rewind()
    read = [body.read(len(block)) for _ in range(8)]
    end = body.read()
    spool.close()

    assert read == [block] * 8
    assert end == b""


def test_nothing_is_made_before_the_first_write(made: Made) -> None:
    """A body that was never written has no file."""
    SpoolFile().close()

    assert made.files == []


def test_nothing_is_written_after_close(made: Made) -> None:
    """A writer that comes too late makes no file, and is told nothing: nobody waits for its bytes."""
    spool = SpoolFile()
    spool.close()
    spool.write([b"late"])

    assert made.files == []


def test_close_once_more(made: Made) -> None:
    """It may come from two sides."""
    spool = SpoolFile()
    spool.write([b"some"])
    spool.close()
    spool.close()
    spool.write([b"late"])

    assert [file.closed for file in made.files] == [True]


def test_close_after_rewind(made: Made) -> None:
    """Who still reads gets an error, and no bytes of another file."""
    spool = SpoolFile()
    spool.write([b"some"])
    body = spool.rewind()
    spool.close()

    with pytest.raises(ValueError, match="closed"):
        body.read()
    assert [file.closed for file in made.files] == [True]


def test_close_while_it_is_written(made: Made) -> None:
    """The writer finishes first, and then the file is gone."""
    spool = SpoolFile()
    made.go = Flag()
    writer = threading.Thread(target=spool.write, args=([b"some"],))
    closer = threading.Thread(target=spool.close)
    writer.start()
    made.making.wait()
    closer.start()
    made.go.set()
    for thread in (writer, closer):
        thread.join(PATIENCE)
        assert not thread.is_alive()

    assert [file.closed for file in made.files] == [True]


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer gets the error, by the time it reads at the latest; the file can be closed all the same."""
    files: list[Any] = []

    def full(*_args: Any, **options: Any) -> Any:
        files.append(open("/dev/full", "w+b", **options))  # noqa: SIM115
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    spool = SpoolFile()

    def fill() -> None:
        spool.write([b"some"])
        spool.rewind()

    with pytest.raises(OSError, match="No space left"):
        fill()
    spool.close()

    assert [file.closed for file in files] == [True]


def test_it_reads_as_bytesio_does() -> None:
    """An app cannot tell from its lines where its body was kept."""
    body = b"aa\nbb\ncccc\nd"
    for hint in (None, -1, 0, 1, 2, 3, 4, 6, 100):
        spool = SpoolFile()
        spool.write([body])
        lines = spool.rewind().readlines(hint)
        spool.close()
        assert lines == io.BytesIO(body).readlines(hint)


# --- the rest of a body, brought before async code begins


class Fed:
    """A call that is fed `chunks`; an exception among them is raised."""

    finished = False

    def __init__(self, *chunks: Any) -> None:
        self._chunks = iter(chunks)

    def read(self) -> bytes:
        chunk = next(self._chunks)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk  # type: ignore[no-any-return]


def body_of(*chunks: Any, length: int | None = None) -> RequestBody:
    """A body of which all of `chunks` are still to come."""
    counter = BodyCounter(length, None)
    return RequestBody(counter, Fed(*chunks))  # type: ignore[arg-type]


def test_all_that_is_to_come_is_brought() -> None:
    """Then reading waits for nothing; a second time there is nothing to bring."""
    body = body_of(b"one", b"two", b"", AssertionError("nothing more is asked for"))
    body.complete()
    body.complete()
    read = body.open().read()
    body.close()

    assert read == b"onetwo"


def test_much_is_brought_into_a_file(made: Made) -> None:
    """Above what is held in memory; it is removed with the body."""
    block = b"x" * MEMORY_BYTES
    body = body_of(block, block, b"y", b"")
    body.complete()
    assert len(made.files) == 1
    assert body.open().read() == block * 2 + b"y"
    body.close()

    assert [file.closed for file in made.files] == [True]


def test_a_body_that_breaks_off_is_an_error_to_who_reads_it() -> None:
    """What came before can be read; bringing it raises nothing."""
    body = body_of(b"one", PeerGone())
    body.complete()
    stream = body.open()
    assert stream.read(3) == b"one"
    for _ in range(2):
        with pytest.raises(ClientDisconnected):
            stream.read()
    body.close()
