"""A context for each request. The threads of a server have one for all, in which a request would see those before it.

Django's WSGI handler leaves the language, the time zone and everything else in the thread. Its ASGI handler does not.
But the clients of the caches have to outlive a request, because they hold connections.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar, Token, copy_context
from typing import Any, Final
from weakref import WeakKeyDictionary

from asgiref.local import _rehome, _Storage
from django.core.cache import caches
from django.http.response import HttpResponseBase

from bridge._types import Environ, StartResponse
from bridge._wsgi_to_asgi import AsyncBody


class _Thread(threading.local):
    """What this module keeps for one thread of a server."""

    # What the variable below holds between the requests of this thread.
    caches: Any = None
    # The variables with which a failed request is shown, until the next request begins.
    shown: tuple[tuple[ContextVar[Any], Token[Any]], ...] = ()


_all: Any = caches
# Where Django keeps the caches that a thread or a task has made.
_CACHES: Final[ContextVar[Any]] = _all._connections._storage._data
_thread: Final = _Thread()
# How many requests at once can leave their caches to later ones on one loop: the number of threads by default.
_KEPT_CACHES: Final = 40


def find_caches() -> None:
    """Let the request that begins in this thread find the caches of those before it."""
    kept = _thread.caches
    if kept is not None:
        _CACHES.set(kept)


def keep_caches() -> None:
    """Keep what the request that ends in this thread has made."""
    _thread.caches = _CACHES.get(None)


def caches_made() -> bool:
    """Whether this context has any."""
    return _CACHES.get(None) is not None


def leave_caches() -> None:
    """Drop the caches, which are for one thread: the request continues elsewhere, and makes its own."""
    if caches_made():
        _CACHES.set(None)


class LoopCaches:
    """The caches of requests that ran on an event loop, for later requests there.

    Two requests at once must not use the same cache of Django, so each request has its own.
    """

    def __init__(self) -> None:
        self._free: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Any]] = WeakKeyDictionary()

    def find(self) -> list[Any]:
        """Give the request that begins in this task what an earlier one has left. Returns where to leave it again."""
        free = self._free.setdefault(asyncio.get_running_loop(), [])
        if free:
            _CACHES.set(_rehome(free.pop()))
        return free


def keep_caches_in(free: list[Any]) -> None:
    """Leave the caches of the request that ends in this context to the next one."""
    made = _CACHES.get(None)
    if made is not None and len(free) < _KEPT_CACHES:
        free.append(made)


def isolated(
    handler: Callable[[Environ, StartResponse], Any], environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    """Call `handler` in a context of its own, in which the body is also made and closed."""
    context = copy_context()
    body: Any = context.run(handler, environ, start_response)
    # A server may recognize its own file wrapper by the type.
    return Body(context, body) if isinstance(body, HttpResponseBase | AsyncBody | Nothing) else body


class Body:
    """The iterable `body`, in `context`. `at_end` is called after the last chunk."""

    def __init__(self, context: "Context | Shown", body: Any, at_end: Callable[[], object] | None = None) -> None:
        self._context = context
        self._body = body
        self._at_end = at_end

    def __iter__(self) -> Iterator[bytes]:
        run = self._context.run
        iterator: Iterator[bytes] = run(iter, self._body)
        while (chunk := run(next, iterator, None)) is not None:
            yield chunk
        if self._at_end is not None:
            self._at_end()

    def close(self) -> None:
        """Close it (PEP 3333)."""
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)


class Nothing:
    """The body of a response without a body, for WSGI. `close` releases what the response holds.

    It is one empty chunk, because some servers fail if there is no chunk.
    """

    def __init__(self, close: Callable[[], object]) -> None:
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter((b"",))


class Shown:
    """A context whose variables the server's thread has while it logs an error of the request.

    An agent that has reported the error remembers that in the context, so as not to report the log line too.
    """

    def __init__(self) -> None:
        shown, _thread.shown = _thread.shown, ()
        for variable, token in reversed(shown):
            with suppress(ValueError):  # set in another context: the server itself has one for each request
                variable.reset(token)
        self._context = copy_context()

    def run(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Like `Context.run`."""
        try:
            return self._context.run(function, *args)
        except StopIteration:
            raise
        except BaseException:
            changed = [(variable, value) for variable, value in self._context.items() if _is_news(variable, value)]
            _thread.shown += tuple((variable, variable.set(value)) for variable, value in changed)
            raise


def _is_news(variable: ContextVar[Any], value: object) -> bool:
    # The content of asgiref's Local belongs to one thread and one request.
    return not isinstance(value, _Storage) and variable.get(None) is not value
