"""Hooks as a lifespan: their order, what they are given, where they run, how they fail."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from bridge._wsgi_to_asgi.lifespan import answer_lifespan, run_hook
from support.patience import PATIENCE

pytestmark = pytest.mark.anyio


class Server:
    """Asks for both phases; `log` is what was done, in order."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.log: list[Any] = []
        self.scope = {"type": "lifespan"} if state is None else {"type": "lifespan", "state": state}
        self._asked = 0

    async def run(self, startup: Any = None, shutdown: Any = None) -> None:
        with anyio.fail_after(PATIENCE):
            await answer_lifespan(
                self.scope,
                self.receive,
                self.send,
                startup=startup,
                shutdown=shutdown,
                in_thread=self.in_thread,
                stop=self.noting("stop"),
                end=self.noting("end"),
            )

    async def receive(self) -> dict[str, str]:
        self._asked += 1
        return {"type": ("lifespan.startup", "lifespan.shutdown")[self._asked - 1]}

    async def send(self, event: Any) -> None:
        self.log.append(event["type"].removeprefix("lifespan."))
        if "message" in event:
            self.log.append(event["message"])

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        self.log.append("thread")
        return await anyio.to_thread.run_sync(function)

    def noting(self, word: str) -> Callable[[], Awaitable[None]]:
        async def note() -> None:
            self.log.append(word)

        return note

    def hook(self, word: str) -> Callable[[], None]:
        return lambda: self.log.append(word)


async def test_each_phase_is_answered_when_its_hook_has_run() -> None:
    server = Server()
    await server.run(server.hook("starts"), server.hook("stops"))
    starting, stopping = ["thread", "starts", "startup.complete"], ["thread", "stops", "end", "shutdown.complete"]
    assert [*starting, "stop", *stopping] == server.log


async def test_without_hooks() -> None:
    server = Server()
    await server.run()
    assert ["startup.complete", "stop", "end", "shutdown.complete"] == server.log


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_startup_that_raises_has_failed(is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The server learns that it failed, the log has a traceback, and the caller gets the exception, as of Starlette."""

    def fail() -> None:
        raise LookupError("no database")

    async def afail() -> None:
        fail()

    server = Server()
    with pytest.raises(LookupError, match="no database"):
        await server.run(afail if is_async else fail, server.hook("never"))
    assert ["end", "startup.failed", "LookupError: no database"] == server.log[-3:]
    assert "never" not in server.log
    assert ["the startup hook of the application raised"] == caplog.messages
    assert "in fail" in caplog.text


async def test_a_shutdown_that_raises_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise LookupError("lost a write")

    server = Server()
    with pytest.raises(LookupError, match="lost a write"):
        await server.run(None, fail)
    assert ["startup.complete", "stop", "thread", "end", "shutdown.failed", "LookupError: lost a write"] == server.log
    assert ["the shutdown hook of the application raised"] == caplog.messages


async def test_the_outcome_of_a_test_is_told_and_raised() -> None:
    """`pytest.fail` is no `Exception`, so that code under test lets it pass."""

    def fail() -> None:
        pytest.fail("of the test")

    server = Server()
    with pytest.raises(pytest.fail.Exception):
        await server.run(fail)
    assert ["end", "startup.failed", "Failed: of the test"] == server.log[-3:]


@pytest.mark.parametrize("state", [{}, None])
async def test_a_hook_that_takes_an_argument_gets_the_state(state: dict[str, Any] | None) -> None:
    """A server without lifespan state gives none: then it is a dict that nobody sees."""
    seen: list[Any] = []
    await Server(state).run(seen.append, seen.append)
    assert [{}, {}] == seen
    assert state is None or state is seen[0]
    assert seen[0] is seen[1]


class Awaiting:
    async def __call__(self, log: list[str]) -> None:
        await anyio.lowlevel.checkpoint()
        log.append("ran")


async def plain(log: list[str]) -> None:
    await Awaiting()(log)


def makes_a_coroutine(log: list[str]) -> Awaitable[None]:
    return plain(log)


@pytest.mark.parametrize(
    ("hook", "threads"),
    [
        (plain, 0),
        (Awaiting(), 0),
        (functools.partial(plain), 0),
        (makes_a_coroutine, 1),
        (lambda log: log.append("ran"), 1),
    ],
)
async def test_async_hooks_run_on_the_loop_and_others_in_a_thread(hook: Any, threads: int) -> None:
    """And what a function in a thread returns is awaited on the loop where it can be."""
    log: list[str] = []
    calls: list[Any] = []

    async def in_thread(function: Callable[[], Any]) -> Any:
        calls.append(function)
        (returned,) = await anyio.to_thread.run_sync(lambda: (function(),))  # trio refuses to return a coroutine
        return returned

    await run_hook(hook, (log,), in_thread)
    assert (["ran"], threads) == (log, len(calls))
