"""The lifespans of several ASGI applications within the one that a server runs (ASGI Lifespan)."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio

from bridge._concurrency.interrupts import may_pass
from bridge._lifespan_client import LifespanClient
from bridge._types import ASGIApp, Receive, Scope, Send
from bridge.errors import LifespanFailed

if TYPE_CHECKING:
    from anyio.abc import TaskGroup  # on CPython 3.11, it imports typing_extensions

# How long applications that have started get to stop if a later one has failed.
_STOP_SECONDS: Final = 30.0
# How long an application that has said that it failed may take to raise.
_RAISE_SECONDS: Final = 1.0

_log = logging.getLogger("bridge")


class MountedLifespans:
    """Starts `apps`, pairs of a name and an application, one after the other. Stops all of them at the same time.

    If one fails to start, those before it are stopped, and the message names the one that failed. Then its exception is
    raised, or `LifespanFailed` if there is none. If some fail to stop, the same is done for the first of them. Each
    application has its own lifespan state, which `enter` gives to its requests.
    """

    def __init__(self, apps: Sequence[tuple[str, ASGIApp]]) -> None:
        self._apps = apps
        # The key in the server's state that holds the states of the applications.
        self._key = f"bridge.mounts.{id(self):x}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the lifespan call of a server."""
        failure: BaseException | None = None
        async with anyio.create_task_group() as group:
            try:
                await self._run(scope, receive, send, group)
            except BaseException as error:
                if not may_pass(error):
                    raise
                failure = error  # raised outside the task group, which would wrap it in an exception group
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _run(self, scope: Scope, receive: Receive, send: Send, group: "TaskGroup") -> None:
        await receive()
        state = scope.get("state")
        started: list[_MountedApp] = []
        for name, app in self._apps:
            life = _MountedApp(name, app, scope)
            group.start_soon(life.run)
            await life.start()
            if life.failure is not None:
                with anyio.move_on_after(_STOP_SECONDS):
                    await _stop(started)
                reason = await life.reason()
                await send({"type": "lifespan.startup.failed", "message": life.failure})
                raise reason
            started.append(life)
        if state is not None:
            state[self._key] = {id(life.app): life.state for life in started if life.state}
        await send({"type": "lifespan.startup.complete"})
        await receive()
        failed = await _stop(started)
        if not failed:
            await send({"type": "lifespan.shutdown.complete"})
            return
        reason = await failed[0].reason()
        await send({"type": "lifespan.shutdown.failed", "message": "; ".join(str(life.failure) for life in failed)})
        raise reason

    def enter(self, app: ASGIApp, scope: Scope) -> None:
        """Put a copy of the state of `app` into the scope of a request (ASGI, "Lifespan State").

        Values that middleware has put there for this request stay.
        """
        state = scope.get("state")
        if state and (own := state.get(self._key)):
            for key, value in own.get(id(app), {}).items():
                state.setdefault(key, value)


async def _stop(lives: Sequence["_MountedApp"]) -> list["_MountedApp"]:
    """Stop all at the same time, so that one that does not end does not hold up the others. Returns those that
    failed.
    """
    for life in lives:
        life.client.ask_shutdown()
    for life in lives:
        await life.client.stopped.wait()
    return [life for life in lives if life.failure is not None]


class _MountedApp:
    """The lifespan of one application, in a task of its own."""

    def __init__(self, name: str, app: ASGIApp, scope: Scope) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        own = {**scope, "state": self.state} if "state" in scope else dict(scope)
        self.client = LifespanClient(app, own, name=name)
        self._name = name
        self._cancellation = anyio.CancelScope()

    async def run(self) -> None:
        """Run the lifespan to its end. Raises exceptions that would end the process."""
        with self._cancellation:
            await self.client.run()
        error = self.client.error
        if error is not None and not (may_pass(error) or isinstance(error, anyio.get_cancelled_exc_class())):
            raise error

    async def start(self) -> None:
        """Wait until the startup has succeeded or failed. `run` is in another task."""
        client = self.client
        await client.started.wait()
        error = client.error
        if not client.unsupported:
            return
        # ASGI Lifespan: an exception here means that the application does not support lifespan. Continue without.
        if error is not None and client.received and client.ended.is_set():
            _log.warning("%s raised in its startup, and is served without lifespan", self._name, exc_info=error)
        elif error is not None:
            _log.info("%s does not support lifespan: %s: %s", self._name, type(error).__name__, error)
        self._cancellation.cancel()

    async def reason(self) -> BaseException:
        """The exception to raise for the failure."""
        # Applications say that they have failed, and then raise the reason.
        with anyio.move_on_after(_RAISE_SECONDS):
            await self.client.ended.wait()
        error = self.client.error
        if error is not None and may_pass(error):
            return error
        failed = LifespanFailed(str(self.failure))
        if self.client.failure is not None:
            failed.__cause__ = self.client.failure.__cause__
        return failed

    @property
    def failure(self) -> str | None:
        """What has failed in the startup or shutdown."""
        failure = self.client.failure
        return None if failure is None else f"{self._name}: {failure}"
