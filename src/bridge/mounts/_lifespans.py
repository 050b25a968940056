"""The lifespans of several ASGI applications within the one that a server runs (ASGI Lifespan)."""

import logging
from collections.abc import Sequence
from typing import Any, Final

import anyio

from bridge._translate.lifespan import RUNNING, STARTING, STOPPED, Lifespan
from bridge._types import ASGIApp, Event, Receive, Scope, Send

# How long those that have started get to stop where a later one has failed, in seconds.
_PATIENCE: Final = 30.0

_log = logging.getLogger("bridge")


class MountedLifespans:
    """Starts `apps`, which are pairs of a name and an application, one after the other, and stops them all at once.

    The failure of one ends the start: those before it are stopped, and the message names it. Each application has a
    lifespan state of its own; `enter` gives it to the application's requests.
    """

    def __init__(self, apps: Sequence[tuple[str, ASGIApp]]) -> None:
        self._apps = apps
        # In the server's state, under which the states of the applications are found.
        self._key = f"bridge.mounts.{id(self):x}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The lifespan call of a server."""
        await receive()
        state = scope.get("state")
        started: list[_Life] = []
        async with anyio.create_task_group() as group:
            for name, app in self._apps:
                life = _Life(name, app, scope)
                group.start_soon(life.run)
                await life.started()
                if life.failure is not None:
                    with anyio.move_on_after(_PATIENCE):
                        await _stop(started)
                    await send({"type": "lifespan.startup.failed", "message": life.failure})
                    group.cancel_scope.cancel()
                    return
                started.append(life)
            if state is not None:
                state[self._key] = {id(life.app): life.state for life in started if life.state}
            await send({"type": "lifespan.startup.complete"})
            await receive()
            if failures := await _stop(started):
                await send({"type": "lifespan.shutdown.failed", "message": "; ".join(failures)})
            else:
                await send({"type": "lifespan.shutdown.complete"})

    def enter(self, app: ASGIApp, scope: Scope) -> None:
        """Put the state of `app` into the scope of a request, which is the request's own (ASGI, "Lifespan State").

        What middleware has put there for this request stays.
        """
        state = scope.get("state")
        if state and (own := state.get(self._key)):
            for key, value in own.get(id(app), {}).items():
                state.setdefault(key, value)


async def _stop(lives: Sequence["_Life"]) -> list[str]:
    """Stop them all, so that one that does not end keeps no other from it; returns what failed."""
    async with anyio.create_task_group() as group:
        for life in lives:
            group.start_soon(life.stop)
    return [life.failure for life in lives if life.failure is not None]


class _Life:
    """The lifespan of one application, in a task of its own."""

    def __init__(self, name: str, app: ASGIApp, scope: Scope) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self.failure: str | None = None
        self._name = name
        self._scope = {**scope, "state": self.state} if "state" in scope else dict(scope)
        self._order = Lifespan()
        self._received = False
        self._started = anyio.Event()
        self._asked = anyio.Event()
        self._stopped = anyio.Event()

    async def run(self) -> None:
        try:
            await self.app(self._scope, self._receive, self._send)
        except (Exception, anyio.get_cancelled_exc_class()) as error:
            # A cancellation ends here too. Raised on, one that is the application's own would cancel all the others.
            self._ended(error)
        else:
            self._ended(None)
        finally:
            self._started.set()
            self._stopped.set()

    async def started(self) -> None:
        await self._started.wait()

    async def stop(self) -> None:
        self._asked.set()
        await self._stopped.wait()

    def _ended(self, error: BaseException | None) -> None:
        """The application has returned or raised: what does that say?"""
        state = self._order.state
        if state is STARTING and error is not None and not isinstance(error, Exception):
            self.failure = (
                f"{self._name}: the application ended its lifespan before its startup was complete: {error!r}"
            )
        elif state is STARTING:
            # ASGI Lifespan: an exception here means that the application does not support it; go on without.
            if error is not None and self._received:
                _log.warning("%s raised in its startup, and is served without lifespan", self._name, exc_info=error)
            elif error is not None:
                _log.info("%s does not support lifespan: %s: %s", self._name, type(error).__name__, error)
        elif state is RUNNING:
            _log.error("%s ended its lifespan before it was asked to shut down", self._name, exc_info=error)
        elif error is not None and state is not STOPPED and self.failure is None:
            self.failure = f"{self._name}: the application's shutdown raised {type(error).__name__}: {error}"
            _log.error("%s", self.failure, exc_info=error)

    async def _receive(self) -> Event:
        if not self._received:
            self._received = True
            return {"type": "lifespan.startup"}
        await self._asked.wait()
        return self._order.ask_shutdown()

    async def _send(self, event: Event) -> None:
        self._order.answer(event)
        if self._order.failure is not None:
            self.failure = f"{self._name}: {self._order.failure}"
        if self._order.state is RUNNING:
            self._started.set()
        elif self._order.state is STOPPED or self._asked.is_set():
            self._stopped.set()
        else:
            self._started.set()
