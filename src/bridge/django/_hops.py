"""Counts the hops of one request between a thread and an event loop, and how long it waits for them.

Used only with `BRIDGE["SERVER_TIMING"]`, which is for development: it puts itself between Django and asgiref.
"""

import copy
import functools
import threading
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final

from asgiref.sync import AsyncToSync, SyncToAsync

from bridge._concurrency.per_process import PerProcess


class Hops:
    """What one request has cost: hops, in one direction each, and the seconds between asking for a hop and arriving."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.waited = 0.0

    def header(self) -> str:
        """The value of `Server-Timing` (W3C Server Timing, 2)."""
        return f'hops;desc="{self.count}", hop-wait;dur={self.waited * 1000:.2f}'


_current: ContextVar[Hops | None] = ContextVar("bridge_hops", default=None)


def begin(crossed: int = 0) -> Hops:
    """Count from here on, in this context and its copies. `crossed` is the number of hops to get here."""
    hops = Hops(crossed)
    _current.set(hops)
    return hops


def count(number: int) -> None:
    """Count `number` hops that do not go through asgiref."""
    hops = _current.get()
    if hops is not None:
        hops.count += number


# If two threads installed it at once, each hop would be counted twice.
_installing: Final = PerProcess(threading.Lock)


def install() -> None:
    """Count the calls of asgiref's two functions from now on. For requests that are not counted, a call costs one
    look-up more.
    """
    with _installing.here():
        _install_once()


@functools.cache
def _install_once() -> None:
    out: Any = SyncToAsync
    out.__call__ = _counted_out(SyncToAsync.__call__)
    back: Any = AsyncToSync
    back.__call__ = _counted_in(AsyncToSync.__call__)


class _Trip:
    """There and back: two hops, and the time that they take."""

    def __init__(self, hops: Hops) -> None:
        hops.count += 2
        self._hops = hops
        self._left = perf_counter()

    def there(self) -> None:
        """The other side has begun."""
        self._hops.waited += perf_counter() - self._left

    def leaving(self) -> None:
        """It has ended."""
        self._left = perf_counter()

    back = there


def _counted_out(original: Any) -> Any:
    @functools.wraps(original)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        hops = _current.get()
        if hops is None:
            return await original(self, *args, **kwargs)
        trip = _Trip(hops)

        def there(*inner: Any, **named: Any) -> Any:
            trip.there()
            try:
                return self.func(*inner, **named)
            finally:
                trip.leaving()

        counted = copy.copy(self)
        counted.func = there
        try:
            return await original(counted, *args, **kwargs)
        finally:
            trip.back()

    return call


def _counted_in(original: Any) -> Any:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        hops = _current.get()
        if hops is None:
            return original(self, *args, **kwargs)
        trip = _Trip(hops)

        async def there(*inner: Any, **named: Any) -> Any:
            trip.there()
            try:
                return await self.awaitable(*inner, **named)
            finally:
                trip.leaving()

        counted = copy.copy(self)
        counted.awaitable = there
        try:
            return original(counted, *args, **kwargs)
        finally:
            trip.back()

    return call
