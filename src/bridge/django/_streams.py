"""The parts of a `StreamingHttpResponse`, one at a time, for a server that needs the other kind of iterator."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.signals import request_finished
from django.http.response import HttpResponseBase, StreamingHttpResponse

from bridge._asgi_to_wsgi import Portal
from bridge._concurrency.loops import aclose
from bridge._types import Environ
from bridge.django import _hops

_END: Final = object()


def async_parts(response: Any, *, content: bool = False) -> AsyncIterator[bytes]:
    """The parts of an async iterator. It is closed at the end, because response.close() does not do that.

    `content`: those of its `streaming_content`, although a class of the project may have an iteration of its own. They
    are to take the place of that content, over which such an iteration will go.
    """
    # The iterator of the view or middleware. `streaming_content` wraps it, and closing the wrapper does not close it.
    given, own = getattr(response, "_iterator", None), None
    if content or type(response).__aiter__ is StreamingHttpResponse.__aiter__:
        parts = response.streaming_content  # Django's own method would take a TypeError for a sync iterator
    else:
        own = parts = aiter(response)

    async def iterate() -> AsyncIterator[bytes]:
        try:
            async for part in parts:
                yield part
        finally:
            try:
                await aclose(own)
            finally:
                await aclose(given)

    return iterate()


def in_thread(response: Any, portal: Portal, environ: Environ, prepare: Callable[[], None]) -> Iterator[bytes]:
    """The parts of an async iterator, to take its place in a thread. They are made on the loop that `portal` finds for
    it. `prepare` is called there before, because they must not wait for the request body on the loop.
    """
    parts = async_parts(response, content=True)

    def pull() -> Iterator[bytes]:
        prepare()
        _hops.count(2)
        chunks = portal.iterate(environ, lambda: parts)
        try:
            yield from chunks
        finally:
            chunks.close()

    return pull()


def on_loop(response: Any, *, content: bool = False) -> AsyncIterator[bytes]:
    """The parts of a sync iterator, for a loop. Each is made in the request's own thread. `content`: see
    `async_parts`.
    """
    iterator = iter(response.streaming_content if content else response)
    # The iterator of the view or middleware. `streaming_content` wraps it, and closing the wrapper does not close it.
    is_djangos = content or getattr(type(response), "__iter__", None) is StreamingHttpResponse.__iter__
    given = response._iterator if is_djangos else iterator
    # If the response itself is the iterator, its `close` is not that of a generator: it ends the request.
    function = None if given is response else getattr(given, "close", None)
    # One context for all steps, so that what a generator sets in one step is there in the next, and can be reset.
    context = copy_context()
    take: Any = sync_to_async(next, thread_sensitive=True, context=context)
    close = _Close(function, context)
    # If the client leaves while a part is being sent, Django's ASGI handler does not close `pull`. Then the end of the
    # response is the last step.
    response._resource_closers[:] = [
        close if each == close.function else partial(context.run, each) for each in response._resource_closers
    ]

    async def pull() -> AsyncIterator[bytes]:
        try:
            while (part := await take(iterator, _END)) is not _END:
                yield part
        finally:
            if close.function is not None:
                await sync_to_async(close, thread_sensitive=True)()

    return pull()


def like_the_view(response: Any, portal: Portal, prepare: Callable[[], None]) -> None:
    """Have a sync iterator find the loop of `portal` in its thread, in each step and at its end, as its view did.

    `prepare` is called there before async code runs, which must not wait for the request body on the loop. A response
    of the project's own kind, which Django's WSGI handler takes too, is left as it is.
    """
    if not hasattr(response, "_iterator"):
        return
    call = partial(_on_loop_of, portal, prepare)
    response._iterator = _Steps(response._iterator, call)
    response._resource_closers[:] = [partial(call, each) for each in response._resource_closers]


def end_like_the_view(response: Any, portal: Portal) -> None:
    """Have async receivers of `request_finished` run on the loop of `portal`, as the view's async code did."""
    if any(is_async for *_, is_async in request_finished.receivers):
        close = response.close
        # Not twice, for a view may give the same response to many requests.
        response.close = _End(portal, close.replaced if isinstance(close, _End) else close)


def _on_loop_of(portal: Portal, prepare: Callable[[], None] | None, function: Callable[[], Any]) -> Any:
    installed = portal.install()
    try:
        portal.prepare(prepare)
        return function()
    finally:
        portal.uninstall(installed)


class _End:
    """Takes the place of the `close` of a response: the body is closed before the signal is sent."""

    def __init__(self, portal: Portal, replaced: Callable[[], None]) -> None:
        self._portal = portal
        self.replaced = replaced

    def __call__(self) -> None:
        _on_loop_of(self._portal, None, self.replaced)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.replaced,)  # a cache that keeps the response gets it as it was


def _same(close: Any) -> Any:
    return close


class _Steps:
    """Takes the parts of `iterator` through `call`."""

    def __init__(self, iterator: Iterator[Any], call: Callable[[Callable[[], Any]], Any]) -> None:
        self._take = iterator.__next__
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._call(self._take)


class _Close:
    """Calls `function`, in `context`, the first time that it is called itself: a `close()` may give back what the next
    request then has.
    """

    def __init__(self, function: Callable[[], object] | None, context: Context) -> None:
        self.function = function
        self._context = context

    def __call__(self) -> None:
        function, self.function = self.function, None
        if function is not None:
            self._context.run(function)


def is_async(response: HttpResponseBase) -> bool:
    """Whether a streaming response has an async iterator."""
    is_async = getattr(response, "is_async", None)
    if is_async is None:  # a project's own kind, which Django's handlers iterate over
        is_async = hasattr(response, "__aiter__") and not hasattr(response, "__iter__")
    return bool(is_async)


def is_file(response: HttpResponseBase) -> bool:
    """Whether a streaming response is a file, which the server may read. A `FileResponse` can be a generator, too."""
    return getattr(response, "file_to_stream", None) is not None
