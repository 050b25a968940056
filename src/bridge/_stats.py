"""The counts that an adapter reports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStats:
    """`WsgiToAsgi.stats()`, for this process. All fields are whole numbers.

    Values of now, which rise and fall:

    * `alive`: worker threads that exist.
    * `busy`: worker threads that run a request. At most the option `threads`.
    * `idle`: worker threads that wait for a request.
    * `waiting`: requests that no thread has taken yet. If there are more than the option `backlog`, the next gets 503.

    Requests since the start of the process, which only grow. No request is in two of them:

    * `served`: the response was sent completely. It may be an error page of the application.
    * `rejected`: the adapter has refused the request with 400, 413, 431 or 503.
    * `client_disconnects`: the client left before the end of the response.
    * `aborted`: the application or the server failed. The client got a 500, or a response that was broken off.
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
    """`AsgiToWsgi.stats()`, for this process. All fields but `longest_block` are whole numbers.

    Values of now, which rise and fall:

    * `tasks`: tasks on the private event loop, including the application's own and those of other adapters.
    * `busy`: requests whose application has not returned yet, including work after the response.

    The longest so far, which never falls:

    * `longest_block` (seconds): how long the loop took to notice a request, because a callback blocked it. A block that
    is not over yet counts too.

    Requests since the start of the process, which only grow. No request is in two of them. A WebSocket is one
    request:

    * `served`: the application has completed its response.
    * `rejected`: the adapter has refused the request.
    * `client_disconnects`: the client left before the end of the response.
    * `aborted`: the application failed before the end of its response.
    """

    tasks: int
    longest_block: float
    busy: int
    rejected: int
    client_disconnects: int
    aborted: int
    served: int


class Counters:
    """The counts of one event loop. Only that loop writes them, because `+=` of two threads at once can lose one."""

    __slots__ = ("aborted", "client_disconnects", "rejected", "served")

    def __init__(self) -> None:
        self.served = 0
        self.rejected = 0
        self.client_disconnects = 0
        self.aborted = 0

    def add(self, other: "Counters") -> None:
        """Add the counts of another loop."""
        self.served += other.served
        self.rejected += other.rejected
        self.client_disconnects += other.client_disconnects
        self.aborted += other.aborted
