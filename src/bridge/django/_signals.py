"""The start and the end of a request: the two signals, or only what Django itself does then, if nobody else listens.

Sending a signal takes longer than what Django has to do. If no database and no cache was used, that is nothing.
"""

import weakref
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core import signals
from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.db import close_old_connections, connections, reset_queries
from django.dispatch import Signal
from django.http.response import HttpResponseBase

from bridge._types import Environ
from bridge.django._agents import SIGNALS
from bridge.django._isolation import caches_made

# None of these has anything to do in a thread in which the request has done nothing.
_OWN: Final = {
    signals.request_started: frozenset((close_old_connections, reset_queries)),
    signals.request_finished: frozenset((close_old_connections, close_caches, reset_urlconf)),
}
# A project or an agent may put something else there later.
_close: Final = HttpResponseBase.close
_SEND, _ASEND, _LIVE_RECEIVERS = (hook.own for hook in SIGNALS)
_signal: Any = Signal
# The receivers that were seen last, and their functions. Each pair is replaced in one step, so no lock is needed.
_seen: dict[Signal, tuple[list[Any], frozenset[object]]] = {}
_connections: Any = connections
# Where Django keeps the connections of a thread in which no event loop runs: a `threading.local`.
_made: Final[Any] = _connections._connections._storage


def only_django_listens(signal: Signal) -> bool:
    """Whether the project itself does not have receivers for `request_started` or `request_finished`."""
    return _receivers(signal) <= _OWN[signal] and _are_own()


def _is_as_ever(signal: Signal) -> bool:
    """Whether all receivers of Django listen, and nobody else: tests remove one of Django's for a while."""
    return _receivers(signal) == _OWN[signal] and _are_own()


def _are_own() -> bool:
    """Whether signals are sent as Django sends them. Agents replace that to watch the receivers, also Django's own."""
    return _signal.send is _SEND and _signal.asend is _ASEND and _signal._live_receivers is _LIVE_RECEIVERS


def _receivers(signal: Signal) -> frozenset[object]:
    seen = _seen.get(signal)
    if seen is None or seen[0] != signal.receivers:
        receivers = list(signal.receivers)
        seen = _seen[signal] = receivers, frozenset(_function(receiver) for _, receiver, *_ in receivers)
    return seen[1]


def _function(receiver: Any) -> object:
    return receiver() if isinstance(receiver, weakref.ReferenceType) else receiver


def start(sender: type, environ: Environ) -> None:
    """Send `request_started`, or do what Django does then. In the thread of the request."""
    if not _is_as_ever(signals.request_started):
        signals.request_started.send(sender=sender, environ=environ)
    elif _connected():
        reset_queries()
        close_old_connections()


async def start_on_loop(sender: type, environ: Environ) -> None:
    """Send `request_started`, if the project listens. In the task of the request.

    What a receiver sets in the context, for example a transaction, is there for the request. `asend` runs receivers in
    separate tasks, in which this would be lost. Async receivers cannot be run in another way without more hops.
    """
    signal = signals.request_started
    if only_django_listens(signal):
        return
    if any(is_async for *_, is_async in signal.receivers):
        await signal.asend(sender=sender, environ=environ)
    else:
        await sync_to_async(signal.send, thread_sensitive=True)(sender=sender, environ=environ)


def closes_at_once(response: Any) -> bool:
    """Whether only Django has something to do when `response` is closed: a project's own code may take a while."""
    return (
        getattr(response.close, "__func__", None) is _close
        and len(response._resource_closers) <= 1  # that of the request
        and _is_as_ever(signals.request_finished)
    )


def much_to_close() -> bool:
    """Whether the request has used a database or a cache. In its thread."""
    return _connected() or caches_made()


def _connected() -> bool:
    """Whether this thread has a database connection to close, or logged queries to forget."""
    for name, made in _made.__dict__.items():
        if name != "cvar" and (made.connection is not None or made.queries_log):  # "cvar": those of event loops
            return True
    return False


def close(response: Any) -> None:
    """Like `response.close()`, with `request_finished`, if it `closes_at_once`. In the thread of the request."""
    try:
        for closer in response._resource_closers:
            closer()
    finally:
        response._resource_closers.clear()
        response.closed = True
        if much_to_close():
            close_caches()
            close_old_connections()
        reset_urlconf(None)
