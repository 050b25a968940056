"""`request.bridge`: what a view can ask its server."""

from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol, TypeVar

from asgiref.sync import async_to_sync
from django.http import HttpRequest

from bridge._asgi_to_wsgi import Portal
from bridge._concurrency.jobs import current
from bridge._concurrency.loops import refuse_on_loop
from bridge._servers.connection import Connection

_R = TypeVar("_R")


class Bridge(Protocol):
    """`request.bridge`: the interface of the server, its event loop for sync code, and whether the client is there.

    A protocol, so that a test of a view can use a substitute.
    """

    @property
    def interface(self) -> Literal["asgi", "wsgi"]:
        """What the server speaks."""
        ...

    def call_async(self, function: Callable[..., Coroutine[Any, Any, _R]], /, *args: Any, **kwargs: Any) -> _R:
        """Run the async `function(*args, **kwargs)` from sync code, and wait for it. Returns and raises what it does.

        It runs on the event loop of an ASGI server, or on the private loop under a WSGI server. All requests use the
        same loop, so they can share what belongs to a loop. If the client leaves, the function is cancelled
        (`asyncio.CancelledError`). Raises `RuntimeError` in async code, which can await the function instead.
        """
        ...

    def client_disconnected(self) -> bool:
        """Whether the client is known to have left. Does not wait. For sync code that takes a long time."""
        ...


class BridgeRequest(HttpRequest):
    """For annotations: a request that has come through `bridge.django`, by its entry points or `BridgeMiddleware`.

    A view gets one of Django's requests with this attribute, and not an instance of this class.
    """

    bridge: Bridge


class ServerBridge:
    """The `Bridge` of one request."""

    def __init__(self, request: HttpRequest, portal: Portal) -> None:
        self.environ: dict[str, Any] = getattr(request, "environ", None) or {}
        self._portal = portal
        # Set when Django cancels the request.
        self.cancelled = False
        on_asgi = "asgi.scope" in self.environ or (hasattr(request, "scope") and not self.environ)
        self.interface: Literal["asgi", "wsgi"] = "asgi" if on_asgi else "wsgi"

    def call_async(self, function: Callable[..., Coroutine[Any, Any, _R]], /, *args: Any, **kwargs: Any) -> _R:
        """See `Bridge`."""
        refuse_on_loop("request.bridge.call_async() was called", "await the function instead")
        if self.interface == "asgi" and current.thread is None:
            return async_to_sync(function)(*args, **kwargs)  # a thread of asgiref's, which knows the server's loop
        result: _R = self._portal.call(self.environ, function, *args, **kwargs)
        return result

    def client_disconnected(self) -> bool:
        """See `Bridge`."""
        asked = self.environ.get("bridge.client_disconnected")
        return self.cancelled or bool(asked() if asked is not None else Connection(self.environ).has_left())
