"""The client of the lifespan protocol: what each kind of application leads to, on asyncio and on trio."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from bridge._lifespan_client import LifespanClient, lifespan_scope
from bridge._translate.lifespan import FAILED, RUNNING, STARTING, STOPPED, STOPPING
from bridge.errors import ApplicationProtocolError, LifespanFailed
from support.patience import PATIENCE

pytestmark = pytest.mark.anyio

# Seconds until what has not happened is taken for a hang.
STARTED, STOPPED_WELL = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}
NO_START = {"type": "lifespan.startup.failed", "message": "no database"}
NO_STOP = {"type": "lifespan.shutdown.failed", "message": "lost a write"}


def app_of(*steps: Any) -> Any:
    """An app that receives at each None, sends each event, raises each exception, awaits each function."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            if step is None:
                await receive()
            elif isinstance(step, BaseException):
                raise step
            elif callable(step):
                await step()
            else:
                await send(dict(step))

    return app


@contextlib.asynccontextmanager
async def running(*steps: Any, **options: Any) -> AsyncIterator[LifespanClient]:
    """Its client, with the startup over; in the end its task is cancelled if it goes on."""
    client = LifespanClient(app_of(*steps), lifespan_scope({}), **options)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(client.run)
            await client.started.wait()
            yield client
            group.cancel_scope.cancel()


async def shut_down(client: LifespanClient) -> None:
    client.ask_shutdown()
    await client.stopped.wait()


async def test_from_startup_to_shutdown() -> None:
    kinds = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["pool"] = 1
        for answer in (STARTED, STOPPED_WELL):
            kinds.append((await receive())["type"])
            await send(answer)

    state: dict[str, Any] = {}
    seen = []
    client = LifespanClient(app, lifespan_scope(state), on_started=lambda: seen.append(client.state))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(client.run)
            await client.started.wait()
            assert (["lifespan.startup"], {"pool": 1}, [RUNNING]) == (kinds, state, seen)
            assert not client.stopped.is_set()
            await shut_down(client)
            await client.ended.wait()

    assert ["lifespan.startup", "lifespan.shutdown"] == kinds
    assert (STOPPED, None, None, False) == (client.state, client.failure, client.error, client.unsupported)
    assert [RUNNING] == seen, "it is told once"


async def test_the_shutdown_is_asked_for_before_the_app_asks() -> None:
    """An app may be at other things; what it receives next is the shutdown."""
    gate = anyio.Event()
    async with running(None, STARTED, gate.wait, None, STOPPED_WELL) as client:
        client.ask_shutdown()
        gate.set()
        await client.stopped.wait()
        assert STOPPED == client.state


@pytest.mark.parametrize(
    ("steps", "received"), [((LookupError("only http"),), False), ((None, LookupError("at the start")), True)]
)
async def test_an_exception_says_that_there_is_no_lifespan(steps: Any, received: bool) -> None:
    """ASGI Lifespan, "Scope": the server must continue."""
    async with running(*steps) as client:
        assert (True, received, None) == (client.unsupported, client.received, client.failure)
        assert steps[-1] is client.error
        assert client.stopped.is_set()


@pytest.mark.parametrize("steps", [(), (None,)])
async def test_a_call_that_returns_says_so_too(steps: Any) -> None:
    async with running(*steps) as client:
        assert (True, None, None) == (client.unsupported, client.failure, client.error)


async def swallowed(send: Any, event: Any) -> None:
    with contextlib.suppress(ApplicationProtocolError):
        await send(event)


@pytest.mark.parametrize("event", [{"type": "http.response.start", "status": 404, "headers": []}, {}, "text"])
async def test_an_app_that_answers_with_something_else_has_none(event: Any) -> None:
    """It does not look at the type of its scope; and may wait for its request's end for ever."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await swallowed(send, event)
        await receive()

    client = LifespanClient(app, lifespan_scope({}))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(client.run)
            await client.started.wait()
            assert not client.ended.is_set()
            group.cancel_scope.cancel()

    assert (True, None, None) == (client.unsupported, client.failure, client.broken)
    assert isinstance(client.error, ApplicationProtocolError)


async def test_a_startup_that_fails() -> None:
    async with running(None, NO_START) as client:
        assert FAILED == client.state
        assert "the application's startup failed: no database" == str(client.failure)
        assert client.stopped.is_set()
        assert not client.unsupported


async def test_a_startup_that_fails_and_raises_has_failed() -> None:
    """As Starlette does it: the event is for the server, the exception for whoever looks at the traceback."""
    async with running(None, NO_START, LookupError("why")) as client:
        await client.ended.wait()
        assert "the application's startup failed: no database" == str(client.failure)
        assert not client.unsupported


async def test_a_shutdown_that_fails() -> None:
    async with running(None, STARTED, None, NO_STOP) as client:
        await shut_down(client)
        assert (FAILED, "the application's shutdown failed: lost a write") == (client.state, str(client.failure))


@pytest.mark.parametrize("answer", [STOPPED_WELL, NO_STOP])
async def test_one_that_says_that_it_has_stopped_and_stays(answer: Any) -> None:
    """Its answer counts, and not its end."""
    async with running(None, STARTED, None, answer, anyio.sleep_forever) as client:
        await shut_down(client)
        assert not client.ended.is_set()


async def test_a_shutdown_that_raises_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    error = LookupError("at the stop")
    async with running(None, STARTED, None, error, name="the shop") as client:
        await shut_down(client)
        assert "the application's shutdown raised LookupError: at the stop" == str(client.failure)
        assert client.failure is not None
        assert error is client.failure.__cause__
        assert STOPPING == client.state
    assert ["the shop: the application's shutdown raised LookupError: at the stop"] == caplog.messages


@pytest.mark.parametrize("error", [None, LookupError("oops"), SystemExit("of the app")])
async def test_one_that_ends_while_it_is_served_is_logged(
    error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(None, STARTED, *([] if error is None else [error]), name="the shop") as client:
        await client.ended.wait()
        assert (RUNNING, error, None) == (client.state, client.error, client.failure)
        assert client.stopped.is_set()
    assert ["the shop ended its lifespan before it was asked to shut down"] == caplog.messages


@pytest.mark.parametrize("steps", [(None, STARTED), (None, STARTED, None)])
async def test_who_cancels_it_needs_no_log(steps: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A server that ends its loop, say: the application has done nothing wrong."""
    caplog.set_level(logging.INFO, "bridge")
    reached = anyio.Event()

    async def wait() -> None:
        reached.set()
        await anyio.sleep_forever()

    async with running(*steps, wait) as client:
        client.ask_shutdown()
        await reached.wait()
    assert client.ended.is_set()
    assert (None, []) == (client.failure, caplog.messages)


@pytest.mark.parametrize("steps", [(), (None,)])
async def test_a_startup_that_was_cancelled_is_a_failure(steps: Any) -> None:
    """It says nothing about what the application supports."""
    client = LifespanClient(app_of(*steps, anyio.sleep_forever), lifespan_scope({}))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(client.run)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert (STARTING, False) == (client.state, client.unsupported)
    assert isinstance(client.failure, LifespanFailed)
    assert "ended its lifespan before its startup was complete" in str(client.failure)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((asyncio.CancelledError(),), "before its startup was complete"),
        ((None, STARTED, None, asyncio.CancelledError("of its own")), "shutdown raised CancelledError: of its own"),
    ],
)
async def test_a_cancellation_of_the_apps_own_is_its_failure(steps: Any, said: str) -> None:
    """Nobody has cancelled the task: asyncio's timeouts may end like this."""
    async with running(*steps) as client:
        client.ask_shutdown()
        await client.ended.wait()
        assert said in str(client.failure)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_loop_that_ends_is_nobodys_fault(caplog: pytest.LogCaptureFixture) -> None:
    """What is left of its tasks is closed, and not cancelled."""
    client = LifespanClient(app_of(None, STARTED, None), lifespan_scope({}))
    coroutine = client.run()
    coroutine.send(None)
    coroutine.close()
    assert (RUNNING, None, []) == (client.state, client.failure, caplog.messages)


@pytest.mark.parametrize("last", [NO_STOP, STOPPED_WELL])
async def test_what_an_app_says_to_a_cancellation_is_no_error(last: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Starlette says that its shutdown has failed, to nobody; the loop of a test ends so under a nested adapter."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        try:
            await receive()
        except BaseException:
            await send(last)
            raise

    client = LifespanClient(app, lifespan_scope({}))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(client.run)
            await client.started.wait()
            group.cancel_scope.cancel()
    assert client.ended.is_set()
    assert (RUNNING, None, None, []) == (client.state, client.failure, client.broken, caplog.messages)


async def test_the_outcome_of_a_test_does_not_say_that_there_is_no_lifespan() -> None:
    """ASGI Lifespan says so of an exception; `pytest.fail` is none, and is for the test."""
    outcome = pytest.fail.Exception("of the test")
    async with running(None, outcome) as client:
        assert (False, outcome) == (client.unsupported, client.error)
        assert client.failure is not None
        assert client.failure.__cause__ is outcome


@pytest.mark.parametrize("state", [STARTING, RUNNING])
async def test_an_event_out_of_order_is_an_error_in_the_app(state: str, caplog: pytest.LogCaptureFixture) -> None:
    errors = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if state is RUNNING:
            await send(STARTED)
        with pytest.raises(ApplicationProtocolError) as raised:
            await send(STOPPED_WELL)
        errors.append(raised.value)
        if state is STARTING:
            await send(STARTED)
        await receive()

    client = LifespanClient(app, lifespan_scope({}))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(client.run)
            await client.started.wait()
            client.ask_shutdown()
            await client.ended.wait()

    assert [client.broken] == errors
    assert not client.unsupported
    assert (state is RUNNING) is ("the application broke the lifespan protocol" in caplog.messages)


def test_it_can_be_made_where_no_loop_runs() -> None:
    """`AsgiToWsgi` makes it in a callback of its loop, outside any task."""
    calls: list[Callable[[], object]] = []
    client = LifespanClient(app_of(None, STARTED, None, STOPPED_WELL), lifespan_scope({}), on_started=calls.clear)
    client.ask_shutdown()
    asyncio.run(client.run())
    assert STOPPED == client.state
