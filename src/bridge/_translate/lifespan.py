"""The order of the lifespan protocol, for the side that asks: a server, towards an ASGI application."""

from typing import Final

from bridge._types import Event
from bridge.errors import ApplicationProtocolError, LifespanFailed

# Which answers of the application a server may get in which state, and where they lead (ASGI Lifespan).
STARTING, RUNNING, STOPPING, STOPPED, FAILED = "starting", "running", "stopping", "stopped", "failed"
ORDER: Final = {
    STARTING: {"lifespan.startup.complete": RUNNING, "lifespan.startup.failed": FAILED},
    RUNNING: {},
    STOPPING: {"lifespan.shutdown.complete": STOPPED, "lifespan.shutdown.failed": FAILED},
    STOPPED: {},
    FAILED: {},
}


class Lifespan:
    """One lifespan conversation; `failure` is set once the application has reported one."""

    __slots__ = ("failure", "state")

    def __init__(self) -> None:
        self.state = STARTING
        self.failure: LifespanFailed | None = None

    def ask_shutdown(self) -> Event:
        """The event that asks the application to shut down."""
        self.state = STOPPING
        return {"type": "lifespan.shutdown"}

    def answer(self, event: Event) -> None:
        """Take one event that the application sent; raises `ApplicationProtocolError` if it is no answer."""
        kind = event["type"]
        following = ORDER[self.state].get(kind)
        if following is None:
            raise ApplicationProtocolError(
                f"sent {kind!r}",
                state=f"while its lifespan was {self.state}",
                expected=" or ".join(ORDER[self.state]) or "no event",
                clause="ASGI Lifespan",
            )
        if following is FAILED:
            phase = kind.split(".")[1]
            self.failure = LifespanFailed(f"the application's {phase} failed: {event.get('message') or 'no message'}")
        self.state = following
