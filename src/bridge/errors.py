"""Errors that say who broke the contract: the application, the server, the client, or only the network.

    ProtocolError
    +-- ApplicationProtocolError    the app called its side wrongly (PEP 3333, ASGI)
    +-- ServerProtocolError         the server called its side wrongly
    +-- ClientProtocolError         the client sent what must not be accepted; carries the status to answer with
    LifespanFailed(RuntimeError)    the app reported that its startup or shutdown failed
    ClientDisconnected(OSError)     the client left; nobody broke anything

A protocol error keeps its facts as attributes. Its message is made from them: who did what in which state, what was
expected, and the clause that says so.
"""

import errno
from typing import Any

__all__ = [
    "ApplicationProtocolError",
    "ClientDisconnected",
    "ClientProtocolError",
    "LifespanFailed",
    "ProtocolError",
    "ServerProtocolError",
]


class ProtocolError(Exception):
    """A party broke PEP 3333, the ASGI specification or HTTP.

    `party` is who did it, `did` is what the party did, and `state` is the state in which it did it (may be empty).
    `expected` is what it should have done instead, and `clause` is the text that says so.
    """

    party = "a party"

    def __init__(self, did: str, expected: str, clause: str, state: str = "") -> None:
        super().__init__(did, expected, clause, state)
        self.did = did
        self.expected = expected
        self.clause = clause
        self.state = state

    def __str__(self) -> str:
        state = f" {self.state}" if self.state else ""
        return f"{self.party} {self.did}{state}; expected {self.expected} ({self.clause})"


class ApplicationProtocolError(ProtocolError):
    """The application broke the contract with its server, as PEP 3333 or the ASGI specification states it."""

    party = "the application"


class ServerProtocolError(ProtocolError):
    """The server broke the contract with its application, as PEP 3333 or the ASGI specification states it."""

    party = "the server"


class ClientProtocolError(ProtocolError):
    """The client sent a request that must be refused. `status` is the HTTP status code of the answer (4xx)."""

    party = "the client"

    def __init__(self, did: str, expected: str, clause: str, status: int = 400) -> None:
        super().__init__(did, expected, clause)
        self.args: tuple[Any, ...] = (did, expected, clause, status)
        self.status = status


class LifespanFailed(RuntimeError):
    """The application answered `lifespan.startup.failed` or `lifespan.shutdown.failed`, or its hook raised."""


class ClientDisconnected(ConnectionResetError):
    """The client closed the connection, or the server gave up the request, before the request had ended.

    It is an `OSError`, so that frameworks see that an upload broke off (Django: `UnreadablePostError`), and because
    ASGI 2.4 requires one if `send()` is called on a closed connection (HTTP & WebSocket, "Send"). Its `errno` is
    ECONNRESET, so servers recognize a client that has left, and do not log an error.
    """

    def __init__(self, message: str = "the client left") -> None:
        super().__init__(errno.ECONNRESET, message)

    def __reduce__(self) -> tuple[type["ClientDisconnected"], tuple[str], dict[str, object]]:
        return type(self), (self.strerror or "",), self.__dict__
