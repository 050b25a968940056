"""The end of a runner, where something else has come before: a cancellation of its request, or a signal."""

import asyncio
from typing import Any

import pytest

from bridge import AsgiToWsgi
from bridge._asgi_to_wsgi.app_runner import AppRunner
from support.asgi_apps import chunk, hello, start
from support.scripted_wsgi_server import Served, ask
from support.waiting import FOREVER, Flag, LogWatch, Work, bounded

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


def test_a_request_that_was_cancelled_before_cleans_up_to_the_end(log: LogWatch) -> None:
    """A second cancellation would end its cleanup. Both come at once if the grace ends with the shutdown's time."""
    go_on, cleaning = Flag(), Flag()
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await chunk(send, b"first")
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            try:
                await go_on.waited()
                events.append("cleaned")
            except asyncio.CancelledError:
                events.append("cancelled again")

    adapter = AsgiToWsgi(app, shutdown_timeout=0.05, disconnect_grace=0.01, lifespan="off")
    with Served(adapter) as served:
        assert b"first" == served.call().next()
        served.close()
    cleaning.wait()
    closing = Work(adapter.close)
    log.wait_for("cancelling 1 task")
    go_on.set()
    closing.result()

    assert ["cleaned"] == events


def test_another_close_after_a_signal_has_ended_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it waits: the next one does not wait for it."""
    close = AppRunner.close

    def interrupted(runner: AppRunner, timeout: float, *, at_exit: bool) -> None:
        close(runner, timeout, at_exit=at_exit)
        raise KeyboardInterrupt

    monkeypatch.setattr(AppRunner, "close", interrupted)
    adapter = AsgiToWsgi(hello, shutdown_timeout=FOREVER)
    ask(adapter)
    with pytest.raises(KeyboardInterrupt):
        bounded(adapter.close)
    bounded(adapter.close)
