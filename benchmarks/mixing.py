"""What mounts and sandwiches add: to a native request, with one mount and with 500, and to a single adapter.

Each figure compares two ways within one sample, in turns, so that what else the machine does hits both alike.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, TypeVar

import uvloop

from benchmarks import apps
from benchmarks.harness import call_asgi, call_wsgi, make_environ, make_scope
from benchmarks.settings import Settings
from bridge import AsgiToWsgi, Mounts, WsgiToAsgi

Result = TypeVar("Result")
Way = Callable[[int], Awaitable[None]]
MANY = 500
_AT_ONCE = 32
# Of one way, in seconds: short enough that some are not interrupted on a busy machine.
_TURN = 0.003
_LONG_TURN = 0.05
_PATH = "/mount-0/hello"


def asgi_mounts(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds that a mount adds to a request of a native ASGI app, and 500 of them against one."""

    def requests(app: Any) -> Way:
        async def run(count: int) -> None:
            for _ in range(count):
                scope = make_scope()
                scope["path"] = _PATH
                await call_asgi(app, scope, b"", apps.HELLO)

        return run

    return _mounts(settings, requests(apps.asgi_hello), *(requests(site.asgi) for site in _sites(apps.asgi_hello)))


def wsgi_mounts(subject: str, settings: Settings) -> dict[str, float]:
    """The same of a native WSGI app."""

    def requests(app: Any) -> Way:
        async def run(count: int) -> None:
            for _ in range(count):
                environ = make_environ()
                environ["PATH_INFO"] = _PATH
                call_wsgi(app, environ, apps.HELLO)

        return run

    return _mounts(settings, requests(apps.wsgi_hello), *(requests(site.wsgi) for site in _sites(apps.wsgi_hello)))


def sandwich(subject: str, settings: Settings) -> dict[str, float]:
    """How many times the single adapter a sandwich costs: on an ASGI server, 32 at once and one, on a WSGI server."""
    single = WsgiToAsgi(apps.wsgi_hello)
    double = WsgiToAsgi(AsgiToWsgi(apps.asgi_hello, lifespan="off"))

    def at_once(app: Any, number: int) -> Way:
        async def one(count: int) -> None:
            for _ in range(count):
                await call_asgi(app, make_scope(), b"", apps.HELLO)

        async def run(count: int) -> None:
            await asyncio.gather(*(one(max(count // number, 1)) for _ in range(number)))

        return run

    async def on_asgi() -> dict[str, float]:
        many = await _ratio(settings, at_once(single, _AT_ONCE), at_once(double, _AT_ONCE))
        one = await _ratio(settings, at_once(single, 1), at_once(double, 1))
        return {"asgi-32": many, "asgi-1": one}

    found = uvloop.run(on_asgi())
    one, other = AsgiToWsgi(apps.asgi_hello, lifespan="off"), AsgiToWsgi(WsgiToAsgi(apps.wsgi_hello), lifespan="off")

    def called(app: Any) -> Way:
        async def run(count: int) -> None:
            for _ in range(count):
                call_wsgi(app, make_environ(), apps.HELLO)

        return run

    return found | {"wsgi": _without_a_loop(_ratio(settings, called(one), called(other)))}


def _sites(app: Any) -> tuple[Mounts, Mounts]:
    def prefixes(count: int) -> dict[str, Any]:
        return {f"/mount-{number}": app for number in range(count)}

    return Mounts(prefixes(1)), Mounts(prefixes(MANY))


def _mounts(settings: Settings, *ways: Way) -> dict[str, float]:
    native, one, many = _without_a_loop(_best_of_turns(settings, *ways))
    return {"added": one - native, "added-by-many": many - native, "many-to-one": many / one}


async def _best_of_turns(settings: Settings, *ways: Way) -> list[float]:
    """Microseconds a request of each way: the best of its turns, since whatever else the machine does only adds."""
    return [min(costs) for costs in await _in_turns(settings, _TURN, *ways)]


async def _ratio(settings: Settings, one: Way, other: Way) -> float:
    """How many times `one` the `other` way costs: the median of longer turns, since threads that happen to be awake
    make a short one cheap.
    """
    costs = await _in_turns(settings, _LONG_TURN, one, other)
    return statistics.median(second / first for first, second in zip(*costs, strict=True))


async def _in_turns(settings: Settings, turn: float, *ways: Way) -> list[list[float]]:
    """Microseconds a request of each way, in each of its turns of `turn` seconds."""
    counts: list[int] = []
    costs: list[list[float]] = [[] for _ in ways]
    for way in ways:
        await way(_AT_ONCE)
        started = perf_counter()
        await way(10 * _AT_ONCE)
        counts.append(max(int(10 * _AT_ONCE * turn / (perf_counter() - started)), _AT_ONCE))
    until = perf_counter() + settings.seconds * len(ways)
    while perf_counter() < until:
        for number, (way, count) in enumerate(zip(ways, counts, strict=True)):
            started = perf_counter()
            await way(count)
            costs[number].append((perf_counter() - started) / count * 1e6)
    return costs


def _without_a_loop(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run what never waits: a WSGI server has no event loop in its thread."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        found: Result = end.value
        return found
    raise AssertionError("it has waited")
