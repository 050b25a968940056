"""Real servers for the tests, one function for each: a process on loopback, as its page in docs/servers/ sets it up.

Each is a context manager that yields a `Server` once it answers, and stops it with SIGTERM at the end. A server that
does not start, dies, does not stop within its grace or leaves a process behind is an `AssertionError` with its log.
"""

from servers.apache import *  # noqa: F403
from servers.asgi import *  # noqa: F403
from servers.connection import Address, Connection
from servers.http2 import Http2Connection, Stream, StreamReset
from servers.nginx import *  # noqa: F403
from servers.process import GRACE, Running, Server
from servers.wsgi import *  # noqa: F403

MIB = 2**20

__all__ = [
    "GRACE",
    "MIB",
    "Address",
    "Connection",
    "Http2Connection",
    "Running",
    "Server",
    "Stream",
    "StreamReset",
]
