"""The counts that an adapter reports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStats:
    """`WsgiToAsgi.stats()`, for this process.

    alive, busy, idle: worker threads that exist, that run a request, that wait for a request. waiting: requests that no
    thread has taken yet. The others count requests since the start: served (the app's response was sent completely),
    rejected (refused by the adapter: 400, 413, 431, 503), client_disconnects (the client left first), aborted (the app
    or the server failed).
    """

    alive: int
    busy: int
    idle: int
    waiting: int
    rejected: int
    client_disconnects: int
    aborted: int
    served: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStats:
    """`AsgiToWsgi.stats()`, for this process.

    tasks: tasks of the private loop now. longest_block: the longest time in seconds that the loop took to notice a
    request, because a callback blocked it. busy: requests whose app has not returned yet. The others count requests
    since the start, as in `ThreadStats`.
    """

    tasks: int
    longest_block: float
    busy: int
    rejected: int
    client_disconnects: int
    aborted: int
    served: int


@dataclass(slots=True)
class Counters:
    """The counts of one event loop. Only that loop writes them, because `+=` of two threads at once can lose one."""

    served: int = 0
    rejected: int = 0
    client_disconnects: int = 0
    aborted: int = 0

    def add(self, other: "Counters") -> None:
        """Add the counts of another loop."""
        self.served += other.served
        self.rejected += other.rejected
        self.client_disconnects += other.client_disconnects
        self.aborted += other.aborted
