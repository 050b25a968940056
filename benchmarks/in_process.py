"""Requests in process: what one costs with many at once, one at a time, from several threads, and when all block.

Each function is one sample, taken in a process of its own; it returns its metrics by name.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from time import perf_counter

import uvloop

from benchmarks import apps, hops, peers
from benchmarks.harness import call_asgi, call_wsgi, make_environ, make_scope
from benchmarks.settings import Settings

POST_BODY = apps.pattern(64)
BLOCKED_AT_ONCE = 32
CALLERS = (1, 2, 4, 8, 32, 200)
BODIES = (1, 1024, 16 * 1024, 256 * 1024, 4 * 2**20, 64 * 2**20)
HEADERS = (1, 10, 30, 100)
HELLO_AT_ONCE, COMPUTING_AT_ONCE = 8, 4
_WARM_UP_SECONDS = 0.1


def post_32(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `WsgiToAsgi`: small POSTs, 32 at once, on uvloop."""
    return {"post": _post(subject, settings, at_once=32)}


def post_1(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `WsgiToAsgi`: small POSTs, one at a time, on uvloop."""
    return {"post": _post(subject, settings, at_once=1)}


def call_1(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `AsgiToWsgi`, called by one thread."""
    return _calls(subject, settings, threads=1)


def call_2(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `AsgiToWsgi`, called by two threads at once."""
    return _calls(subject, settings, threads=2)


def call_8(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `AsgiToWsgi`, called by eight threads at once."""
    return _calls(subject, settings, threads=8)


def callers(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `AsgiToWsgi`, by the number of threads that call it."""
    app = peers.asgi_to_wsgi(subject, apps.asgi_hello)
    return {
        str(number): _from_threads(number, settings, lambda: call_wsgi(app, make_environ(), apps.HELLO))
        for number in CALLERS
    }


def bodies(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `WsgiToAsgi`, by the bytes of a body that is sent and comes back; one at a time."""
    app = peers.wsgi_to_asgi(subject, apps.wsgi_echo)
    return {str(size): _echo(app, apps.pattern(size), settings) for size in BODIES}


def headers(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a request of `WsgiToAsgi`, by the number of its headers; one at a time."""
    app = peers.wsgi_to_asgi(subject, apps.wsgi_hello)

    async def request(extra: list[tuple[bytes, bytes]]) -> None:
        scope = make_scope()
        scope["headers"] = scope["headers"] + extra
        await call_asgi(app, scope, b"", apps.HELLO)

    def sample(number: int) -> float:
        extra = [(b"x-header-%d" % at, b"value %d" % at) for at in range(number)]
        return _one_by_one(lambda: request(extra), settings)

    return {str(number): sample(number) for number in HEADERS}


def _echo(app: apps.ASGIApp, body: bytes, settings: Settings) -> float:
    async def request() -> None:
        await call_asgi(app, make_scope("POST", body_length=len(body)), body, body)

    return _one_by_one(request, settings)


def _one_by_one(request: Callable[[], Awaitable[None]], settings: Settings) -> float:
    async def load(seconds: float) -> float:
        started, count = perf_counter(), 0
        while (elapsed := perf_counter() - started) < seconds or not count:
            await request()
            count += 1
        return elapsed / count * 1e6

    async def sample() -> float:
        await load(_WARM_UP_SECONDS)
        return await load(settings.seconds)

    return uvloop.run(sample())


def blocking(subject: str, settings: Settings) -> dict[str, float]:
    """Milliseconds for 32 requests at once that each block 50 ms: the first such wave of a process, and the next."""
    app = apps.asgi_block if subject == peers.NATIVE else peers.wsgi_to_asgi(subject, apps.wsgi_block)

    async def wave() -> float:
        started = perf_counter()
        await asyncio.gather(*(call_asgi(app, make_scope(), b"", apps.HELLO) for _ in range(BLOCKED_AT_ONCE)))
        return (perf_counter() - started) * 1e3

    async def waves() -> dict[str, float]:
        return {"cold": await wave(), "warm": await wave()}

    return uvloop.run(waves())


def computing(subject: str, settings: Settings) -> dict[str, float]:
    """Eight clients that ask for hello beside four whose requests compute 3 ms in Python, on uvloop: what each kind is
    served a second, and what a hello takes in milliseconds (median and 99th percentile).
    """
    app = peers.wsgi_to_asgi(subject, apps.wsgi_hello_or_compute)

    async def client(query: str, until: float, taken: list[float]) -> None:
        while (started := perf_counter()) < until:
            await call_asgi(app, make_scope(query=query), b"", apps.HELLO)
            taken.append(perf_counter() - started)

    async def load(seconds: float) -> dict[str, float]:
        hello: list[float] = []
        computed: list[float] = []
        started = perf_counter()
        clients = [client("", started + seconds, hello) for _ in range(HELLO_AT_ONCE)]
        clients += [client("compute", started + seconds, computed) for _ in range(COMPUTING_AT_ONCE)]
        await asyncio.gather(*clients)
        elapsed = perf_counter() - started
        hello.sort()
        return {
            "hello-rate": len(hello) / elapsed,
            "hello-median": hello[len(hello) // 2] * 1e3,
            "hello-99": hello[len(hello) * 99 // 100] * 1e3,
            "compute-rate": len(computed) / elapsed,
        }

    async def sample() -> dict[str, float]:
        await load(_WARM_UP_SECONDS)
        return await load(settings.load_seconds)

    return uvloop.run(sample())


def _post(subject: str, settings: Settings, *, at_once: int) -> float:
    if subject in (peers.NATIVE, peers.HOP):
        app = apps.asgi_echo if subject == peers.NATIVE else hops.to_thread(apps.asgi_echo)
    else:
        app = peers.wsgi_to_asgi(subject, apps.wsgi_echo)

    async def requests(until: float) -> int:
        count = 0
        while perf_counter() < until:
            await call_asgi(app, make_scope("POST", body_length=len(POST_BODY)), POST_BODY, POST_BODY)
            count += 1
        return count

    async def load(seconds: float) -> float:
        started = perf_counter()
        counts = await asyncio.gather(*(requests(started + seconds) for _ in range(at_once)))
        return (perf_counter() - started) / sum(counts) * 1e6

    async def sample() -> float:
        await load(_WARM_UP_SECONDS)
        return await load(settings.seconds)

    return uvloop.run(sample())


def _calls(subject: str, settings: Settings, *, threads: int) -> dict[str, float]:
    hello, echo = apps.wsgi_hello, apps.wsgi_echo
    if subject == peers.HOP:
        hello, echo = hops.to_loop(hello), hops.to_loop(echo)
    elif subject != peers.NATIVE:
        hello, echo = (peers.asgi_to_wsgi(subject, app) for app in (apps.asgi_hello, apps.asgi_echo))
    return {
        "get": _from_threads(threads, settings, lambda: call_wsgi(hello, make_environ(), apps.HELLO)),
        "post": _from_threads(
            threads, settings, lambda: call_wsgi(echo, make_environ("POST", body=POST_BODY), POST_BODY)
        ),
    }


def _from_threads(threads: int, settings: Settings, request: Callable[[], None]) -> float:
    _load(threads, _WARM_UP_SECONDS, request)
    return _load(threads, settings.seconds, request)


def _load(threads: int, seconds: float, request: Callable[[], None]) -> float:
    counts: list[int] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(threads + 1)

    def caller() -> None:
        count = 0
        barrier.wait()
        until = perf_counter() + seconds
        try:
            while perf_counter() < until:
                request()
                count += 1
        except BaseException as error:
            errors.append(error)
        counts.append(count)

    callers = [threading.Thread(target=caller) for _ in range(threads)]
    for thread in callers:
        thread.start()
    barrier.wait()
    started = perf_counter()
    for thread in callers:
        thread.join()
    elapsed = perf_counter() - started
    if errors:
        raise errors[0]
    return elapsed / sum(counts) * 1e6
