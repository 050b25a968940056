"""Django's own async chain, on the event loop of an ASGI server. A thread is taken only if something needs one."""

import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from importlib import import_module
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core import signals
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import get_path_info, get_script_name
from django.db import close_old_connections, reset_queries
from django.http import FileResponse
from django.urls import set_script_prefix

from bridge._asgi_to_wsgi import Portal
from bridge._concurrency.byte_queue import ByteQueue
from bridge._concurrency.calls import Dispatcher, run_in_thread
from bridge._concurrency.jobs import JobThread
from bridge._concurrency.loops import Spawn
from bridge._concurrency.per_process import PerProcess
from bridge._translate.response_to_events import WsgiResponse
from bridge._translate.urls import request_title
from bridge._types import Environ, Event, Scope
from bridge._wsgi_to_asgi import LoopResponse, RequestBody, complete_environ, log_failure, warn_of_dropped
from bridge.django import _modes, _streams
from bridge.django._agents import make_request
from bridge.django._handler import BLOCK_BYTES, headers
from bridge.django._isolation import LoopCaches, keep_caches_in
from bridge.django._request import Request
from bridge.django._settings import Settings
from bridge.django._signals import closes_at_once, only_django_listens, start_on_loop

_log = logging.getLogger("bridge")


class LoopHandler(BaseHandler):
    """Decides which requests run on the loop from their start, and runs their middleware and view there."""

    request_class = Request

    def __init__(self, portal: Portal, chosen: Settings) -> None:
        self.portal = portal
        self._named = chosen.on_loop
        self.loaded = self._looked = False
        # Looking a view up is faster than inspecting it.
        self._marked: dict[Callable[..., Any], bool] = {}
        self._imported: str | None = None  # the URLconf
        self._loading = PerProcess(threading.Lock)
        self.caches = LoopCaches()
        self._native = all(map(_modes.is_native, settings.MIDDLEWARE))

    def takes(self, environ: Environ) -> bool:
        """Whether the view is async, and either marked or in a chain that needs no thread."""
        if not (self._native or self._named or _modes.marked) or self.lacks_urls():
            return False
        try:
            view = _modes.view_at(get_path_info(environ) or "/")
        except Exception:
            # There is no view, or the URLconf has a mistake: the other handler shows what is wrong.
            return False
        if not self._looked:
            self._look()
        if not iscoroutinefunction(view):
            return False
        if self._native:
            return True
        try:
            return self._marked[view]
        except KeyError:
            marked = self._marked[view] = _modes.is_on_loop(view, self._named)
            return marked
        except TypeError:  # a callable that cannot be hashed
            return _modes.is_on_loop(view, self._named)

    def lacks_urls(self) -> bool:
        """Whether `takes` has to know views, and the URLconf is not imported yet.

        The loop must not import it, nor wait for another thread that does: modules that run async code while they are
        imported (`async_to_sync`) wait for the loop.
        """
        name = settings.ROOT_URLCONF
        if name is self._imported or not isinstance(name, str):
            return False
        if not (self._native or self._named or _modes.marked):
            return False
        # It is there from the beginning of its import.
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if name not in sys.modules or getattr(spec, "_initializing", False):
            return True
        self._imported = name
        return False

    def import_urls(self) -> None:
        """Import the URLconf, in a thread."""
        # If it cannot be imported, the other handler shows why.
        with suppress(BaseException):
            import_module(settings.ROOT_URLCONF)

    def _look(self) -> None:
        """Log once which views should run on the loop and never will. Nothing else would show it."""
        self._looked = True
        for name, reason in _modes.unfit(self._named):
            _log.warning("%s should run on the event loop (on_loop), but does not: %s", name, reason)

    def make_request(self, environ: Environ) -> Request:
        """The request for the chain."""
        request: Request = make_request(self.request_class, environ)
        request._portal = self.portal
        return request

    def load(self) -> None:
        """Make the chain, in a thread: middleware may use the database when it is made.

        Only when a request needs it: middleware that a project never runs here must not be made a second time.
        """
        with self._loading.here():
            if not self.loaded:
                self.load_middleware(is_async=True)
                self.loaded = True


class LoopResponder:
    """One request without a thread of its own: a `Responder` whose response is made by a task on the loop.

    Everything here is set and read on the loop, except what `_Chain.end` releases in a thread.
    """

    needs_whole_body = True
    thread_sensitive = logs_errors = True
    body: RequestBody | None = None
    whole: tuple[Event, bytes] | None = None
    output: ByteQueue | None = None
    error: BaseException | None = None
    finished = abandoned = begun = slow = False
    on_slow: Callable[[], object] | None = None
    spawn: Spawn | None = None
    thread: JobThread | None = None
    stream: LoopResponse | None = None
    _waiter: Awaitable[None] | None = None

    def __init__(self, dispatcher: Dispatcher, handler: LoopHandler, environ: Environ, scope: Scope) -> None:
        self.dispatcher = dispatcher
        self.environ = environ
        self.response = WsgiResponse(head_only=environ["REQUEST_METHOD"] == "HEAD", write=_no_write)
        self._handler = handler
        self._scope = scope
        complete_environ(environ, scope, self._client_disconnected)

    def start(self) -> None:
        """Start the task that makes the response."""
        self.begun = True
        self.stream = _Chain(self, self._handler)
        self.stream.start()
        self.dispatcher.watch(self)

    def abandon(self) -> None:
        """Give up the request: stop the task, and wake the task that sends."""
        if self.stream is not None:
            self.abandoned = self.abandoned or not self.stream.done
            self.stream.abandon()
            self.wake()

    def __str__(self) -> str:
        return request_title(self._scope["method"], self._scope["path"])

    @property
    def done(self) -> bool:
        """Whether nothing more will be written."""
        return self.finished and (self.stream is None or self.stream.done)

    def changed(self) -> Awaitable[None]:
        """Wait for any change. Only the task that sends the response does this."""
        self._waiter = waiter = self.dispatcher.loop.waiter()
        return waiter

    def wake(self) -> None:
        """Wake the task that sends the response, so that it looks again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self.dispatcher.loop.wake(waiter)

    def acknowledge(self, written: int) -> None:
        """Note that everything written until `output.written` had this value has been sent."""
        assert self.output is not None
        self.output.acknowledge(written)
        if self.stream is not None:
            self.stream.acknowledged()

    async def yield_to_middleware(self) -> None:
        """Do nothing: the task runs beside the middleware, and does not have to wait for it."""

    def fail(self, error: BaseException) -> None:
        """Note that the chain of middleware and view raised `error`."""
        self.error = error
        log_failure(self._scope, error, excused=self.abandoned, as_error=self.logs_errors)

    def answer(self, response: Any) -> tuple[Event, bytes] | None:
        """Begin the response. Return it if it is known completely."""
        self.response.start_response(f"{response.status_code} {response.reason_phrase}", headers(response))
        return None if response.streaming else self.response.whole([response.content])

    def finish(self, whole: tuple[Event, bytes] | None) -> None:
        """Note that nothing will follow after `whole` and what was written."""
        if not self.finished:
            self.whole = whole
            self.finished = True
            self.dispatcher.forget(self)
            self.wake()

    def open_body(self) -> None:
        """Make the spooled body the input, in a thread."""
        if self.body is not None:
            self.environ["wsgi.input"] = self.body.open()

    def clean_up(self) -> None:
        """Release what the request held."""
        if self.response.dropped:
            warn_of_dropped(self._scope, self.response)
        if self.body is not None:
            self.body.close()
        # They refer back to this object. Freed now, they need no garbage collection.
        del self.environ

    def _client_disconnected(self) -> bool:
        return self.abandoned


class _Chain(LoopResponse):
    """Middleware, view and response of one request."""

    def __init__(self, responder: LoopResponder, handler: LoopHandler) -> None:
        super().__init__(responder, responder.response, copy_context(), _enter)
        self._responder = responder
        self._handler = handler
        self._made: Any = None
        # `request_started` has been sent, or was about to be.
        self._begun = False
        self._caches: list[Any] | None = None

    async def work(self) -> None:
        responder, handler = self._responder, self._handler
        if not handler.loaded:
            await run_in_thread(responder.dispatcher, handler.load)
        if responder.body is not None:
            await run_in_thread(responder.dispatcher, responder.open_body)
        environ = responder.environ
        self._caches = handler.caches.find()
        set_script_prefix(get_script_name(environ))
        self._begun = True
        await start_on_loop(type(handler), environ)
        request = handler.make_request(environ)
        try:
            response: Any = await handler.get_response_async(request)
        except BaseException:
            request.close()
            raise
        self._made = response
        response._handler_class = type(handler)
        whole = responder.answer(response)
        if whole is not None:
            responder.finish(whole)
            return
        if isinstance(response, FileResponse):
            response.block_size = max(response.block_size, BLOCK_BYTES)
        await self.send(_streams.async_parts(response) if _streams.is_async(response) else _streams.on_loop(response))

    def end(self) -> None:
        try:
            if self._made is not None:
                self._made.close()
            elif self._begun:
                signals.request_finished.send(sender=type(self._handler))
        finally:
            if self._caches is not None:
                keep_caches_in(self._caches)
            self._responder.clean_up()

    def close(self) -> None:
        """Like the base class, but a request that has not taken a thread needs none for its end."""
        self._responder.finish(None)
        made = self._made
        if made is not None:
            quick = closes_at_once(made)
        else:
            quick = not self._begun or only_django_listens(signals.request_finished)
        if self.thread.taken or self._responder.body is not None or not quick:
            super().close()
        else:
            self.thread.end(self.end_here)
            self.context.run(self.end_here)


def _enter() -> None:
    """What Django does for `request_started` in a request's thread."""
    reset_queries()
    close_old_connections()


def _no_write(_data: bytes) -> object:
    raise AssertionError("Django's handlers write nothing")
