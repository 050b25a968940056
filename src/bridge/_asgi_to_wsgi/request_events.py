"""The request body on its way from the server's thread, which reads it, to the task, which receives it as events."""

import enum
import logging
from collections import deque
from typing import Final

from bridge._servers.connection import Connection
from bridge._translate.input_to_events import DISCONNECT, EMPTY, BodyEvents
from bridge._types import Event

# How many bytes of the request body are read at once.
STEP_BYTES: Final = 64 * 1024
# How many events may be fed together with one that was asked for, if this needs no waiting.
_EVENTS_AHEAD: Final = 4

_log = logging.getLogger("bridge")


class Reading(enum.Enum):
    """What the thread has to do for the task.

    | state | becomes | set by |
    |---|---|---|
    | IDLE | WANTED: the task waits for an event | the loop |
    | WANTED | IDLE: an event was fed | the thread |
    | WANTED | AWAITING_CLIENT: there was nothing to read | the thread |
    | AWAITING_CLIENT | WANTED: there may be something now | the thread |

    One side at a time may change it: the loop in IDLE, the thread in the other states.
    """

    IDLE = "nothing is wanted"
    WANTED = "an event is wanted"
    AWAITING_CLIENT = "an event is wanted, and the client has to be waited for"


# Globals, because CPython 3.11 looks up a member of an enum five times slower than a global.
IDLE, WANTED, AWAITING_CLIENT = Reading


class RequestEvents:
    """The events of one request body, read in the server's thread when the task asks for them.

    The thread appends to `_events` and then posts. If the task finds no event there, it sets `reading` to WANTED,
    notifies the thread and waits. The thread sets `complete` before it posts the last event. Only the task uses
    `received_all` and `told`.
    """

    __slots__ = (
        "_body",
        "_empty",
        "_events",
        "complete",
        "connection",
        "disconnected",
        "reading",
        "received_all",
        "told",
    )

    def __init__(self, body: BodyEvents, connection: Connection) -> None:
        self.reading = IDLE
        self._empty = body.left == 0
        # Nothing more will be fed.
        self.complete = self._empty
        # The body broke off.
        self.disconnected = False
        self._body = body
        self.connection = connection
        self._events: deque[Event] | None = None
        # The task has received the last event: only `http.disconnect` can follow.
        self.received_all = False
        # The task has received `http.disconnect` because the request is over.
        self.told = False

    # -- in the server's thread

    def read_ahead(self) -> bool:
        """Feed the next event if its data is known to have arrived, so that nothing has to wait for it."""
        body = self._body
        if self.complete or body.left == 0 or not self.connection.at_hand(body.size(STEP_BYTES)):
            return False
        return self._read()

    def serve(self) -> bool:
        """Feed the event that the task waits for, and more that can be fed with it. Returns False if this has to wait
        for the client.
        """
        if not self._read():
            self.reading = AWAITING_CLIENT
            return False
        self.reading = IDLE
        # Also feed what has arrived already: one wake-up of the loop serves all of it.
        for _ in range(_EVENTS_AHEAD):
            if not self.read_ahead():
                break
        return True

    def _read(self) -> bool:
        body = self._body
        try:
            data = self.connection.read(body.size(STEP_BYTES))
        except Exception as error:
            _log.info("reading the request body failed", exc_info=error)
            data = b""
            body.left = body.left or 1  # so that this does not look like the end of the body
        if data is None:
            return False
        event = body.event(data)
        if event is DISCONNECT:
            _log.info("the request body broke off")
            self.disconnected = True
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        self.complete = not event.get("more_body", False)
        return True

    # -- on the loop

    def take(self) -> Event | None:
        """Return the next event that was fed, or None."""
        if self._empty and not self.received_all:
            self.received_all = True
            return dict(EMPTY)
        if not self._events:
            return None
        event = self._events.popleft()
        self.received_all = not event.get("more_body", False)
        return dict(event) if event is DISCONNECT else event

    @property
    def wanted(self) -> bool:
        """Ask the thread to read an event, unless it has read all or was asked before. Returns whether to notify it."""
        if self.complete or self.reading is not IDLE:
            return False
        self.reading = WANTED
        return True
