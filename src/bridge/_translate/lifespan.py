"""The order of the lifespan protocol, for the server's side of an ASGI application."""

from enum import StrEnum
from typing import Final

from bridge._types import Event
from bridge.errors import ApplicationProtocolError, LifespanFailed, ServerProtocolError


class LifespanState(StrEnum):
    """How far a lifespan has come."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


STARTING, RUNNING, STOPPING, STOPPED, FAILED = LifespanState
# The event of the server. Its other event, lifespan.startup, begins STARTING.
SHUTDOWN: Final = "lifespan.shutdown"
# State x event -> state (ASGI Lifespan). Events that a state does not list are illegal in it.
ORDER: Final = {
    STARTING: {"lifespan.startup.complete": RUNNING, "lifespan.startup.failed": FAILED},
    RUNNING: {SHUTDOWN: STOPPING},
    STOPPING: {"lifespan.shutdown.complete": STOPPED, "lifespan.shutdown.failed": FAILED},
    STOPPED: {},
    FAILED: {},
}
_CLAUSE: Final = "ASGI Lifespan"


class LifespanOrder:
    """One run of the lifespan protocol. `failure` is set when the application has reported one."""

    __slots__ = ("failure", "state")

    def __init__(self) -> None:
        self.state: LifespanState = STARTING
        self.failure: LifespanFailed | None = None

    def ask_shutdown(self) -> Event:
        """The event that asks the application to shut down. Raises `ServerProtocolError` if the state does not allow
        it.
        """
        following = ORDER[self.state].get(SHUTDOWN)
        if following is None:
            raise ServerProtocolError(
                f"sent {SHUTDOWN!r}",
                state=self._while(),
                expected="lifespan.shutdown once, after the startup",
                clause=_CLAUSE,
            )
        self.state = following
        return {"type": SHUTDOWN}

    def answer(self, event: Event) -> None:
        """Take one event that the application sent. Raises `ApplicationProtocolError` if it is not an answer."""
        try:
            kind = event["type"]
        except (TypeError, LookupError):
            raise self._illegal(f"{type(event).__name__} ({event!r:.60})") from None
        following = ORDER[self.state].get(kind) if isinstance(kind, str) and kind != SHUTDOWN else None
        if following is None:
            raise self._illegal(repr(kind))
        if following is FAILED:
            phase = kind.split(".")[1]
            self.failure = LifespanFailed(f"the application's {phase} failed: {event.get('message') or 'no message'}")
        self.state = following

    def _illegal(self, what: str) -> ApplicationProtocolError:
        legal = [kind for kind in ORDER[self.state] if kind != SHUTDOWN]
        return ApplicationProtocolError(
            f"sent {what}", state=self._while(), expected=" or ".join(legal) or "no event", clause=_CLAUSE
        )

    def _while(self) -> str:
        return f"while its lifespan was {self.state}"
