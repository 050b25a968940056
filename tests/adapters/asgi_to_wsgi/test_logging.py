"""What is logged and counted."""

import asyncio
import sys
from contextvars import Context
from typing import Any

import pytest

from bridge import ClientDisconnected
from bridge._asgi_to_wsgi.app_runner import AppRunner
from support.asgi_apps import chunk, end, hello, reply, start
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import Flag, LogWatch, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


class TestObservability:
    """What the adapter tells of itself."""

    @pytest.mark.usefixtures("looks_often")
    def test_a_blocked_loop_is_logged_with_its_stack(self, log: LogWatch) -> None:
        go_on = Flag()

        def the_culprit() -> None:
            go_on.wait()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            the_culprit()
            await reply(send)

        with adapted(app, slow_warning=0.01) as adapter, Served(adapter) as served:
            ended = served.begin()
            log.wait_for("WARNING", "the event loop has been blocked", "the_culprit")
            assert adapter.stats().longest_block > 0.01
            go_on.set()
            ended()
            served.close()

        assert 1 == len(log.having("has been blocked", "the_culprit"))
        assert adapter.stats().longest_block > 0.01

    @pytest.mark.usefixtures("looks_often")
    def test_the_request_that_blocks_the_loop_is_named(self, log: LogWatch) -> None:
        """By method and path; the query string may hold secrets. The request of another is not to blame."""
        go_on, waiting = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/app/r\xfcckw\xe4rts":
                go_on.wait()
            else:
                waiting.set()
                await receive()
                await receive()
            await reply(send)

        blocking = environ_for("POST", "/r\xc3\xbcckw\xc3\xa4rts", SCRIPT_NAME="/app", QUERY_STRING="token=secret")
        idle = environ_for("GET", "/idle")
        with (
            adapted(app, slow_warning=0.01) as adapter,
            Served(adapter, idle) as other,
            Served(adapter, blocking) as served,
        ):
            waits = other.begin()
            waiting.wait()
            ended = served.begin()
            line = log.wait_for("has been blocked", "by POST '/app/r\xfcckw\xe4rts'; its thread")
            go_on.set()
            ended()
            served.close()
            adapter.close()
            with pytest.raises(ClientDisconnected):
                waits()

        assert "secret" not in line
        assert "/idle" not in line

    @pytest.mark.usefixtures("looks_often")
    def test_a_block_that_follows_another_is_logged_too(self, log: LogWatch, monkeypatch: pytest.MonkeyPatch) -> None:
        """No thread has looked in between, when the loop was free."""
        entered, goes_on = {"/1": Flag(), "/2": Flag()}, {"/1": Flag(), "/2": Flag()}
        runners: list[AppRunner] = []
        look = AppRunner.log_if_blocked
        monkeypatch.setattr(AppRunner, "log_if_blocked", lambda runner: runners.append(runner))

        async def app(scope: Any, receive: Any, send: Any) -> None:
            entered[scope["path"]].set()
            goes_on[scope["path"]].wait()
            await reply(send)

        def blocked() -> bool:
            runners[0].loop.post(runners[0])
            return runners[0].loop.blocked_for > 0.01  # type: ignore[attr-defined]

        with (
            adapted(app, slow_warning=0.01) as adapter,
            Served(adapter, environ_for("GET", "/1")) as first,
            Served(adapter, environ_for("GET", "/2")) as second,
        ):
            first_called = first.begin()
            entered["/1"].wait()
            second_called = second.begin()
            until(lambda: runners)
            for path in ("/1", "/2"):
                entered[path].wait()
                until(blocked)
                for _ in range(2):
                    look(runners[0])
                goes_on[path].set()
            first_called()
            second_called()
            first.close()
            second.close()

        assert ["GET '/1'", "GET '/2'"] == [line.partition(" by ")[2][:8] for line in log.having("has been blocked")]

    @pytest.mark.usefixtures("looks_often")
    @pytest.mark.parametrize("inherits", [True, False])
    def test_a_task_that_the_request_has_started_blocks_the_loop(self, log: LogWatch, inherits: bool) -> None:
        """Where Python does not say whose task it is (before 3.12), those are named that are in progress."""
        go_on = Flag()

        async def helper() -> None:
            go_on.wait()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if inherits:
                await asyncio.gather(helper())
            else:
                await asyncio.create_task(helper(), context=Context())
            await reply(send)

        with adapted(app, slow_warning=0.01) as adapter, Served(adapter, environ_for("GET", "/a")) as served:
            ended = served.begin()
            named = inherits and sys.version_info >= (3, 12)
            expected = "by GET '/a'; its thread" if named else ", with GET '/a' in progress; its thread"
            log.wait_for("has been blocked", expected)
            go_on.set()
            ended()
            served.close()

    @pytest.mark.usefixtures("looks_often")
    def test_slow_requests_on_a_free_loop_are_no_warning(self, log: LogWatch) -> None:
        looked = Flag()

        def client_disconnected() -> bool:
            looked.set()  # the thread looks after the client and after the loop in one go
            return False

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await looked.waited()
            await asyncio.sleep(0.05)
            await reply(send)

        with adapted(app, slow_warning=0.01) as adapter:
            ask(adapter, environ_for("GET", "/", waitress__client_disconnected=client_disconnected))

        assert [] == log.complaints()

    def test_stats_are_a_frozen_record_of_counts(self) -> None:
        with adapted(hello) as adapter:
            stats = adapter.stats()
            assert (0, 0, 0) == (stats.tasks, stats.busy, stats.served)
            ask(adapter)
            with pytest.raises(AttributeError):
                stats.served = 7  # type: ignore[misc]
            until(lambda: adapter.stats().busy == 0)
            assert 1 == adapter.stats().served
        assert (1, 0) == (adapter.stats().served, adapter.stats().tasks)

    def test_tasks_and_busy_requests_are_counted(self) -> None:
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"x")
            await go_on.waited()
            await end(send)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call().next()
            assert (1, 1, 0) == (adapter.stats().tasks, adapter.stats().busy, adapter.stats().served)
            go_on.set()
            assert served.next() is None
            served.close()
