"""One request to a WSGI application, as the event loop sees it that the request came from."""

import io

from bridge._translate.events_to_input import BodyCounter, stream_input
from bridge._wsgi_to_asgi.dispatchers import FunctionCall
from bridge._wsgi_to_asgi.exchange_thread import ExchangeThread
from bridge._wsgi_to_asgi.request_body import Spool
from bridge.errors import ClientProtocolError


class Exchange(ExchangeThread):
    """One call of a WSGI application."""

    # -- before the call

    def set_input(self, data: bytes) -> None:
        """All of the body."""
        self._environ["wsgi.input"] = io.BytesIO(data)

    def set_partial_input(self, body: BodyCounter, chunks: list[bytes]) -> None:
        """The body as far as it has been received; what is missing comes through `give`."""
        self._body = body
        self._over = body.ended
        self._received = chunks[::-1]
        self._environ["wsgi.input"] = stream_input(self._pull)

    def set_unannounced_input(self, length: int, chunks: list[bytes]) -> None:
        """All of a body of `length` bytes without Content-Length; `chunks` is what is not in the spool."""
        # Now it has one, and is no longer in any transfer coding (RFC 9112 7.1.3).
        self._environ["CONTENT_LENGTH"] = str(length)
        self._environ.pop("HTTP_TRANSFER_ENCODING", None)
        if self.spool is None:
            self.set_input(b"".join(chunks))
        else:
            self._received = chunks

    def refuse(self, refusal: ClientProtocolError) -> None:
        """Reading the body has to raise `refusal` from here on."""
        self._refusal = refusal

    def start_spool(self) -> Spool:
        """The file for a body that is too large for memory."""
        if self.spool is None:
            self.spool = Spool()
        return self.spool

    def discard_spool(self) -> None:
        """Remove the file of a call that no thread has come to."""
        assert self.spool is not None
        try:
            self.side.submit(FunctionCall(self.side, self.spool.close))
        except RuntimeError:
            self.spool.close()

    @property
    def done(self) -> bool:
        """Whether nothing more will be told."""
        return self.finished and (self.stream is None or self.stream.done)

    def arrived(self) -> None:
        """On the loop: something came from the thread."""
        if self.gone and self.finished and self.stream is not None:
            self.stream.abandon()  # the client left before the thread did
        super().arrived()

    def abandon(self) -> None:
        """Nobody listens any more."""
        # First: its thread may finish meanwhile, and what is looked at before that would then have been too early.
        super().abandon()
        if self.stream is not None and self.finished:
            self.gone = self.gone or not self.stream.done
            self.stream.abandon()

    def took(self, told_size: int) -> None:
        """All that was told until `told_size` had this value has been sent."""
        super().took(told_size)
        if self.stream is not None:
            self.stream.took()

    @property
    def begun(self) -> bool:
        """Whether the thread has come to it, and so cleans up itself."""
        return self._begun

    def start(self) -> None:
        """Have a thread run the application. Raises `RuntimeError` where none can be had."""
        self.side.submit(self)
