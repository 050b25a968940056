"""One Django project on both kinds of server, through the drop-ins of `bridge.django`."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import override_settings

from bridge._concurrency import pool
from bridge.django import get_asgi_application, get_wsgi_application
from support import django_project
from support.django_clients import Asgi, Reply, Wsgi
from support.plain_servers import environ_for
from support.waiting import PATIENCE, Flag, until

Face = Asgi | Wsgi
Start = Callable[..., Face]


@pytest.fixture(params=["asgi", "wsgi"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a server of each kind with the project; `settings` are those of Django for the time being."""
    with contextlib.ExitStack() as stack:

        def start(settings: dict[str, Any] | None = None, **options: Any) -> Face:
            stack.enter_context(override_settings(**settings or {}))
            if request.param == "asgi":
                face: Face = Asgi(get_asgi_application(**{"shutdown_timeout": 2.0, **options}))
            else:
                options.pop("threads", None)
                face = Wsgi(get_wsgi_application(**options))
            stack.callback(face.close)
            return face

        django_project.events.clear()
        yield start


@pytest.fixture
def face(start: Start) -> Face:
    """A server with the project as it is."""
    return start()


BOTH = pytest.mark.parametrize("prefix", ["", "async_"])


class TestAnswers:
    @BOTH
    def test_hello(self, face: Face, prefix: str) -> None:
        """A small response, with what the middleware has added."""
        reply = face.ask(f"/{prefix}hello")

        assert (200, b"hello\n", None) == (reply.status, reply.body, reply.error)
        assert ("6", "DENY") == (reply.header("content-length"), reply.header("x-frame-options"))

    @BOTH
    def test_head(self, face: Face, prefix: str) -> None:
        """No body, on an ASGI server, where the adapter leaves it out; a WSGI server does that itself."""
        reply = face.ask(f"/{prefix}hello", method="HEAD")

        assert 200 == reply.status
        assert reply.body == (b"" if face.name == "asgi" else b"hello\n")

    @BOTH
    def test_head_of_an_endless_stream(self, face: Face, prefix: str) -> None:
        """Ends at once, and is closed."""
        with _signals():
            reply = face.ask(f"/{prefix}endless", method="HEAD")
            until(lambda: "finished" in dict(django_project.events))

        assert (200, b"", None) == (reply.status, reply.body, reply.error)

    @BOTH
    def test_template_response(self, face: Face, prefix: str) -> None:
        """Is rendered after the view, by Django."""
        assert b"hello template\n" == face.ask(f"/{prefix}template").body

    @BOTH
    def test_template_response_and_async_middleware(self, start: Start, prefix: str) -> None:
        """The hook of a middleware may be async where the chain is sync."""
        face = start({"MIDDLEWARE": ["support.django_project.TemplateMiddleware", *django_project.MIDDLEWARE]})

        assert b"hello middleware\n" == face.ask(f"/{prefix}template").body

    @BOTH
    def test_cookies(self, face: Face, prefix: str) -> None:
        """Each has a header of its own, without padding."""
        headers = face.ask(f"/{prefix}cookies").headers

        cookies = [value for name, value in headers if name.lower() == "set-cookie"]
        assert ["one=1; Path=/", "two=2; HttpOnly; Path=/"] == cookies

    def test_missing(self, face: Face) -> None:
        """Django's own 404 page."""
        reply = face.ask("/nowhere")

        assert 404 == reply.status
        assert b"Not Found" in reply.body

    @BOTH
    def test_meta_and_scope(self, face: Face, prefix: str) -> None:
        """Each request has both, complete."""
        seen = face.ask(f"/{prefix}facts?a=1", headers=[("X-One", "1"), ("Cookie", "a=b")], root="/root").json()

        assert {
            "REQUEST_METHOD": "GET",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "QUERY_STRING": "a=1",
            "SCRIPT_NAME": "/root",
            "PATH_INFO": f"/{prefix}facts",
            "SERVER_PORT": "80",
            "HTTP_X_ONE": "1",
        } == seen["meta"] | {"SERVER_PORT": "80"}
        assert {"wsgi.errors", "wsgi.input", "wsgi.url_scheme", "wsgi.version"} <= set(seen["wsgi"])
        assert seen["environ"] is True
        assert ["http", f"/root/{prefix}facts", "GET"] == seen["scope"]
        assert (face.name, f"/root/{prefix}facts", {"a": "b"}) == (seen["interface"], seen["path"], seen["cookies"])

    def test_force_script_name(self, start: Start) -> None:
        """As in Django."""
        seen = start({"FORCE_SCRIPT_NAME": "/forced"}).ask("/facts").json()

        assert ("/forced", "/forced/facts") == (seen["meta"]["SCRIPT_NAME"], seen["path"])


class TestThreads:
    def test_a_sync_request_stays_in_one_thread(self, start: Start) -> None:
        """Signals, middleware, view and close()."""
        face = start({"MIDDLEWARE": ["support.django_project.thread_middleware", *django_project.MIDDLEWARE]})
        with _signals():
            reply = face.ask("/where")
            until(lambda: "finished" in dict(django_project.events))

        names, threads = zip(*django_project.events, strict=True)
        assert ("started", "middleware in", "view", "middleware out", "finished") == names
        assert {reply.json()["thread"]} == set(threads)
        assert reply.json()["loop"] is None
        if isinstance(face, Wsgi):
            assert reply.thread == reply.json()["thread"]

    def test_an_async_view_runs_on_the_loop_and_its_orm_in_the_thread(self, start: Start) -> None:
        """The middleware's thread is the ORM's."""
        face = start({"MIDDLEWARE": ["support.django_project.thread_middleware", *django_project.MIDDLEWARE]})
        seen = face.ask("/async_where").json()

        threads = {thread for name, thread in django_project.events if name.startswith("middleware")}
        assert threads == set(seen["orm"])
        assert seen["thread"] not in threads
        if isinstance(face, Asgi):
            assert id(face.loop) == seen["loop"]

    def test_all_async_views_share_one_loop(self, face: Face) -> None:
        """On a WSGI server the private one, whichever thread asks."""
        with ThreadPoolExecutor(4) as pool:
            seen = [reply.json() for reply in pool.map(lambda _: face.ask("/async_where"), range(12))]

        assert 1 == len({(each["loop"], each["thread"]) for each in seen})

    def test_sync_code_calls_async_code_on_that_loop(self, face: Face) -> None:
        """By asgiref's `async_to_sync` and by `request.bridge.call_async`."""
        loops = set(face.ask("/calls_async").json().values())

        assert {face.ask("/async_where").json()["loop"]} == loops

    def test_no_thread_is_made_for_a_request(self, start: Start) -> None:
        """The second async request finds all that it needs."""
        face = start(threads=1)
        face.ask("/async_where")
        before = threading.active_count()
        for _ in range(5):
            face.ask("/async_where")

        assert before == threading.active_count()

    def test_a_connection_lives_on(self, start: Start) -> None:
        """`CONN_MAX_AGE` works: the next request in the thread finds the connection."""
        face = start(threads=1)
        if isinstance(face, Wsgi):
            return  # the server's threads are the server's
        first, second, third = (face.ask(f"/{view}").json() for view in ("database", "async_database", "database"))

        assert first == second == third

    def test_a_cache_lives_on_in_its_thread(self, start: Start) -> None:
        """It may hold a connection; a stream that leaves the thread does not take it along."""
        face = start(threads=1)
        if isinstance(face, Wsgi):
            return  # test_isolation.py
        found = [face.ask(f"/{view}").json() for view in ("cached", "async_cached", "cached")]
        before, after = face.ask("/async_cached_stream").body.split()

        assert found[0] == found[1] == found[2]
        assert {found[0]["cache"]} == {int(before)} != {int(after)}

    def test_a_connection_is_closed_with_its_thread(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread that has had nothing to do ends, and leaves nothing to the garbage collector."""
        closed = Flag()
        close = DatabaseWrapper._close

        def noting(self: Any) -> None:
            close(self)
            closed.set()

        face = start(threads=1)
        if isinstance(face, Wsgi):
            return  # its threads are the server's
        monkeypatch.setattr(pool, "IDLE_SECONDS", 0.001)
        monkeypatch.setattr(DatabaseWrapper, "_close", noting)
        assert 200 == face.ask("/database").status
        closed.wait()


class TestBodies:
    @BOTH
    @pytest.mark.parametrize("length", [-1, None], ids=["content-length", "chunked"])
    def test_body(self, face: Face, prefix: str, length: int | None) -> None:
        """Whole, however it is framed."""
        pieces = [b"one", b"two" * 30_000, b"three"]

        assert b"".join(pieces) == face.ask(f"/{prefix}body", pieces=pieces, length=length).body

    @BOTH
    @pytest.mark.parametrize("length", [-1, None], ids=["content-length", "chunked"])
    def test_large_body(self, start: Start, prefix: str, length: int | None) -> None:
        """Above what is kept in memory."""
        face = start({"DATA_UPLOAD_MAX_MEMORY_SIZE": None, "FILE_UPLOAD_MAX_MEMORY_SIZE": 100_000})
        pieces = [bytes([number]) * 300_000 for number in range(8)]

        assert b"".join(pieces) == face.ask(f"/{prefix}body", pieces=pieces, length=length).body

    @BOTH
    def test_lines(self, face: Face, prefix: str) -> None:
        """readline, iteration, read."""
        seen = face.ask(f"/{prefix}lines", pieces=[b"one\ntw", b"o\nthr", b"ee\nfour"]).json()

        assert {"lines": ["one\n", "two\n"], "rest": "three\nfour"} == seen

    @BOTH
    @pytest.mark.parametrize("length", [-1, None], ids=["content-length", "chunked"])
    def test_form_with_files(self, start: Start, prefix: str, length: int | None) -> None:
        """A multipart form."""
        face = start({"MIDDLEWARE": []})
        part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        pieces = [part % (b"a", b"", b"1"), part % (b"f", b'; filename="f.txt"', b"content" * 10), b"--x--\r\n"]
        headers = [("Content-Type", "multipart/form-data; boundary=x")]
        seen = face.ask(f"/{prefix}form", pieces=pieces, length=length, headers=headers).json()

        assert {"post": {"a": "1"}, "files": {"f": ["f.txt", 70, "contentcontentco"]}} == seen

    @BOTH
    def test_too_large_for_memory(self, start: Start, prefix: str) -> None:
        """DATA_UPLOAD_MAX_MEMORY_SIZE, as in Django."""
        face = start({"DATA_UPLOAD_MAX_MEMORY_SIZE": 1000, "MIDDLEWARE": []})

        assert face.ask(f"/{prefix}body", pieces=[b"x" * 1001]).status in (400, 413)  # Django 5.2, later ones

    @BOTH
    def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(self, face: Face, prefix: str) -> None:
        """The view gets an error, and nobody is answered as if all were well."""
        reply = face.ask(f"/{prefix}body", pieces=[b"half"], length=8, breaks_off=True)

        assert reply.status in (0, 400, 499, 500)
        assert reply.body != b"half"
        assert b"hello\n" == face.ask("/hello").body


def test_waitress_hears_in_its_own_words_that_a_client_has_left_an_async_view() -> None:
    """It logs every other exception as an error."""
    channel = pytest.importorskip("waitress.channel")
    django_project.events.clear()
    environ = environ_for("GET", "/async_waits")
    environ["waitress.client_disconnected"] = lambda: bool(django_project.events)  # the view has begun
    application = get_wsgi_application()
    try:
        with ThreadPoolExecutor(1) as pool, pytest.raises(channel.ClientDisconnected):
            pool.submit(application, environ, lambda *_: None).result(PATIENCE)
    finally:
        application.close()


class TestStreams:
    @BOTH
    @pytest.mark.parametrize("parts", [0, 1, 3, 1000])
    def test_stream(self, face: Face, prefix: str, parts: int) -> None:
        """A stream of either kind arrives whole on either server, without a warning."""
        reply = face.ask(f"/{prefix}stream?parts={parts}")

        assert b"".join(b"%d\n" % number for number in range(parts)) == reply.body
        assert reply.error is None

    @BOTH
    def test_file(self, face: Face, prefix: str) -> None:
        """A `FileResponse`, whole, with its length."""
        reply = face.ask(f"/{prefix}file")

        with open(django_project.__file__, "rb") as source:
            content = source.read()
        assert (content, str(len(content))) == (reply.body, reply.header("content-length"))

    @BOTH
    def test_the_first_part_comes_before_the_last_is_made(self, face: Face, prefix: str) -> None:
        """And the stream is closed when the client leaves."""
        with _signals(), face.open(f"/{prefix}endless") as opened:
            assert opened.next()[:1] in (b"x", b"f")
            opened.leave()
            until(lambda: {"closed", "finished"} <= set(dict(django_project.events)))

    @BOTH
    def test_a_stream_that_breaks(self, face: Face, prefix: str) -> None:
        """Is never ended as if it were whole; the server sees the error."""
        reply = face.ask(f"/{prefix}breaks_stream")

        assert b"half" == reply.body
        assert isinstance(reply.error, ValueError)

    def test_the_orm_of_a_stream_has_one_thread(self, face: Face) -> None:
        """And one connection, though the thread of the request has left it."""
        parts = face.ask("/async_orm_stream").body.split(b"\n")[:3]

        assert 1 == len(set(parts))

    def test_async_streams_hold_no_thread(self, start: Start) -> None:
        """200 of them with 4 threads, and other requests go on."""
        face = start(threads=4)
        if isinstance(face, Wsgi):
            return  # there, a stream is a thread of the server's
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(face.open("/async_endless")) for _ in range(200)]
            assert {b"first"} == {each.next() for each in opened}
            assert b"hello\n" == face.ask("/hello").body == face.ask("/async_hello").body
            until(lambda: face.app.stats().busy == 0)
        until(lambda: 200 == [name for name, _ in django_project.events].count("closed"))


class TestState:
    @BOTH
    def test_nothing_is_seen_by_the_next_request(self, start: Start, prefix: str) -> None:
        """Language, time zone, `Local` and context variables."""
        face = start(threads=1)
        clean = {"language": "en-us", "zone": "UTC", "local": "unset", "variable": "unset"}
        first = face.ask(f"/{prefix}state?set=de").json()
        second = face.ask(f"/{prefix}state").json()

        assert {"language": "de", "zone": "+02", "local": "de", "variable": "de"} == first["after"]
        assert clean == first["before"] == second["before"] == second["after"]

    @BOTH
    def test_a_view_sees_what_middleware_has_set_and_the_other_way_round(self, start: Start, prefix: str) -> None:
        """Across the crossing to the loop, and into the thread of the ORM."""
        face = start({"MIDDLEWARE": ["support.django_project.state_middleware"]})
        reply = face.ask(f"/{prefix}state?middle=de&set=fr")
        seen = reply.json()

        assert "de" == seen["before"]["language"] == seen["before"]["local"] == seen["before"]["variable"]
        assert seen.get("in_thread", seen["after"]) == seen["after"]
        assert "fr" == reply.header("x-after")

    def test_200_requests_at_once(self, start: Start) -> None:
        """Sync and async ones, each with its own state."""
        face = start({"MIDDLEWARE": ["support.django_project.state_middleware"]}, threads=8)

        def ask(number: int) -> tuple[int, Reply]:
            prefix = "async_" if number % 2 else ""
            return number, face.ask(f"/{prefix}state?middle=x{number}&set=y{number}")

        with ThreadPoolExecutor(16) as pool:
            for number, reply in pool.map(ask, range(200)):
                assert f"x{number}" == reply.json()["before"]["local"]
                assert f"y{number}" == reply.json()["after"]["variable"] == reply.header("x-after")


class TestFailures:
    @BOTH
    def test_a_view_that_raises(self, face: Face, prefix: str) -> None:
        """Django's 500 page, which shows nothing."""
        reply = face.ask(f"/{prefix}fails")

        assert (500, None) == (reply.status, reply.error)
        assert b"view failed" not in reply.body

    @BOTH
    def test_the_debug_page(self, start: Start, prefix: str) -> None:
        """Shows the error and its place, and no secret of the request or the settings."""
        face = start({"DEBUG": True})
        headers = [("Cookie", "sessionid=s3cret"), ("Authorization", "Basic s3cret"), ("X-Api-Key", "s3cret")]
        reply = face.ask(f"/{prefix}fails", headers=[*headers, ("Accept", "text/html")])

        assert 500 == reply.status
        assert b"the view failed" in reply.body
        assert f"{prefix}fails".encode() in reply.body
        assert b"s3cret" not in reply.body
        assert b"not a secret" not in reply.body

    def test_cancelled_error_without_a_reason(self, face: Face) -> None:
        """A view that lets one out has failed; nothing hangs."""
        assert 500 == face.ask("/async_cancels").status
        assert b"hello\n" == face.ask("/async_hello").body

    def test_atomic_requests_with_an_async_view(self, start: Start) -> None:
        """Django's own message."""
        with _atomic_requests():
            assert 500 == start().ask("/async_hello").status

    def test_a_waiting_view_is_cancelled_when_the_client_leaves(self, start: Start) -> None:
        """Its cleanup runs, the ORM's too, and request_finished is sent."""
        face = start(threads=1)
        if isinstance(face, Wsgi):
            return  # the connection of a real server tells: tests/real_servers
        with _signals(), face.open("/async_waits") as opened:
            until(lambda: "waits" in dict(django_project.events))
            opened.leave()
            until(lambda: "finished" in dict(django_project.events))

        names = [name for name, _ in django_project.events]
        assert ["started", "waits", "cancelled", "cleaned", "finished"] == names
        assert b"hello\n" == face.ask("/hello").body


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Note Django's two signals."""

    def started(**_: Any) -> None:
        django_project.note("started")

    def finished(**_: Any) -> None:
        django_project.note("finished")

    django_project.request_started.connect(started)
    django_project.request_finished.connect(finished)
    try:
        yield
    finally:
        django_project.request_started.disconnect(started)
        django_project.request_finished.disconnect(finished)


@contextlib.contextmanager
def _atomic_requests() -> Iterator[None]:
    before = connections.settings["default"]["ATOMIC_REQUESTS"]
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    try:
        yield
    finally:
        connections.settings["default"]["ATOMIC_REQUESTS"] = before
