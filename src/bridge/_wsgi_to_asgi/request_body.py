"""A request body that did not arrive in one event: the part that has arrived, in memory or in a file, and the part that
is still to come.
"""

import io
import threading
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import IO, BinaryIO, Final, cast

from bridge._concurrency.calls import Call, Dispatcher, FunctionCall, PeerGone
from bridge._translate.events_to_input import BodyCounter, file_input, stream_input
from bridge.errors import ClientDisconnected, ClientProtocolError

# How much of a body is held in memory if the whole body is needed.
MEMORY_BYTES: Final = 2**20
_STEP_BYTES: Final = 64 * 1024


class SpoolFile:
    """A temporary file that can be closed at any time, even while a thread writes to it.

    `tempfile.SpooledTemporaryFile` cannot be. A request whose client leaves is closed on the loop, or in another
    thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._input: io.BufferedReader | None = None
        self._closed = False

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append the chunks. In a worker thread. Raises `OSError`, for example if the disk is full."""
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                import tempfile  # noqa: PLC0415 - only large bodies need it, and it imports the compressors

                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # close() closes it
            self._file.writelines(chunks)

    def rewind(self) -> io.BufferedReader:
        """Return what has been written as a `wsgi.input`."""
        assert self._file is not None
        self._file.seek(0)
        # Not the file itself: it is buffered too, but reads lines differently from `io.BytesIO`.
        self._input = file_input(cast(io.BufferedRandom, self._file).raw)
        return self._input

    def close(self) -> None:
        """Remove the file; in a worker thread."""
        with self._lock:
            self._closed = True
            opened = self._input or self._file
            if opened is not None:
                # What could not be written to a full disk is not wanted any more.
                with suppress(OSError):
                    opened.close()


class RequestBody:
    """The body of one request, on its way from the loop that receives it to the thread that reads it.

    Until a thread is submitted, only the loop uses it: `keep` and `file`. After that the loop only feeds, and the
    thread does the rest. The loop sets `refusal` before it feeds the end, so that a thread that has read the end sees
    it. `counter` belongs to the loop. After the end, the thread reads its final values.

    `call` is the call of the thread. None if the whole body has arrived before anything runs.
    """

    __slots__ = ("_call", "_ended", "_failure", "_kept", "_rest", "counter", "file", "refusal")

    def __init__(self, counter: BodyCounter, call: Call | None) -> None:
        self.counter = counter
        self.refusal: ClientProtocolError | None = None
        self.file: SpoolFile | None = None
        self._call = call
        self._kept: list[bytes] = []
        # Nothing more will be fed. `_rest` is what `complete` has read.
        self._ended = False
        self._rest: IO[bytes] | None = None
        self._failure: Exception | None = None

    # -- on the loop

    def keep(self, chunks: list[bytes]) -> None:
        """Keep the last chunks that came before a thread is submitted."""
        self._kept = chunks[::-1]
        self._ended = self.counter.ended

    def feed(self, data: bytes) -> None:
        """Pass on what came later. Empty at the end."""
        assert self._call is not None
        self._call.feed(data)

    def wait_for_room(self) -> Awaitable[None]:
        """Wait until there is room for more."""
        assert self._call is not None
        return self._call.wait_for_room()

    @property
    def unwanted(self) -> bool:
        """Whether the application has ended without asking for a body that the client sends only on request."""
        call = self._call
        return call is not None and call.fed_on_demand and call.finished

    def refuse(self, refusal: ClientProtocolError) -> None:
        """Make reading raise `refusal` from now on."""
        self.refusal = refusal
        self.feed(b"")

    def discard(self, dispatcher: Dispatcher) -> None:
        """Remove the file of a request that no thread has taken."""
        if self.file is not None:
            try:
                dispatcher.submit(FunctionCall(dispatcher, self.file.close))
            except RuntimeError:
                self.file.close()

    # -- in the thread

    def open(self) -> BinaryIO:
        """Return the body as a `wsgi.input`. Raises `OSError` if it cannot be written to its file."""
        if self.file is None:
            return stream_input(self.read_chunk)
        self.file.write(self._kept[::-1])
        return self.file.rewind()

    def read_chunk(self) -> bytes:
        """Return the next chunk. Empty at the end.

        Raises `ClientDisconnected` if the body broke off, and the refusal if there is one.
        """
        call = self._call
        assert call is not None
        if call.finished:
            raise ClientDisconnected("the request is over")
        while self._kept:
            if data := self._kept.pop():
                return data
        if self._rest is not None and (data := self._rest.read(_STEP_BYTES)):
            return data
        if self._failure is not None:
            raise self._failure
        if not self._ended:
            if data := self._read_fed(call):
                return data
            self._ended = True
        if self.refusal is not None:
            raise self.refusal
        counter = self.counter
        if counter.truncated:
            raise ClientDisconnected(f"the request body broke off after {counter.received} of {counter.length} bytes")
        return b""

    def _read_fed(self, call: Call) -> bytes:
        try:
            return call.read()
        except PeerGone:
            raise ClientDisconnected("the client left before the end of the request body") from None

    def complete(self) -> None:
        """Receive the rest before anything reads it on a loop. Above `MEMORY_BYTES`, it goes to a file.

        If this fails, reading raises the error.
        """
        call = self._call
        if call is None or self._ended or self._failure is not None:
            return
        import tempfile  # noqa: PLC0415 - as above

        self._rest = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  # close() closes it
        try:
            while data := self._read_fed(call):
                self._rest.write(data)
        except Exception as error:
            self._failure = error
        else:
            self._ended = True
        self._rest.seek(0)

    def close(self) -> None:
        """Remove the files, if there are any."""
        if self.file is not None:
            self.file.close()
        if self._rest is not None:
            # What could not be written to a full disk is not wanted any more.
            with suppress(OSError):
                self._rest.close()
