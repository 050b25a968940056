"""What others put on Django's handlers: whether it is noticed, and what it sees of a request. What real agents see is
in `test_agents_real.py`.
"""

import asyncio
import contextvars
import functools
import hashlib
import importlib
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.dispatch import Signal
from django.test import override_settings

from bridge import ClientDisconnected
from bridge._concurrency.loops import AsyncioLoop
from bridge.django import _agents, get_asgi_application, get_wsgi_application
from bridge.django._report import checks
from support import django_project  # sets Django up
from support.django_clients import Asgi, Ask, Wsgi
from support.patience import PROCESS_PATIENCE
from support.waiting import until

EACH_SIDE = pytest.mark.parametrize("side", ["asgi", "wsgi"])
Face = Asgi | Wsgi
seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="unset")


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"debug": True}


class Watcher:
    """Puts itself around the functions of Django's handlers, and notes what they do."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.noted: list[str] = []
        self._patch = patch

    def around_call(self, side: str) -> None:
        if side == "asgi":
            self._around_asgi()
        else:
            self._around_wsgi()

    def _around_wsgi(self) -> None:
        given = WSGIHandler.__call__

        def call(handler: Any, environ: Any, start_response: Any) -> Any:
            def started(status: str, headers: Any, *more: Any) -> Any:
                self.noted.append(status[:3])
                return start_response(status, headers, *more)

            with self.noting():
                body = given.__get__(handler)(environ, started)
            return Watched(body, self)

        self._patch.setattr(WSGIHandler, "__call__", call)

    def _around_asgi(self) -> None:
        given = ASGIHandler.__call__

        async def call(handler: Any, scope: Any, receive: Any, send: Any) -> None:
            async def noting(event: Any) -> None:
                if event["type"] == "http.response.start":
                    self.noted.append(str(event["status"]))
                await send(event)

            try:
                with self.noting():
                    await given.__get__(handler)(scope, receive, noting)
            finally:
                self.noted.append("closed")

        self._patch.setattr(ASGIHandler, "__call__", call)

    @contextmanager
    def noting(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.noted.append(f"raised {type(error).__name__}")
            raise

    def around(self, owner: Any, name: str) -> None:
        given = getattr(owner, name)

        @functools.wraps(given)
        def call(*args: Any, **named: Any) -> Any:
            self.noted.append(name)
            return given(*args, **named)

        self._patch.setattr(owner, name, call)


class Watched:
    """The body of a response, as what is around it gives it on."""

    def __init__(self, body: Any, watcher: Watcher) -> None:
        self._body = body
        self._watcher = watcher

    def __iter__(self) -> Iterator[bytes]:
        with self._watcher.noting():
            yield from self._body

    def close(self) -> None:
        self._body.close()
        self._watcher.noted.append("closed")


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    return Watcher(monkeypatch)


# --- what the applications are


def test_the_applications_are_djangos_handlers() -> None:
    """By class and by instance, for whoever asks."""
    with get_asgi_application() as asgi, get_wsgi_application() as wsgi:
        assert isinstance(asgi, ASGIHandler)
        assert issubclass(type(asgi), ASGIHandler)
        assert isinstance(wsgi, WSGIHandler)
        assert issubclass(type(wsgi), WSGIHandler)


# --- whether a function is Django's


def test_djangos_own_functions_are_known() -> None:
    """None of them was replaced here."""
    known = (_agents.WSGI_CALL, _agents.ASGI_CALL, _agents.GET_RESPONSE_ASYNC, _agents.CREATE_REQUEST)
    assert [] == [str(hook) for hook in (*known, *_agents.UNUSED, *_agents.SIGNALS) if not hook.is_own()]


def test_a_function_that_was_replaced_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one that tells the name of the old one, as wrappers do; and until it is put back."""
    with monkeypatch.context() as patch:
        patch.setattr(WSGIHandler, "__call__", functools.wraps(WSGIHandler.__call__)(lambda *args: None))
        assert not _agents.WSGI_CALL.is_own()
        assert __name__ == _agents.WSGI_CALL.replaced_by()
    assert _agents.WSGI_CALL.is_own()


def test_other_code_in_the_same_function_is_known() -> None:
    """Some wrap by that."""
    function: Any = WSGIHandler.__call__
    before = function.__code__
    try:
        function.__code__ = before.replace(co_name="wrapped")
        assert not _agents.WSGI_CALL.is_own()
    finally:
        function.__code__ = before
    assert _agents.WSGI_CALL.is_own()


def test_what_was_replaced_before_all_is_known() -> None:
    """Also by a proxy that says to be a function, and has the code of one."""
    program = """if True:
        from django.core.handlers.asgi import ASGIHandler
        from django.core.handlers.wsgi import WSGIHandler
        class Proxy:
            def __init__(self, function):
                self._function = function
            __class__ = property(lambda self: type(self._function))
            __code__ = property(lambda self: self._function.__code__)
            def __call__(self, *args):
                return self._function(*args)
        given = WSGIHandler.__call__
        WSGIHandler.__call__ = lambda *args: given(*args)
        ASGIHandler.__call__ = Proxy(ASGIHandler.__call__)
        from bridge.django import _agents
        print(_agents.WSGI_CALL.is_own(), _agents.ASGI_CALL.is_own(), _agents.GET_RESPONSE_ASYNC.is_own())
    """
    source = Path(_agents.__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
        timeout=PROCESS_PATIENCE,
    )
    assert "False False True" == ran.stdout.strip()


def test_the_check_names_what_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the ASGI application is this package's; and what is called is none of it."""
    for package in ("bridge", "django"):
        text = f"from {package.replace('django', 'django.core.asgi').replace('bridge', 'bridge.django')} import *"
        (tmp_path / f"agents_{package}_asgi.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def said(package: str) -> list[tuple[str | None, str]]:
        with override_settings(ASGI_APPLICATION=f"agents_{package}_asgi.application"):
            return [(one.id, one.msg) for one in checks.hooks_are_called(None)]

    def replaced(*args: Any) -> None:
        raise AssertionError("nobody calls it")

    for owner, name in ((ASGIHandler, "__call__"), (ASGIHandler, "create_request"), (WSGIHandler, "__call__")):
        monkeypatch.setattr(owner, name, replaced)
    assert [] == said("bridge")
    monkeypatch.setattr(ASGIHandler, "send_response", replaced)
    assert [] == said("django")
    [(number, message)] = said("bridge")
    assert "bridge.W006" == number
    assert message.startswith(f"ASGIHandler.send_response was replaced (by {__name__}), and agents_bridge_asgi.app")


# --- what is around a request

NAMED = {
    "BRIDGE": {
        "ON_LOOP": [f"support.django_project.{name}" for name in dir(django_project) if name.startswith("async_")]
    }
}


@contextmanager
def serving(side: str) -> Iterator[Face]:
    """A server with the project, by the entry point for it."""
    face: Face = Asgi(get_asgi_application()) if side == "asgi" else Wsgi(get_wsgi_application())
    try:
        yield face
    finally:
        face.close()


@EACH_SIDE
@pytest.mark.parametrize("view", ["hello", "async_hello", "stream", "async_stream", "file"])
def test_what_is_around_call_is_around_each_request(watcher: Watcher, side: str, view: str) -> None:
    """Once, put there after the application was made, from the status to the end of the body."""
    with serving(side) as server:
        plain = server.ask(f"/{view}")
        watcher.around_call(side)
        reply = server.ask(f"/{view}")
    assert (200, plain.headers, plain.body) == (reply.status, reply.headers, reply.body)
    assert ["200", "closed"] == watcher.noted


@EACH_SIDE
def test_what_is_around_call_sees_no_body_of_a_head_request(watcher: Watcher, side: str) -> None:
    """Of a stream that has no end."""
    with serving(side) as server:
        watcher.around_call(side)
        reply = server.ask("/endless", method="HEAD")
    assert (200, b"") == (reply.status, reply.body)
    assert ["200", "closed"] == watcher.noted


@pytest.mark.parametrize("view", ["hello", "async_hello", "async_stream"])
def test_what_is_around_call_is_around_requests_on_the_loop(watcher: Watcher, view: str) -> None:
    """Also where no thread is taken."""
    with override_settings(**NAMED), serving("asgi") as server:
        watcher.around_call("asgi")
        assert 200 == server.ask(f"/{view}").status
    assert ["200", "closed"] == watcher.noted


@EACH_SIDE
@pytest.mark.parametrize("view", ["breaks_stream", "async_breaks_stream"])
def test_the_error_of_a_stream_is_seen_once(
    watcher: Watcher, side: str, view: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By what is around the request and by the server; there is no line of ours that would be reported as another."""
    with serving(side) as server:
        watcher.around_call(side)
        reply = server.ask(f"/{view}")
    assert "the stream broke" == str(reply.error)
    assert ["200", "raised ValueError", "closed"] == watcher.noted
    assert [] == [record for record in caplog.records if record.name == "bridge" and record.levelno >= logging.ERROR]


def test_without_anything_around_it_an_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """As ever."""
    with serving("asgi") as server:
        server.ask("/breaks_stream")
    assert [record for record in caplog.records if record.name == "bridge" and record.levelno >= logging.ERROR]


def test_what_a_failed_request_has_set_is_seen_by_what_logs_its_error(watcher: Watcher) -> None:
    """In the server's thread, until the next request begins."""
    noted: list[str] = []

    def failing(environ: Any, start_response: Any) -> Any:
        seen.set("reported")
        raise ValueError("failed")

    with serving("wsgi") as server:
        watcher.around_call("wsgi")
        request = Ask("/hello")

        def in_one_thread() -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(server.app, "_entry", failing)
                with pytest.raises(ValueError, match="failed"):
                    server.app(request.environ(), lambda *_: None)
            noted.append(seen.get())
            body = server.app(request.environ(), lambda *_: None)
            noted.append(seen.get())
            body.close()

        contextvars.Context().run(in_one_thread)
    assert ["reported", "unset"] == noted


# --- what has a client that leaves


@EACH_SIDE
def test_a_client_that_leaves_in_its_upload_is_no_error(watcher: Watcher, side: str) -> None:
    """What is around the request sees an end of it, and the server no response of the project's."""
    with serving(side) as server:
        watcher.around_call(side)
        if side == "asgi":
            reply = server.ask("/async_digest", pieces=[b"x" * 10], length=20, breaks_off=True)
            assert (499, None) == (reply.status, reply.error)
        else:
            environ = Ask("/async_digest", pieces=[b"x" * 10], length=20).environ()
            environ["wsgi.input"] = io.BufferedReader(environ["wsgi.input"])  # what has all that will come is not asked
            with pytest.raises(ClientDisconnected):
                server.app(environ, lambda *_: pytest.fail("a response has begun"))
        assert ["499", "closed"] == watcher.noted


def test_a_server_whose_send_raises_is_no_error_of_the_application(watcher: Watcher) -> None:
    """The client has left; the error is the server's own, and goes to it."""

    async def send(event: Any) -> None:
        raise ConnectionResetError("the client left")

    async def receive() -> Any:
        raise AssertionError("nothing is to be received")

    async def serve(app: Any) -> None:
        await app(Ask("/hello").scope()[0], receive, send)

    with serving("asgi") as server:
        watcher.around_call("asgi")
        with pytest.raises(ConnectionResetError):
            server.run(serve(server.app))
    assert "closed" == watcher.noted[-1]
    assert [] == [noted for noted in watcher.noted if noted.startswith("raised")]


def test_a_response_that_cannot_be_started_is_closed(watcher: Watcher) -> None:
    """Nobody else would do it: its signal is sent."""

    def start_response(status: str, headers: Any) -> Any:
        raise OSError("no more")

    finished: list[object] = []

    def note(sender: object, **_: object) -> None:
        finished.append(sender)

    with serving("wsgi") as server:
        watcher.around_call("wsgi")
        request_finished.connect(note)
        try:
            with pytest.raises(OSError, match="no more"):
                server.app(Ask("/hello").environ(), start_response)
        finally:
            request_finished.disconnect(note)
    assert [type(server.app)] == finished


@pytest.mark.parametrize("closes", [False, True], ids=["at once", "after it has closed it"])
def test_the_end_of_a_client_that_has_left_is_told_if_the_code_around_it_raises(
    closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response that only this code sees is closed once, like any other: its signal is sent."""
    given = WSGIHandler.__call__

    def call(handler: Any, environ: Any, start_response: Any) -> Any:
        response = given.__get__(handler)(environ, start_response)
        if closes:
            response.close()
        raise OSError("no more")

    finished: list[object] = []

    def note(sender: object, **_: object) -> None:
        finished.append(sender)

    with serving("wsgi") as server:
        monkeypatch.setattr(WSGIHandler, "__call__", call)
        environ = Ask("/async_digest", pieces=[b"x" * 10], length=20).environ()
        environ["wsgi.input"] = io.BufferedReader(environ["wsgi.input"])  # as above
        request_finished.connect(note)
        try:
            with pytest.raises(OSError, match="no more"):
                server.app(environ, lambda *_: pytest.fail("a response has begun"))
        finally:
            request_finished.disconnect(note)
    assert [type(server.app)] == finished


# --- the other functions


def test_what_is_around_the_async_functions_is_around_a_request_in_a_thread(watcher: Watcher) -> None:
    """On an ASGI server those of Django's ASGI handler, once each, and not those of the other one."""
    with serving("asgi") as server:
        for owner, name in (
            (BaseHandler, "get_response_async"),
            (BaseHandler, "get_response"),
            (ASGIHandler, "create_request"),
            (BaseHandler, "make_view_atomic"),
        ):
            watcher.around(owner, name)
        for view in ("hello", "async_hello", "stream", "async_stream", "calls_async", "teapot"):
            watcher.noted.clear()
            reply = server.ask(f"/{view}")
            assert reply.error is None
            found = [name for name in watcher.noted if name != "make_view_atomic" or view != "teapot"]
            assert found[:2] == ["create_request", "get_response_async"]
            assert "get_response" not in watcher.noted


def test_on_trio_the_sync_function_is_asked(watcher: Watcher) -> None:
    """The other one is for asyncio; what is around `__call__` is there all the same."""
    sent: list[Any] = []

    async def receive() -> Any:
        await trio.sleep_forever()

    async def send(event: Any) -> None:
        sent.append(event)

    with get_asgi_application() as app:
        for name in ("get_response_async", "get_response"):
            watcher.around(BaseHandler, name)
        watcher.around_call("asgi")
        trio.run(app, Ask("/hello").scope()[0], receive, send)
    assert b"hello\n" == b"".join(event.get("body", b"") for event in sent)
    assert ["get_response", "200", "closed"] == watcher.noted


def test_what_is_around_the_sync_function_is_around_a_request_of_a_wsgi_server(watcher: Watcher) -> None:
    """Of either kind of view."""
    with serving("wsgi") as server:
        for name in ("get_response_async", "get_response"):
            watcher.around(BaseHandler, name)
        assert 200 == server.ask("/hello").status
        assert 200 == server.ask("/async_hello").status
    assert ["get_response", "get_response"] == watcher.noted


@EACH_SIDE
def test_thread_and_state_are_those_of_the_request(watcher: Watcher, side: str) -> None:
    """With something around the async function, too: middleware, view and ORM in one thread, one context."""
    with override_settings(MIDDLEWARE=["support.django_project.thread_middleware"]), serving(side) as server:
        watcher.around(BaseHandler, "get_response_async")
        django_project.events.clear()
        where = server.ask("/where").json()
        threads = {thread for _, thread in django_project.events}
        assert threads == {where["thread"]}
        orm = server.ask("/async_where").json()["orm"]
        assert 1 == len(set(orm))
        assert server.ask("/state?set=de").json()["after"]["local"] == "de"
        assert server.ask("/state").json()["before"]["local"] == "unset"


@EACH_SIDE
def test_a_wrapped_async_view_runs_on_the_loop_with_its_body(watcher: Watcher, side: str) -> None:
    """More of it than is received before the request begins."""
    given = BaseHandler.make_view_atomic

    def make_view_atomic(handler: Any, view: Any) -> Any:
        made = given(handler, view)

        @functools.wraps(made)
        async def wrapped(*args: Any, **named: Any) -> Any:
            watcher.noted.append("view")
            return await made(*args, **named)

        return wrapped

    body = b"x" * (3 * 2**20)
    with pytest.MonkeyPatch.context() as patch, serving(side) as server:
        patch.setattr(BaseHandler, "make_view_atomic", make_view_atomic)
        reply = server.ask("/async_digest", pieces=[body[: 2**20]] * 3)
    assert hashlib.sha256(body).hexdigest().encode() == reply.body
    assert ["view"] == watcher.noted


@EACH_SIDE
def test_what_is_around_signals_sees_those_of_a_request(watcher: Watcher, side: str) -> None:
    """Also where only Django listens."""
    with serving(side) as server:
        watcher.around(Signal, "send")
        assert 200 == server.ask("/hello").status
    assert 2 == watcher.noted.count("send")


@pytest.mark.parametrize("settings", [{}, NAMED], ids=["thread", "loop"])
def test_what_a_receiver_sets_at_the_start_is_there_to_the_end(settings: dict[str, Any]) -> None:
    """A transaction, say."""
    noted: list[str] = []

    def started(sender: type, **_: object) -> None:
        seen.set("started")

    def finished(sender: type, **_: object) -> None:
        noted.append(seen.get())

    with override_settings(**settings), serving("asgi") as server:
        request_started.connect(started)
        request_finished.connect(finished)
        try:
            for view in ("async_hello", "async_stream"):
                assert 200 == server.ask(f"/{view}").status
            until(lambda: len(noted) == 2)
        finally:
            request_started.disconnect(started)
            request_finished.disconnect(finished)
    assert ["started", "started"] == noted


@EACH_SIDE
def test_what_is_around_djangos_function_is_around_each_request(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around `django.core.asgi.get_asgi_application()`, and what it returns; the application stays a handler."""
    noted: list[str] = []
    module: Any = importlib.import_module(f"django.core.{side}")
    name = f"get_{side}_application"
    given = getattr(module, name)
    handler = getattr(module, f"{side.upper()}Handler")

    def get_application() -> Any:
        application = given()

        async def on_asgi(scope: Any, receive: Any, send: Any) -> None:
            noted.append(scope["path"])
            await application(scope, receive, send)

        def on_wsgi(environ: Any, start_response: Any) -> Any:
            noted.append(environ["PATH_INFO"])
            return application(environ, start_response)

        return on_asgi if side == "asgi" else on_wsgi

    monkeypatch.setattr(module, name, get_application)
    with serving(side) as server:
        assert isinstance(server.app, handler)
        assert b"hello\n" == server.ask("/hello").body
    assert ["/hello"] == noted
    assert handler is getattr(module, f"{side.upper()}Handler")


@pytest.mark.anyio
async def test_a_task_is_made_in_its_own_context() -> None:
    """Tracers look there, and not only at what it is given. With a task factory, which asyncio asks on each Python."""
    noted: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coroutine, **named: asyncio.Task(coroutine, loop=loop, **named))
    given = loop.create_task

    def create_task(coroutine: Any, **named: Any) -> Any:
        noted.append(seen.get())
        return given(coroutine, **named)

    async def work() -> None:
        noted.append(seen.get())

    context = contextvars.copy_context()
    context.run(seen.set, "of the request")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "create_task", create_task)
        await AsyncioLoop(loop).spawn(work(), context)
    assert ["of the request", "of the request"] == noted
