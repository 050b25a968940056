"""`AsgiToWsgi`: one request from a WSGI server through an ASGI application."""

import weakref
from collections.abc import Iterable
from typing import Literal, cast

from bridge import _arguments
from bridge._asgi_to_wsgi.app_runner import AppRunners, Options, RunnerEnded
from bridge._asgi_to_wsgi.request_events import RequestEvents
from bridge._asgi_to_wsgi.responder import AsgiResponder, refuse
from bridge._asgi_to_wsgi.websocket import WebSocketOptions, open_session
from bridge._concurrency.calls import Call
from bridge._concurrency.jobs import current
from bridge._concurrency.private_loop import LoopFactory
from bridge._servers.connection import Connection, complete
from bridge._stats import LoopStats
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.input_to_events import BodyEvents, body_length
from bridge._translate.websocket import is_handshake
from bridge._types import ASGIApp, Closable, Environ, Scope, StartResponse
from bridge.errors import ClientProtocolError


class AsgiToWsgi(Closable):
    """A WSGI application that runs the ASGI 3 application `app` on a private event loop.

    Options, with what happens at the limit:

    * `lifespan`: "auto" runs the application's lifespan if it supports it, "on" fails if it does not, "off" runs none.
      The startup is run once a process, before its first request; its failure is a `LifespanFailed` for each request.
    * `startup_timeout`, `shutdown_timeout` (seconds): how long the startup and the shutdown may take. At the shutdown,
      tasks that are still at work then are cancelled.
    * `disconnect_grace` (seconds): how long the application may go on after `http.disconnect` before it is cancelled.
    * `background`: "after" lets work after the response go on on the loop, and the server's thread go; "before" has the
      thread stay until it is done, `shutdown_timeout` seconds at most: for hosts that freeze the process in between.
    * `loop_factory`: makes the event loop (`uvloop.new_event_loop`, say); adapters with the same one share one loop.
    * `slow_warning` (seconds, or None): a callback that blocks the loop for longer is logged with its stack.
    * `pathsend`: offer the application `http.response.pathsend` where the server has `wsgi.file_wrapper`, so that the
      server sends files by itself. Not by default: middleware that does not know it loses such a response, and none
      compresses it. The file is open once the application's `send` has returned; what cannot be opened is an `OSError`
      there.
    * `websocket`: "auto" serves WebSockets where the server's connection can be had and wsproto is installed; elsewhere
      such a request is plain http, and one warning says why. "reject" answers it with 426 there. "off" serves none.
    * `max_websockets` (1 or more, or None): how many may be open in the process, of all adapters; one more gets 503.
      None: all threads of the server but one, where the server tells how many it has, else no limit.
    * `max_message` (bytes): the largest message of a client; a larger one closes the WebSocket with 1009.
    * `ping_interval`, `ping_timeout` (seconds, or None): how often the client is sent a ping, and how long it may then
      be silent before the WebSocket is closed with 1011.

    `app` is the application as it was given. Raises `TypeError` or `ValueError` for a wrong application or option. The
    loop is started by the first request and is that of this process, so that the server may fork.
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
        self.app, self._pathsend = app, pathsend
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
        # An adapter that is dropped, as test suites make them, keeps neither its application nor a loop.
        weakref.finalize(self, self._runners.discard).atexit = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request of a WSGI server (PEP 3333).

        Raises what the application raises before its response begins, `LifespanFailed`, `ClientDisconnected`, and
        `RuntimeError` where it is called on its own event loop.
        """
        runner, spawn = self._runners.here()
        try:
            scope = environ_to_scope(complete(environ), outer=_outer_scope(environ), pathsend=self._pathsend)
            body = RequestEvents(BodyEvents(body_length(environ)), Connection(environ))
            session = open_session(environ, self.app, self._websockets) if is_handshake(environ) else None
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

    def stats(self) -> LoopStats:
        """Counts of tasks and requests, for this process; raises nothing, and starts nothing."""
        return self._runners.stats()

    def close(self) -> None:
        """Shut the application down, `shutdown_timeout` seconds at most; not on its event loop.

        The private loop is stopped where no other adapter uses it. A later request starts everything anew. Raises
        `RuntimeError` in a callback of that loop, which would wait for itself.
        """
        self._runners.close()


def _outer_scope(environ: Environ) -> Scope | None:
    """The scope of the ASGI server, where this thread works for its event loop."""
    thread = current.thread
    if thread is None or not isinstance(thread.job, Call):
        return None
    return cast(Scope | None, environ.get("asgi.scope"))
