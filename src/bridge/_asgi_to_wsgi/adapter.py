"""`AsgiToWsgi`: one request from a WSGI server through an ASGI application."""

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, cast

from bridge import _arguments
from bridge._asgi_to_wsgi.app_runner import AppRunners, Options, RunnerEnded
from bridge._asgi_to_wsgi.request_events import RequestEvents
from bridge._asgi_to_wsgi.responder import AsgiResponder, refuse
from bridge._asgi_to_wsgi.websocket_options import WebSocketOptions
from bridge._concurrency.calls import Call
from bridge._concurrency.jobs import current
from bridge._concurrency.private_loop import LoopFactory
from bridge._servers.connection import Connection, complete
from bridge._stats import LoopStats
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.handshake import asks_for_upgrade, is_handshake, plain_scope
from bridge._translate.input_to_events import BodyEvents, body_length
from bridge._types import ASGIApp, Closable, Environ, Scope, StartResponse
from bridge.errors import ClientProtocolError

if TYPE_CHECKING:
    from bridge._asgi_to_wsgi.websocket import WebSocketSession


class AsgiToWsgi(Closable):
    """A WSGI application that runs the ASGI 3 application `app` on a private event loop.

    Options, with what happens at the limit:

    * `lifespan`: "auto" runs the application's lifespan if it supports it, "on" fails if it does not, "off" runs none.
    The startup runs once in each process, before its first request. If it fails, each request raises `LifespanFailed`.
    * `startup_timeout`, `shutdown_timeout` (seconds): how long the startup and the shutdown may take. At the end of the
    shutdown, tasks that still run are cancelled.
    * `disconnect_grace` (seconds): how long the application may continue after `http.disconnect` before it is
    cancelled.
    * `background`: with "after", work after the response continues on the loop, and the server's thread is free. With
    "before", the thread stays until the work is done, for at most `shutdown_timeout` seconds. Use this on hosts that
    freeze the process between requests.
    * `loop_factory`: makes the event loop, for example `uvloop.new_event_loop`. Adapters with the same factory share
    one loop.
    * `slow_warning` (seconds, or None): a callback that blocks the loop for longer is logged with its stack.
    * `pathsend`: offer the application `http.response.pathsend` if the server has `wsgi.file_wrapper`, so that the
    server sends files itself. Off by default: middleware that does not know this event loses such a response, and no
    middleware compresses it. The file is open when the application's `send` returns. If it cannot be opened, `send`
    raises an `OSError`.
    * `websocket`: "auto" serves WebSockets if the server's connection can be used and wsproto is installed. Otherwise
    such a request is plain HTTP, and one warning says why. "reject" answers it with 426 instead. "off" serves none.
    * `max_websockets` (1 or more, or None): how many may be open in the process, for all adapters together. Further
    ones get 503. None: all threads of the server but one, if the server says how many it has, and otherwise no limit.
    * `max_message` (bytes): the largest message that a client may send. A larger one closes the WebSocket with 1009.
    * `ping_interval`, `ping_timeout` (seconds, or None): how often the client is sent a ping, and how long it may then
      be silent before the WebSocket is closed with 1011.

    The attribute `app` is the application as it was given. Raises `TypeError` or `ValueError` for a wrong application
    or option. The first request starts the loop, which belongs to one process, so the server may fork.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifespan: Literal["auto", "on", "off"] = "auto",
        startup_timeout: float = 60.0,
        shutdown_timeout: float = 30.0,
        disconnect_grace: float = 3.0,
        background: Literal["after", "before"] = "after",
        loop_factory: LoopFactory | None = None,
        slow_warning: float | None = 1.0,
        pathsend: bool = False,
        websocket: Literal["auto", "reject", "off"] = "auto",
        max_websockets: int | None = None,
        max_message: int = 16 * 2**20,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
    ) -> None:
        _arguments.asgi_app(app)
        _arguments.choice("lifespan", lifespan, ("auto", "on", "off"))
        _arguments.seconds("startup_timeout", startup_timeout)
        _arguments.seconds("shutdown_timeout", shutdown_timeout)
        _arguments.seconds("disconnect_grace", disconnect_grace)
        _arguments.choice("background", background, ("after", "before"))
        _arguments.factory("loop_factory", loop_factory)
        if slow_warning is not None:
            _arguments.seconds("slow_warning", slow_warning)
        _arguments.flag("pathsend", pathsend)
        self.app: ASGIApp = app
        self._pathsend = pathsend
        self._websockets = WebSocketOptions(websocket, max_websockets, max_message, ping_interval, ping_timeout)
        self._runners = AppRunners(
            Options(
                app=app,
                lifespan=lifespan,
                startup_timeout=startup_timeout,
                shutdown_timeout=shutdown_timeout,
                disconnect_grace=disconnect_grace,
                loop_factory=loop_factory,
                slow_warning=slow_warning,
                background=background,
            )
        )
        # An adapter that nobody refers to any more, as in test suites, keeps neither its application nor a loop alive.
        weakref.finalize(self, self._runners.discard).atexit = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request of a WSGI server (PEP 3333).

        Raises what the application raises before its response begins, `LifespanFailed`, `ClientDisconnected`, and
        `RuntimeError` if it is called on its own event loop.
        """
        runner, spawn = self._runners.here()
        try:
            scope = environ_to_scope(complete(environ), outer=_outer_scope(environ), pathsend=self._pathsend)
            body = RequestEvents(BodyEvents(body_length(environ)), Connection(environ))
            session = None
            if "HTTP_UPGRADE" in environ and asks_for_upgrade(environ):
                session = self._open_session(environ) if is_handshake(environ) else None
                scope = plain_scope(scope) if session is None else scope
        except ClientProtocolError as refusal:
            runner.rejected.add()
            return refuse(refusal, start_response)
        outer = scope.get("state") or ()
        while True:
            scope["state"] = state = dict(outer)
            if runner.lifespan is not None:
                state.update(runner.lifespan.state)
            try:
                if session is not None:
                    return session.respond(runner, spawn, environ, scope, body, start_response)
                return AsgiResponder(runner, spawn, self.app, scope, body).respond(environ, start_response)
            except RunnerEnded:
                runner, spawn = self._runners.here()

    def _open_session(self, environ: Environ) -> "WebSocketSession | None":
        # Imported with the first handshake: few applications under a WSGI server ever get one.
        from bridge._asgi_to_wsgi.websocket import open_session  # noqa: PLC0415

        return open_session(environ, self.app, self._websockets)

    def stats(self) -> LoopStats:
        """Counts of tasks and requests, for this process. Raises nothing, and starts nothing."""
        return self._runners.stats()

    def close(self) -> None:
        """Shut down the application, within `shutdown_timeout` seconds. Do not call this on its event loop.

        The private loop is stopped if no other adapter uses it. A later request starts everything again. Raises
        `RuntimeError` in a callback of that loop, which would wait for itself.
        """
        self._runners.close()


def _outer_scope(environ: Environ) -> Scope | None:
    """The scope of the ASGI server, if this thread works for its event loop."""
    thread = current.thread
    if thread is None or not isinstance(thread.job, Call):
        return None
    return cast(Scope | None, environ.get("asgi.scope"))
