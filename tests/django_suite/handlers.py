"""What stands in for Django's handlers and requests: `bridge.django`, in the shapes that Django's tests use."""

import asyncio
from functools import cached_property
from typing import Any

import asgiref.testing
import django.core.asgi
import django.core.handlers.asgi
import django.core.handlers.wsgi
import django.core.wsgi

import bridge._concurrency.calls
import bridge.django
from bridge._asgi_to_wsgi.portal import Portal
from bridge.django._applications import AsgiApplication
from bridge.django._handler import Handler
from bridge.django._loop_handler import LoopHandler
from bridge.django._request import Request

PORTAL = Portal.of(None)


class WSGIRequest(Request):
    """Under the name that Django's tests expect in its repr()."""

    portal = PORTAL


class WSGIHandler(Handler):
    """Made without arguments, as Django's."""

    request_class = WSGIRequest
    portal = PORTAL  # for classes whose constructor does not call this one

    def __init__(self) -> None:
        super().__init__(PORTAL)


class Application(AsgiApplication):
    """The ASGI application around handlers of the test's own."""

    def __init__(self, handler: Any, loop_handler: type[LoopHandler]) -> None:
        super().__init__(None)
        self.app = handler
        self._loop_handler.__class__ = loop_handler


class ASGIHandler(WSGIHandler):
    """A class to derive from, as Django's, whose instances are ASGI applications."""

    def __init__(self) -> None:
        super().__init__()
        # Tests that bring a class of their own derive it from ASGIRequest.
        theirs = self.request_class
        if not issubclass(theirs, Request):
            self.request_class = _request_class(theirs)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.application_around(scope, receive, send)

    @cached_property
    def application_around(self) -> Application:
        return Application(super().__call__, _loop_handler_for(self))


def _request_class(theirs: Any) -> type[WSGIRequest]:
    """A request with what theirs adds to Django's: a URLconf, or an error."""

    class TheirRequest(WSGIRequest):
        urlconf = getattr(theirs, "urlconf", None)

        def __init__(self, environ: Any) -> None:
            super().__init__(environ)
            theirs(environ["asgi.scope"], environ["wsgi.input"])

    return TheirRequest


class _SenderOf(type):
    """The class that signals name as their sender: to the test it is the class of its own handler."""

    stands_for: type

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.stands_for

    def __hash__(cls) -> int:
        return id(cls)


def _loop_handler_for(handler: ASGIHandler) -> type[LoopHandler]:
    class TheirLoopHandler(LoopHandler, metaclass=_SenderOf):
        stands_for = type(handler)
        request_class = handler.request_class

        def takes(self, environ: Any) -> bool:
            # What serves static files is no view.
            return not hasattr(handler, "serve") and super().takes(environ)

    return TheirLoopHandler


class Communicator(asgiref.testing.ApplicationCommunicator):
    """Shows header names as Django writes them: bridge sends them in lower case (ASGI HTTP, "Response Start")."""

    def __init__(self, application: Any, scope: Any) -> None:
        super().__init__(application, specified(scope))

    async def wait(self, timeout: float = 1) -> None:
        """Also for what is left to do in threads, response.close() say."""
        await super().wait(timeout)
        adapter = self.application
        if isinstance(adapter, ASGIHandler):
            adapter = adapter.application_around
        if isinstance(adapter, AsgiApplication):
            await asyncio.get_running_loop().run_in_executor(None, adapter.close)

    async def receive_output(self, timeout: float = 1) -> Any:
        event = await super().receive_output(timeout)
        if "headers" in event:
            event = {**event, "headers": [(name.title(), value) for name, value in event["headers"]]}
        return event


def specified(scope: Any) -> Any:
    """The scope with bytes for a query string that Django's tests write as text (ASGI HTTP, "Connection Scope")."""
    query = scope.get("query_string", b"")
    return {**scope, "query_string": query.encode() if isinstance(query, str) else query}


def put_in_place() -> None:
    """From here on, who imports Django's handlers and requests gets these."""
    django.core.handlers.wsgi.WSGIRequest = WSGIRequest  # type: ignore[misc]
    django.core.handlers.wsgi.WSGIHandler = django.core.wsgi.WSGIHandler = WSGIHandler  # type: ignore[misc]
    django.core.handlers.asgi.ASGIHandler = django.core.asgi.ASGIHandler = ASGIHandler  # type: ignore[misc]
    django.core.wsgi.get_wsgi_application = bridge.django.get_wsgi_application
    django.core.asgi.get_asgi_application = bridge.django.get_asgi_application
    asgiref.testing.ApplicationCommunicator = Communicator  # type: ignore[misc]


def watch_after(seconds: float) -> None:
    """Have bridge look for a client that leaves when its request has taken so long (or twice as long)."""
    bridge._concurrency.calls.TICK_SECONDS = seconds  # type: ignore[misc]
