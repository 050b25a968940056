"""What a Django handler costs by itself: requests to a sync view, in process."""

import asyncio
from time import perf_counter, process_time
from typing import Any

import uvloop

from benchmarks import apps
from benchmarks.harness import call_asgi, call_wsgi, make_environ, make_scope
from benchmarks.peers import BRIDGE
from benchmarks.settings import Settings

_WARM_UP_SECONDS = 0.1


def requests(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds of processor time a request: of the ASGI handler one at a time and 32 at once, of the WSGI one."""
    from benchmarks import django_site

    on_asgi = django_site.application("uvicorn", bridged=subject == BRIDGE)
    on_wsgi = django_site.application("gunicorn", bridged=subject == BRIDGE)
    metrics = uvloop.run(_asgi(on_asgi, settings.seconds))
    _wsgi(on_wsgi, _WARM_UP_SECONDS)
    return metrics | {"wsgi": _wsgi(on_wsgi, settings.seconds)}


async def _asgi(app: Any, seconds: float) -> dict[str, float]:
    async def ask(until: float) -> int:
        count = 0
        while perf_counter() < until:
            await call_asgi(app, make_scope(), b"", apps.HELLO)
            count += 1
        return count

    async def load(at_once: int, seconds: float) -> float:
        started, until = process_time(), perf_counter() + seconds
        counts = await asyncio.gather(*(ask(until) for _ in range(at_once)))
        return (process_time() - started) / sum(counts) * 1e6

    metrics = {}
    for at_once in (1, 32):
        await load(at_once, _WARM_UP_SECONDS)
        metrics[f"asgi-{at_once}"] = await load(at_once, seconds)
    return metrics


def _wsgi(app: Any, seconds: float) -> float:
    started, until, count = process_time(), perf_counter() + seconds, 0
    while perf_counter() < until:
        call_wsgi(app, make_environ(), apps.HELLO)
        count += 1
    return (process_time() - started) / count * 1e6
