"""Requests that run on the server's event loop from their start, without a thread of their own."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django import urls
from django.conf.urls.i18n import i18n_patterns
from django.core import signals
from django.db import connection
from django.test import override_settings
from django.utils.decorators import sync_and_async_middleware

from bridge._concurrency import pool
from bridge._concurrency.loops import runs_loop
from bridge.django import _modes, get_asgi_application, on_loop
from bridge.django._loop_handler import LoopHandler
from bridge.django._signals import only_django_listens
from support import django_project, view_wrappers
from support.django_clients import Asgi
from support.patience import PATIENCE
from support.waiting import Flag, LogWatch, until


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[Asgi]:
    """A server with the project; `threads=1`, so that who holds it holds all."""
    django_project.events.clear()
    with override_settings(**settings):
        face = Asgi(get_asgi_application(threads=1, shutdown_timeout=2.0))
        try:
            yield face
        finally:
            face.close()


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every job that any pool of threads is given."""
    jobs: list[object] = []
    original = pool.ThreadPool.submit

    def submit(self: pool.ThreadPool, job: Any, *, eager: bool) -> bool:
        jobs.append(job)
        return original(self, job, eager=eager)

    monkeypatch.setattr(pool.ThreadPool, "submit", submit)
    return jobs


class Wrapped:
    """Each wrapper of `view_wrappers` around one view, whose name is in `BRIDGE["ON_LOOP"]`."""

    urlpatterns = [
        *(urls.path(name, wrap(view_wrappers.plain)) for name, wrap in view_wrappers.WRAPPERS.items()),
        urls.path("made_sync", view_wrappers.made_sync(view_wrappers.plain)),
    ]


class TestWrappedViews:
    """A view runs on the loop whatever decorators and frameworks have put around it."""

    @pytest.mark.parametrize("wrapper", view_wrappers.WRAPPERS)
    def test_no_thread_is_taken(self, submitted: list[object], log: LogWatch, wrapper: str) -> None:
        named = {"ON_LOOP": ["support.view_wrappers.plain"]}
        with served(ROOT_URLCONF=Wrapped, MIDDLEWARE=[], BRIDGE=named) as face:
            face.ask(f"/{wrapper}")
            submitted.clear()  # the chain has been made in a thread
            assert (200, b"plain\n") == (face.ask(f"/{wrapper}").status, face.ask(f"/{wrapper}").body)
            assert [] == submitted
        assert [] == log.complaints()

    def test_what_cannot_run_there_is_said_once(self, log: LogWatch) -> None:
        class Urls:
            urlpatterns = [urls.path("sync", view_wrappers.made_sync(view_wrappers.plain))]

        named = {"ON_LOOP": ["support.view_wrappers.plain", "nowhere.view"]}
        with served(ROOT_URLCONF=Urls, BRIDGE=named) as face:
            assert [200, 200] == [face.ask("/sync").status, face.ask("/sync").status]

        lost, hidden = log.complaints()
        told = "should run on the event loop (on_loop), but does not: "
        assert f"WARNING nowhere.view {told}no URL pattern of ROOT_URLCONF leads to it" == lost
        assert f"WARNING support.view_wrappers.plain {told}the view that its URL pattern leads to is sync" == hidden


NATIVE = {"MIDDLEWARE": ["bridge.django.BridgeMiddleware"]}
NAMED = {
    "BRIDGE": {
        "ON_LOOP": [f"support.django_project.{name}" for name in dir(django_project) if name.startswith("async_")]
    }
}


class TestHopsOnAsgi:
    """Counted, not timed: jobs given to threads."""

    @pytest.mark.parametrize(("view", "jobs"), [("hello", 1), ("async_hello", 1), ("stream", 1), ("async_stream", 2)])
    def test_startproject(self, submitted: list[object], view: str, jobs: int) -> None:
        """One hop out and one back, for the whole of a request; a second one to close an async stream."""
        with served() as face:
            assert 200 == face.ask(f"/{view}").status
            until(lambda: face.app.stats().busy == 0)
            assert jobs == len(submitted)

    @pytest.mark.parametrize("view", ["async_hello", "async_where", "async_stream", "async_body", "async_form"])
    def test_a_chain_that_is_async_throughout(self, submitted: list[object], view: str) -> None:
        """No thread, but for the ORM of `async_where`."""
        with served(**NATIVE) as face:
            face.ask("/async_hello")
            submitted.clear()  # the chain has been made in a thread
            assert 200 == face.ask(f"/{view}").status
            assert len(submitted) == (view == "async_where")

    def test_a_sync_view_in_it_takes_one(self, submitted: list[object]) -> None:
        """With all of its middleware: one hop."""
        with served(**NATIVE) as face:
            assert 200 == face.ask("/hello").status
            assert 1 == len(submitted)

    def test_a_project_that_listens_gets_its_signals_in_a_thread(self, submitted: list[object]) -> None:
        """Sync receivers may block."""

        def finished(**_: Any) -> None:
            django_project.note("finished")

        signals.request_finished.connect(finished)
        try:
            assert not only_django_listens(signals.request_finished)
            with served(**NATIVE) as face:
                face.ask("/async_hello")
                until(lambda: "finished" in dict(django_project.events))
                django_project.events.clear()
                submitted.clear()
                assert 200 == face.ask("/async_hello").status
                until(lambda: "finished" in dict(django_project.events))
            assert 1 == len(submitted)
            assert dict(django_project.events)["finished"] != face._thread.ident
        finally:
            signals.request_finished.disconnect(finished)
        assert only_django_listens(signals.request_finished)


def test_a_fork_while_another_thread_makes_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock that this thread held then is never waited for."""
    with served(**NATIVE) as face:
        handler = face.app._loop_handler
        pid = os.getpid()
        with handler._loading.here(), monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid + 1)
            handler.load()
        assert handler.loaded


IMPORTED_LATE = """
from django import urls
from django.http import HttpResponse
from late import while_imported

ANSWER = while_imported()

async def view(request):
    return HttpResponse(ANSWER)

urlpatterns = [urls.path("", view)]
"""
LATE = [NATIVE, {"BRIDGE": {"ON_LOOP": ["late_urls.view"]}}]


@pytest.mark.parametrize("settings", LATE, ids=["native", "named"])
class TestTheFirstRequests:
    """The first requests import the URLconf."""

    @pytest.fixture(autouse=True)
    def late(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
        """A module with a function `while_imported`, which the URLconf calls."""
        late: Any = ModuleType("late")
        (tmp_path / "late_urls.py").write_text(IMPORTED_LATE)
        monkeypatch.setitem(sys.modules, "late", late)
        monkeypatch.syspath_prepend(tmp_path)
        yield late
        sys.modules.pop("late_urls", None)

    def test_an_import_may_wait_for_the_loop(self, late: Any, settings: dict[str, Any]) -> None:
        """As `async_to_sync` does. The loop neither imports anything nor waits for who does."""
        importing, both = Flag(), Flag()

        async def answer() -> bytes:
            await both.waited()
            return b"from the loop"

        with served(ROOT_URLCONF="late_urls", **settings) as face:
            app = face.app

            async def watched(scope: Any, receive: Any, send: Any) -> None:
                if importing.is_set():
                    both.set()
                await app(scope, receive, send)

            def while_imported() -> bytes:
                assert not runs_loop()
                importing.set()
                return asyncio.run_coroutine_threadsafe(answer(), face.loop).result(PATIENCE)

            face.app, late.while_imported = watched, while_imported
            with ThreadPoolExecutor(2) as clients:
                first = clients.submit(face.ask, "/")
                importing.wait()
                second = clients.submit(face.ask, "/")
                replies = [first.result(), second.result()]
            face.app = app
        assert [(200, b"from the loop")] * 2 == [(reply.status, reply.body) for reply in replies]

    def test_they_run_on_the_loop(self, late: Any, settings: dict[str, Any], submitted: list[object]) -> None:
        """After two jobs for threads: to import the URLconf, and to make the chain."""
        late.while_imported = lambda: b"hello"
        with served(ROOT_URLCONF="late_urls", **{**settings, "MIDDLEWARE": []}) as face:
            assert (200, b"hello") == (face.ask("/").status, face.ask("/").body)
        assert 2 == len(submitted)

    def test_an_error_is_shown(self, late: Any, settings: dict[str, Any]) -> None:
        """By the handler that shows errors in an URLconf anyway. The next request tries again."""

        def fail() -> bytes:
            raise LookupError("no such setting")

        late.while_imported = fail
        with served(ROOT_URLCONF="late_urls", **settings) as face:
            error = face.ask("/").error
            assert isinstance(error, LookupError)
            assert "no such setting" in str(error)
            late.while_imported = lambda: b"hello"
            assert b"hello" == face.ask("/").body

    def test_a_module_without_a_spec(
        self, late: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, submitted: list[object]
    ) -> None:
        """A project in one file, which is `__main__`."""
        late.while_imported = lambda: b"hello"
        main: Any = ModuleType("late_urls")
        exec(IMPORTED_LATE, vars(main))
        monkeypatch.setitem(sys.modules, "late_urls", main)
        with served(ROOT_URLCONF="late_urls", **{**settings, "MIDDLEWARE": []}) as face:
            assert b"hello" == face.ask("/").body
        assert 1 == len(submitted)


@pytest.mark.parametrize("settings", [NATIVE, NAMED], ids=["native", "named"])
class TestOnTheLoop:
    """The same answers as from a thread."""

    @pytest.mark.parametrize("view", ["hello", "template", "file", "stream", "facts"])
    def test_answers(self, settings: dict[str, Any], view: str) -> None:
        """To the byte."""
        with served(**settings) as face:
            on_the_loop = face.ask(f"/async_{view}")
        middleware = settings.get("MIDDLEWARE", django_project.MIDDLEWARE)
        with served(MIDDLEWARE=[*middleware, "support.django_project.thread_middleware"]) as face:
            in_a_thread = face.ask(f"/async_{view}")

        assert (in_a_thread.status, in_a_thread.body) == (on_the_loop.status, on_the_loop.body)
        assert sorted(in_a_thread.headers) == sorted(on_the_loop.headers)

    def test_bodies(self, settings: dict[str, Any]) -> None:
        """In memory, in a file, in chunks."""
        with served(DATA_UPLOAD_MAX_MEMORY_SIZE=None, **settings) as face:
            for length in (-1, None):
                for pieces in ([b"x"], [b"y" * 300_000] * 5):
                    reply = face.ask("/async_body", pieces=pieces, length=length)
                    assert b"".join(pieces) == reply.body

    def test_a_body_that_breaks_off(self, settings: dict[str, Any]) -> None:
        """The view is not called."""
        with served(**settings) as face:
            assert 200 != face.ask("/async_body", pieces=[b"half"], length=8, breaks_off=True).status

    def test_orm(self, settings: dict[str, Any]) -> None:
        """In one thread for all of the request."""
        with served(**settings) as face:
            seen = face.ask("/async_where").json()

        assert 1 == len(set(seen["orm"]))
        assert seen["orm"][0] != seen["thread"] == face._thread.ident

    def test_failures(self, settings: dict[str, Any]) -> None:
        """Pages, as in Django."""
        with served(**settings) as face:
            assert 500 == face.ask("/async_fails").status
            reply = face.ask("/async_breaks_stream")
            assert (b"half", ValueError) == (reply.body, type(reply.error))
            assert isinstance(face.ask("/async_cancels").error, RuntimeError)
            assert 200 == face.ask("/async_hello").status

    def test_waiting_views_hold_no_thread(self, settings: dict[str, Any]) -> None:
        """100 of them, with one thread; all are cancelled when their clients leave, and clean up."""
        with served(**settings) as face, contextlib.ExitStack() as stack:
            opened = [stack.enter_context(face.open("/async_waits")) for _ in range(100)]
            until(lambda: 100 == [name for name, _ in django_project.events].count("waits"))
            assert b"hello\n" == face.ask("/hello").body
            for each in opened:
                each.leave()
            until(lambda: 100 == [name for name, _ in django_project.events].count("cleaned"))
            until(lambda: _streams(face) == 0)

    def test_head(self, settings: dict[str, Any]) -> None:
        """An endless stream ends at once."""
        with served(**settings) as face:
            reply = face.ask("/async_endless", method="HEAD")

        assert (200, b"") == (reply.status, reply.body)

    def test_state(self, settings: dict[str, Any]) -> None:
        """Of no other request."""
        with served(**settings) as face:
            assert "de" == face.ask("/async_state?set=de").json()["in_thread"]["variable"]
            assert "unset" == face.ask("/async_state").json()["before"]["local"]

    def test_caches_live_on(self, settings: dict[str, Any]) -> None:
        """They may hold connections; but requests at once have each its own."""
        with served(**settings) as face, contextlib.ExitStack() as stack:
            first = face.ask("/async_cached").json()["cache"]
            until(lambda: 1 == _kept(face))
            assert first == face.ask("/async_cached").json()["cache"]
            until(lambda: 1 == _kept(face))
            django_project.caches_held.clear()
            opened = [stack.enter_context(face.open("/async_holds_cache")) for _ in range(3)]
            until(lambda: 3 == len(django_project.caches_held))
            assert 3 == len(set(django_project.caches_held))
            assert first in django_project.caches_held
            for each in opened:
                each.leave()
            until(lambda: 3 == _kept(face))
            assert face.ask("/async_cached").json()["cache"] in django_project.caches_held


def test_a_request_that_ends_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client leaves while the middleware is made: no signal is sent, where one could not be without the other."""
    entered, go = Flag(), Flag()
    sent: list[str] = []
    load = LoopHandler.load

    def load_late(self: LoopHandler) -> None:
        entered.set()
        go.wait()
        load(self)

    def started(**_: Any) -> None:
        sent.append("started")

    def finished(**_: Any) -> None:
        sent.append("finished")

    monkeypatch.setattr(LoopHandler, "load", load_late)
    signals.request_started.connect(started)
    signals.request_finished.connect(finished)
    try:
        with served(**NATIVE) as face:
            with face.open("/async_hello") as opened:
                entered.wait()
                opened.leave()
            go.set()
            until(lambda: not _streams(face) and face.app.stats().busy == 0)
            assert [] == sent
            assert b"hello\n" == face.ask("/async_hello").body
            until(lambda: ["started", "finished"] == sent)
    finally:
        signals.request_started.disconnect(started)
        signals.request_finished.disconnect(finished)


def _kept(face: Asgi) -> int:
    """How many requests have left their caches to later ones."""
    return sum(map(len, face.app._loop_handler.caches._free.values()))


def _streams(face: Asgi) -> int:
    return sum(len(found.streams) for found in face.app._dispatchers._pools.here().dispatchers.values())


def test_the_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks a view, and only that."""
    monkeypatch.setattr(_modes, "marked", set())
    on_loop(django_project.async_waits)
    try:
        with served() as face, face.open("/async_waits") as waiting:
            until(lambda: "waits" in dict(django_project.events))
            assert b"hello\n" == face.ask("/async_hello").body  # in the only thread
            waiting.leave()
    finally:
        del django_project.async_waits.bridge_on_loop  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/en/waits", "/de/waits"])
def test_patterns_in_languages(path: str) -> None:
    """`i18n_patterns`: the view is found in each of them, and nobody is left with the language."""
    patterns = (*i18n_patterns(urls.path("waits", django_project.async_waits)), *django_project.urlpatterns)
    middleware = ["django.middleware.locale.LocaleMiddleware"]
    with served(ROOT_URLCONF=patterns, MIDDLEWARE=middleware, **NAMED) as face, face.open(path) as waiting:
        until(lambda: "waits" in dict(django_project.events))
        assert b"hello\n" == face.ask("/hello").body  # in the only thread
        assert "en" == face.ask("/async_state").json()["before"]["language"]
        waiting.leave()


def test_an_urlconf_that_cannot_be_imported_is_shown_as_ever() -> None:
    """By the other handler."""
    with served(ROOT_URLCONF="nowhere.urls", **NATIVE) as face:
        assert 500 == face.ask("/async_hello").status or isinstance(face.ask("/async_hello").error, ModuleNotFoundError)


@sync_and_async_middleware
def counting_middleware(get_response: Any) -> Any:
    """Asks the database when it is made, as some do for their settings."""
    connection.ensure_connection()
    connection.close()
    made.append(threading.get_ident())
    if iscoroutinefunction(get_response):

        async def middleware(request: Any) -> Any:
            return await get_response(request)

        return middleware
    return get_response


made: list[int] = []


def test_middleware_is_made_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however many requests come first; Django lets nobody use the database on a loop."""
    monkeypatch.setattr(django_project, "counting_middleware", counting_middleware, raising=False)
    made.clear()
    with served(MIDDLEWARE=["support.django_project.counting_middleware"]) as face, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: face.ask("/async_hello"), range(8)))
        assert {b"hello\n"} == {reply.body for reply in replies}
    for_sync, for_async = made
    assert face._thread.ident not in (for_sync, for_async)


def test_threads_end_with_the_server() -> None:
    """Also those that streams have taken."""
    with served(**NATIVE) as face:
        face.ask("/async_orm_stream")
        face.ask("/hello")
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("bridge-")])
