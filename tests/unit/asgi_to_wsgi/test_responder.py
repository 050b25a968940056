"""`AsgiResponder` and its iterable: what the server gets of a response, and how it ends."""

import asyncio
import io
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from bridge import ApplicationProtocolError, ClientDisconnected
from bridge._asgi_to_wsgi.request_events import RequestEvents
from bridge._asgi_to_wsgi.responder import AsgiResponder, ResponseIterator
from bridge._asgi_to_wsgi.task import Demand
from bridge._servers.connection import Connection
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.input_to_events import BodyEvents
from support.asgi_apps import chunk, end, start
from support.endless import EndlessItems
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted
from support.waiting import Flag, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


def responder_for(method: str = "GET") -> AsgiResponder:
    """One whose task is never started: what the thread's side says of it is the test's to set."""
    environ = environ_for(method, "/", wsgi__input=io.BytesIO())
    runner: Any = SimpleNamespace(private=object(), disconnect_grace=0.0, background_timeout=None)
    body = RequestEvents(BodyEvents(0), Connection(environ))
    return AsgiResponder(runner, _no_task, _no_app, environ_to_scope(environ), body)


def _no_task(function: Any, context: Any) -> Any:
    raise AssertionError("nothing is started")


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing is called")


class TestFailure:
    """What the server is to see of an application that ended before its response did."""

    def test_of_an_error(self) -> None:
        """That error itself."""
        responder = responder_for()
        responder.error = LookupError("planned")
        assert responder.error is responder.failure()

    def test_of_one_that_returned_too_soon(self) -> None:
        """It broke the protocol, in the state that its response is in."""
        failure = responder_for().failure()
        assert isinstance(failure, ApplicationProtocolError)
        assert "before http.response.start" in str(failure)

    def test_of_what_would_end_the_server(self) -> None:
        """A `SystemExit` of the application's is a failure of its request, with the exit as its cause."""
        responder = responder_for()
        responder.error = SystemExit(3)
        failure = responder.failure()
        assert (RuntimeError, responder.error) == (type(failure), failure.__cause__)

    def test_of_one_whose_client_has_left(self) -> None:
        """Whatever it raised: nobody broke anything."""
        responder = responder_for()
        responder.error, responder.disconnected = LookupError("planned"), True
        assert isinstance(responder.failure(), ClientDisconnected)


class TestLeave:
    """The server closes the iterable: has it got all of the response, or has its client left?"""

    def test_a_response_without_a_body_is_all_there(self) -> None:
        responder = responder_for("HEAD")
        responder.response.feed({"type": "http.response.start", "status": 200, "headers": []})
        assert (True, Demand.HEAD_ONLY) == (responder.leave(), responder.demand)

    def test_a_response_of_its_length_is_all_there(self) -> None:
        """A server may stop at Content-Length, before the application has said that this was all."""
        responder = responder_for()
        responder.response.feed({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        responder.response.feed({"type": "http.response.body", "body": b"ab", "more_body": True})
        assert (True, Demand.NOTHING) == (responder.leave(), responder.demand)

    def test_one_that_has_come_to_its_end(self) -> None:
        responder = responder_for()
        responder.complete = True
        assert (True, Demand.ALL) == (responder.leave(), responder.demand)


class TestResponseIterator:
    def test_what_has_piled_up_is_one_chunk(self) -> None:
        """Each chunk is for the server at once, but those that are there already go together."""
        sent, go_on = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"a")
            await go_on.waited()
            await chunk(send, b"b")
            await chunk(send, b"c")
            sent.set()
            await end(send)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            assert isinstance(served.result, ResponseIterator)
            assert b"a" == served.next()
            go_on.set()
            sent.wait()
            assert b"bc" == served.next()
            assert served.next() is None
            served.close()

    def test_an_app_that_is_faster_than_the_server_does_not_hold_it_up(self) -> None:
        """What is taken makes room for more, so that there may always be something."""
        responder = responder_for()
        responder.output.items = EndlessItems()
        responder.finished = responder.complete = True  # so that closing it has nothing to end

        with closing(ResponseIterator(responder)) as chunks:
            assert 60_000 < len(next(chunks)) < 70_000

    def test_a_second_close_does_nothing(self) -> None:
        """Middleware and server may both close it; the first of them gives the request up."""
        left = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"a")
            while (await receive())["type"] != "http.disconnect":
                await asyncio.sleep(0)
            left.set()

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            assert b"a" == served.next()
            served.close()
            left.wait()
            served.close()
            until(lambda: not adapter.stats().busy)
            assert 1 == adapter.stats().client_disconnects

    def test_a_file_that_cannot_be_sent_whole_is_closed(self, tmp_path: Any) -> None:
        """The server closes the response in the middle of a file that the application sent by its path."""
        path = tmp_path / "file"
        path.write_bytes(bytes(2**20))
        responder = responder_for()
        responder.response.feed({"type": "http.response.start", "status": 200, "headers": []})
        iterator = ResponseIterator(responder)
        iterator._file = file = path.open("rb")
        with closing(iterator):
            assert next(iterator)
            responder.complete = True
        assert file.closed
