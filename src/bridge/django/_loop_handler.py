"""Django's own async chain, on the event loop of an ASGI server; a thread is taken only where something needs one."""

import threading
from contextvars import copy_context
from typing import Any, NoReturn

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core import signals
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import get_path_info, get_script_name
from django.db import close_old_connections, reset_queries
from django.http import FileResponse
from django.urls import set_script_prefix

from bridge._asgi_to_wsgi.portal import Portal
from bridge._concurrency.call_thread import Side
from bridge._translate.response_to_events import Items
from bridge._types import Environ, Scope
from bridge._wsgi_to_asgi.dispatchers import run_in_thread
from bridge._wsgi_to_asgi.loop_response import LoopWork
from bridge._wsgi_to_asgi.responder import Exchange
from bridge.django import _modes, _streams
from bridge.django._agents import make_request
from bridge.django._handler import BLOCK, headers
from bridge.django._isolation import LoopCaches, keep_caches_in
from bridge.django._request import Request
from bridge.django._settings import Settings
from bridge.django._signals import closes_at_once, only_django_listens, start_on_loop


class LoopHandler(BaseHandler):
    """Knows which requests run on the loop from their start, and runs their middleware and view there."""

    request_class = Request

    def __init__(self, portal: Portal, chosen: Settings) -> None:
        self.portal = portal
        self._named = chosen.on_loop
        self.loaded = False
        self._loading = threading.Lock()
        self.caches = LoopCaches()
        self._native = all(map(_modes.is_native, settings.MIDDLEWARE))

    def takes(self, environ: Environ) -> bool:
        """Whether the view is async, and marked or in a chain that needs no thread."""
        if not (self._native or self._named or _modes.marked):
            return False
        try:
            view = _modes.view_at(get_path_info(environ) or "/")
        except Exception:
            # There is none, or the URLconf cannot be imported: the other handler shows what is wrong.
            return False
        return iscoroutinefunction(view) and (self._native or _modes.is_on_loop(view, self._named))

    def make_request(self, environ: Environ) -> Request:
        """The request for the chain."""
        request: Request = make_request(self.request_class, environ)
        request._portal = self.portal
        return request

    def load(self) -> None:
        """Make the chain, in a thread: middleware may use the database when it is made.

        Not before there is a request for it: what a project never runs is not to be made a second time.
        """
        with self._loading:
            if not self.loaded:
                self.load_middleware(is_async=True)
                self.loaded = True


class LoopExchange(Exchange):
    """One request that has no thread of its own."""

    collects = True

    def __init__(self, side: Side, handler: LoopHandler, environ: Environ, scope: Scope) -> None:
        super().__init__(side, _no_app, environ, scope)
        self._handler = handler

    def start(self) -> None:
        """Start the task that makes the response."""
        self._begun = True
        self.stream = _Chain(self, self._handler)
        self.stream.start()
        self.side.look_after(self)

    def abandon(self) -> None:
        """Nobody listens any more."""
        if self.stream is not None:
            self.gone = self.gone or not self.stream.done
            self.stream.abandon()
            self.wake()

    def answer(self, response: Any) -> Items:
        """Begin the response; the items of it where it is known as a whole."""
        self._response.start_response(f"{response.status_code} {response.reason_phrase}", headers(response))
        return () if response.streaming else self._response.whole([response.content])

    def finish(self, items: Items) -> None:
        """There will be no more than `items` and what was told."""
        if not self.finished:
            self.whole = items
            self.finished = True
            self.side.calls.pop(self, None)
            self.wake()

    @property
    def environ(self) -> Environ:
        """The environ, for the request."""
        return self._environ


class _Chain(LoopWork):
    """Middleware, view and response of one request."""

    taker: LoopExchange

    def __init__(self, exchange: LoopExchange, handler: LoopHandler) -> None:
        super().__init__(exchange, exchange._response, copy_context(), _enter)
        self._handler = handler
        self._made: Any = None
        self._caches: list[Any] | None = None

    async def work(self) -> None:
        exchange, handler = self.taker, self._handler
        if not handler.loaded:
            await run_in_thread(exchange.side, handler.load)
        if exchange.spool is not None:
            await run_in_thread(exchange.side, exchange.open_spool)
        environ = exchange.environ
        self._caches = handler.caches.find()
        set_script_prefix(get_script_name(environ))
        await start_on_loop(type(handler), environ)
        request = handler.make_request(environ)
        try:
            response: Any = await handler.get_response_async(request)
        except BaseException:
            request.close()
            raise
        self._made = response
        response._handler_class = type(handler)
        items = exchange.answer(response)
        if items:
            exchange.finish(items)
            return
        if isinstance(response, FileResponse):
            response.block_size = max(response.block_size, BLOCK)
        await self.send(_streams.async_parts(response) if response.is_async else _streams.on_loop(response))

    def end(self) -> None:
        try:
            if self._made is not None:
                self._made.close()
            else:
                signals.request_finished.send(sender=type(self._handler))
        finally:
            if self._caches is not None:
                keep_caches_in(self._caches)
            self.taker.clean_up()

    def close(self) -> None:
        """As ever; but what took no thread so far needs none for its end."""
        self.taker.finish(())
        made = self._made
        quick = only_django_listens(signals.request_finished) if made is None else closes_at_once(made)
        if self.lease.taken or self.taker.spool is not None or not quick:
            super().close()
        else:
            self.lease.end(self.end_here)
            self.context.run(self.end_here)


def _enter() -> None:
    """What `request_started` has Django do in a request's thread."""
    reset_queries()
    close_old_connections()


def _no_app(_environ: Environ, _start_response: object) -> NoReturn:
    raise AssertionError("a request on the loop has no WSGI application")
