"""What is measured: the rows, their subjects, and what each row has to reach."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks import backpressure, django, in_process, memory, peers, servers, websocket
from benchmarks.child import run
from benchmarks.settings import Settings
from benchmarks.streams import PIECE

Sample = dict[str, float]
A2WSGI, ASGIREF, UVICORN, NATIVE = "a2wsgi", "asgiref", "uvicorn", peers.NATIVE

LABELS = {
    peers.A2WSGI_40: "a2wsgi, 40 workers",
    peers.BRIDGE_1_MS: "bridge, sys.setswitchinterval(0.001)",
    UVICORN: "uvicorn's own",
    NATIVE: "no adapter",
    peers.HOP: "no adapter, and a bare hop",
    peers.AGAINST: "bridge, the other commit",
    servers.WAITRESS: "Waitress",
    servers.GUNICORN_SYNC: "Gunicorn sync",
    servers.GUNICORN_GTHREAD: "Gunicorn gthread",
    websocket.UVICORN_WEBSOCKETS: "Uvicorn, websockets",
    django.DJANGO: "Django's own handler",
    django.DJANGO_SYNC_VIEW: "Django's own handler, sync view",
    django.DJANGO_GUNICORN_SYNC: "Django on Gunicorn sync",
    django.DJANGO_GUNICORN_GTHREAD: "Django on Gunicorn gthread",
}


@dataclass(frozen=True, slots=True)
class AtLeast:
    """`bridge` reaches at least `times` the speed of `peer`; `above`: more than that."""

    peer: str
    times: float
    above: bool = False


@dataclass(frozen=True, slots=True)
class AtMost:
    """The figure of `bridge` is at most `limit`, in the unit of its case."""

    limit: float


Target = AtLeast | AtMost


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is sampled for several subjects, in interleaved rounds of which it takes at most `most_rounds`."""

    name: str
    subjects: tuple[str, ...]
    sample: Callable[[str, Settings], Sample]
    most_rounds: int = 100


@dataclass(frozen=True, slots=True)
class Case:
    """One figure of a row: `metric` of the samples of `measure`."""

    title: str
    measure: Measure
    metric: str
    unit: str
    targets: tuple[Target, ...] = ()
    more_is_better: bool = False
    # Where it is on the axis of its row.
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, and the word that picks it on the command line.

    With an `axis`, what its cases are over is a quantity, and they are drawn as a curve.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    axis: str | None = None

    @property
    def measures(self) -> tuple[Measure, ...]:
        return tuple(dict.fromkeys(case.measure for case in self.cases))


def _isolated(name: str, *subjects: str, most_rounds: int = 100) -> Measure:
    return Measure(name, subjects, lambda subject, settings: run(name, subject, settings), most_rounds)


def _on(server: str) -> Callable[[str, Settings], Sample]:
    return lambda subject, settings: servers.rate(server, subject, "/", settings)


def _beside(title: str, measure: Measure, others: str, *targets: Target, high: float) -> tuple[Case, ...]:
    return (
        Case(f"hello {title}", measure, "rate", "requests a second", targets, more_is_better=True),
        Case(f"hello {title}", measure, "median", "ms, median"),
        Case(f"hello {title}", measure, "high", "ms, 99th percentile", (AtMost(high),)),
        Case("hello alone", measure, "alone", "requests a second", more_is_better=True),
        Case(others, measure, "others", "requests a second", more_is_better=True),
    )


def _curve(name: str, title: str, axis: str, measure: Measure, unit: str, places: Iterable[int]) -> Row:
    return Row(name, title, tuple(Case(f"{at:,}", measure, str(at), unit, at=at) for at in places), axis)


def _at_least(times: float, *subjects: str) -> tuple[Target, ...]:
    return tuple(AtLeast(subject, times) for subject in subjects)


_WSGI_ADAPTERS = (peers.BRIDGE, A2WSGI, ASGIREF, UVICORN)
_ASGI_ADAPTERS = (peers.BRIDGE, A2WSGI)
_ASGI_ADAPTERS_AND_NATIVE = (*_ASGI_ADAPTERS, NATIVE)
_POST_32 = _isolated("post-32", *_WSGI_ADAPTERS, NATIVE, peers.HOP)
_POST_1 = _isolated("post-1", *_WSGI_ADAPTERS, NATIVE, peers.HOP)
_CALL_1 = _isolated("call-1", *_ASGI_ADAPTERS_AND_NATIVE, peers.HOP)
_CALL_2 = _isolated("call-2", *_ASGI_ADAPTERS_AND_NATIVE, peers.HOP)
_CALL_8 = _isolated("call-8", *_ASGI_ADAPTERS_AND_NATIVE, peers.HOP)
_BLOCKING = _isolated("blocking", peers.BRIDGE, A2WSGI, peers.A2WSGI_40, ASGIREF, UVICORN, most_rounds=2)
_COMPUTING = _isolated("computing", peers.BRIDGE, A2WSGI)
_STREAM_WTA = _isolated("stream-wsgi-to-asgi", *_WSGI_ADAPTERS, NATIVE)
_STREAM_ATW = _isolated("stream-asgi-to-wsgi", *_ASGI_ADAPTERS, NATIVE)
_AHEAD_WTA = _isolated("ahead-wsgi-to-asgi", *_WSGI_ADAPTERS, most_rounds=1)
_AHEAD_ATW = _isolated("ahead-asgi-to-wsgi", *_ASGI_ADAPTERS, most_rounds=1)
_GUNICORN = (servers.GUNICORN_SYNC, servers.GUNICORN_GTHREAD)
_LOAD = Measure("server", (peers.BRIDGE, A2WSGI, NATIVE, *_GUNICORN), servers.load, most_rounds=3)
_BESIDE = (peers.BRIDGE, peers.A2WSGI_40, servers.GUNICORN_GTHREAD, servers.WAITRESS)
_BESIDE_BLOCKED = Measure(
    "beside-blocked", _BESIDE, lambda subject, settings: servers.beside(subject, "/block", 16, settings), most_rounds=3
)
_BESIDE_COMPUTING = Measure(
    "beside-computing",
    (*_BESIDE, peers.BRIDGE_1_MS),
    lambda subject, settings: servers.beside(subject, "/compute", 4, settings),
    most_rounds=3,
)
_ALL_CORES = Measure("all-cores", _BESIDE, servers.all_cores, most_rounds=2)
# With a lock, in the run without one.
_WITH_A_LOCK = (peers.on("3.11"), peers.on("3.14"))
_ON_WSGI = {
    server: Measure(f"on-{server}", _ASGI_ADAPTERS_AND_NATIVE, _on(server), most_rounds=3)
    for server in servers.WSGI_SERVERS
}
_CONNECTIONS = Measure("connections", (peers.BRIDGE, A2WSGI, NATIVE), servers.connections, most_rounds=2)
_CALLERS = _isolated("callers", *_ASGI_ADAPTERS, most_rounds=2)
_BODIES = _isolated("bodies", peers.BRIDGE, A2WSGI, most_rounds=2)
_HEADERS = _isolated("headers", peers.BRIDGE, A2WSGI, most_rounds=2)
_IDLE = _isolated("idle", *_ASGI_ADAPTERS, most_rounds=2)
_WAITING = _isolated("waiting", *_ASGI_ADAPTERS, most_rounds=2)
_STREAMING = _isolated("streaming", *_ASGI_ADAPTERS, most_rounds=2)
_MEMORY_UVICORN = Measure("memory-uvicorn", _ASGI_ADAPTERS, memory.uvicorn, most_rounds=1)
_MEMORY_GUNICORN = Measure("memory-gunicorn", _ASGI_ADAPTERS, memory.gunicorn, most_rounds=1)
_MOUNTS_ASGI = _isolated("mounts-asgi", peers.BRIDGE)
_MOUNTS_WSGI = _isolated("mounts-wsgi", peers.BRIDGE)
_SANDWICH = _isolated("sandwich", peers.BRIDGE)

_WEBSOCKETS = (peers.BRIDGE, websocket.UVICORN_WEBSOCKETS)
_WEBSOCKET_ECHO = Measure("websocket-echo", _WEBSOCKETS, websocket.echo, most_rounds=5)
_WEBSOCKET_QUIET = Measure("websocket-quiet", _WEBSOCKETS, websocket.quiet, most_rounds=5)

_DJANGO_GUNICORN = (django.DJANGO_GUNICORN_SYNC, django.DJANGO_GUNICORN_GTHREAD)
_DJANGO_SYNC = Measure("django-sync", (*django.SUBJECTS, *_DJANGO_GUNICORN), django.sync_view, most_rounds=3)
_DJANGO_ASYNC = Measure("django-async", django.SUBJECTS, django.async_view, most_rounds=3)
_DJANGO_ON_WSGI = Measure(
    "django-async-wsgi", (*django.SUBJECTS, django.DJANGO_SYNC_VIEW), django.async_view_on_wsgi, most_rounds=3
)
_DJANGO_STREAMS = Measure("django-streams", django.SUBJECTS, django.streams, most_rounds=1)

_DJANGO_IN_PROCESS = _isolated("django-in-process", *django.SUBJECTS)

_FASTER = AtLeast(django.DJANGO, 1, above=True)

_REQUEST, _CHUNK, _AHEAD = "µs a request", "µs a chunk", "KiB ahead"
# Far below the stream that is offered, and above what either adapter holds on purpose.
_WAITS = AtMost(4096.0)
_SMALL = AtMost(32.0)
_ADDED, _TIMES = "µs added to a request", "times"
_MOUNT, _NO_MORE, _ADAPTER = AtMost(3.0), AtMost(1.1), AtMost(2.0)
_OFFERED = f"of {backpressure.STREAM_BYTES // 2**20} MiB, consumer stopped"

ROWS = (
    Row(
        "post-32",
        "WsgiToAsgi in process, small POST, 32 at once, uvloop",
        (Case("POST, 64 bytes", _POST_32, "post", _REQUEST, _at_least(12, A2WSGI, ASGIREF, UVICORN)),),
    ),
    Row(
        "post-1",
        "WsgiToAsgi in process, small POST, one at a time, uvloop",
        (Case("POST, 64 bytes", _POST_1, "post", _REQUEST, _at_least(5, A2WSGI, ASGIREF, UVICORN)),),
    ),
    Row(
        "call-1",
        "AsgiToWsgi in process, one caller thread",
        (
            Case("GET hello", _CALL_1, "get", _REQUEST, _at_least(6, A2WSGI)),
            Case("POST, 64 bytes", _CALL_1, "post", _REQUEST, _at_least(6, A2WSGI)),
        ),
    ),
    Row(
        "call-2",
        "AsgiToWsgi in process, 2 caller threads",
        (
            Case("GET hello", _CALL_2, "get", _REQUEST, _at_least(6, A2WSGI)),
            Case("POST, 64 bytes", _CALL_2, "post", _REQUEST, _at_least(6, A2WSGI)),
        ),
    ),
    Row(
        "call-8",
        "AsgiToWsgi in process, 8 caller threads",
        (
            Case("GET hello", _CALL_8, "get", _REQUEST, _at_least(5, A2WSGI)),
            Case("POST, 64 bytes", _CALL_8, "post", _REQUEST, _at_least(5, A2WSGI)),
        ),
    ),
    Row(
        "server",
        "Hello on Uvicorn (httptools, uvloop), 32 connections, wrk; on Gunicorn: 1 worker, gthread 32 threads",
        (
            Case(
                "GET hello",
                _LOAD,
                "rate",
                "requests a second",
                (AtLeast(A2WSGI, 4), AtLeast(NATIVE, 0.6), *(AtLeast(each, 1, above=True) for each in _GUNICORN)),
                more_is_better=True,
            ),
        ),
    ),
    Row(
        "beside-blocked",
        "Hello on Uvicorn with 8 connections, beside 16 whose requests block 100 ms; gthread and Waitress: 32 threads",
        _beside(
            "beside requests that block",
            _BESIDE_BLOCKED,
            "those that block",
            AtLeast(peers.AGAINST, 2.3),
            *(AtLeast(each, 1, above=True) for each in _BESIDE[1:]),
            high=2.0,
        ),
    ),
    Row(
        "beside-computing",
        "The same beside 4 whose requests compute 3 ms",
        _beside("beside requests that compute", _BESIDE_COMPUTING, "those that compute", high=15.0),
    ),
    Row(
        "all-cores",
        "The same servers: 32 requests at once that each compute 20 ms in Python",
        (
            Case("first request to last answer", _ALL_CORES, "all", "ms for all", _at_least(1.8, *_WITH_A_LOCK)),
            Case("while they compute", _ALL_CORES, "cores", "processors in use", more_is_better=True),
        ),
    ),
    Row(
        "wsgi-servers",
        "A hello ASGI app on WSGI servers, 32 connections, against the native WSGI hello",
        tuple(
            Case(label_of_server, _ON_WSGI[server], "rate", "requests a second", _at_least(0.9, NATIVE), True)
            for server, label_of_server in (
                (servers.GUNICORN_SYNC, "Gunicorn sync"),
                (servers.GUNICORN_GTHREAD, "Gunicorn gthread, 32 threads"),
                (servers.WAITRESS, "Waitress, 32 threads"),
                (servers.UWSGI, "uWSGI, 32 threads"),
                (servers.MOD_WSGI, "Apache with mod_wsgi, 32 threads"),
            )
        ),
    ),
    Row(
        "blocking",
        "WsgiToAsgi in process, 32 requests at once that each block 50 ms",
        (
            Case("first time in a process", _BLOCKING, "cold", "ms for all", (AtMost(80.0),)),
            Case("again", _BLOCKING, "warm", "ms for all", (AtMost(80.0),)),
        ),
    ),
    Row(
        "computing",
        "WsgiToAsgi in process, uvloop: 8 clients ask for hello beside 4 whose requests compute 3 ms in Python",
        (
            Case("hello", _COMPUTING, "hello-rate", "requests a second", more_is_better=True),
            Case("hello", _COMPUTING, "hello-median", "ms, median"),
            Case("hello", _COMPUTING, "hello-99", "ms, 99th percentile"),
            Case("what computes", _COMPUTING, "compute-rate", "requests a second", more_is_better=True),
        ),
    ),
    Row(
        "stream",
        "Streamed bodies in process: what a chunk costs, and backpressure",
        (
            Case("WsgiToAsgi, response, 1 KiB", _STREAM_WTA, "response", _CHUNK, _at_least(4, A2WSGI)),
            Case("WsgiToAsgi, request, 1 KiB", _STREAM_WTA, "request", _CHUNK, _at_least(4, A2WSGI)),
            Case("AsgiToWsgi, response, 1 KiB", _STREAM_ATW, "response", _CHUNK, _at_least(4, A2WSGI)),
            Case(f"AsgiToWsgi, request, {PIECE // 1024} KiB", _STREAM_ATW, "request", _CHUNK, _at_least(4, A2WSGI)),
            Case(f"WsgiToAsgi, response {_OFFERED}", _AHEAD_WTA, "response", _AHEAD, (_WAITS,)),
            Case(f"WsgiToAsgi, request {_OFFERED}", _AHEAD_WTA, "request", _AHEAD, (_WAITS,)),
            Case(f"AsgiToWsgi, response {_OFFERED}", _AHEAD_ATW, "response", _AHEAD, (_WAITS,)),
            Case(f"AsgiToWsgi, request {_OFFERED}", _AHEAD_ATW, "request", _AHEAD, (_WAITS,)),
        ),
    ),
    Row(
        "django",
        "A Django project with startproject's middleware, 32 connections, wrk; one process",
        (
            Case(
                "sync view on Uvicorn",
                _DJANGO_SYNC,
                "rate",
                "requests a second",
                (AtLeast(django.DJANGO, 12), *(AtLeast(each, 1, above=True) for each in _DJANGO_GUNICORN)),
                more_is_better=True,
            ),
            Case(
                "async view on Uvicorn",
                _DJANGO_ASYNC,
                "rate",
                "requests a second",
                _at_least(6, django.DJANGO),
                more_is_better=True,
            ),
            Case(
                "async view on Gunicorn sync",
                _DJANGO_ON_WSGI,
                "rate",
                "requests a second",
                (AtLeast(django.DJANGO, 1, above=True), AtLeast(django.DJANGO_SYNC_VIEW, 0.9)),
                more_is_better=True,
            ),
        ),
    ),
    Row(
        "django-in-process",
        "The same project in process, a sync view: what the handler costs, in processor time",
        (
            Case(
                "ASGI, one at a time", _DJANGO_IN_PROCESS, "asgi-1", _REQUEST, (AtLeast(django.DJANGO, 1, above=True),)
            ),
            Case("ASGI, 32 at once", _DJANGO_IN_PROCESS, "asgi-32", _REQUEST, (AtLeast(django.DJANGO, 1, above=True),)),
            Case("WSGI, one at a time", _DJANGO_IN_PROCESS, "wsgi", _REQUEST, (AtLeast(django.DJANGO, 1, above=True),)),
        ),
    ),
    Row(
        "django-streams",
        "The same project: a file of 100 MiB, and 10,000 chunks of 1 KiB of the wrong kind of iterator",
        tuple(
            case
            for name, title in (
                ("file", "FileResponse on Uvicorn"),
                ("sync-on-asgi", "sync iterator on Uvicorn"),
                ("async-on-wsgi", "async iterator on Gunicorn gthread"),
            )
            for case in (
                Case(title, _DJANGO_STREAMS, f"{name}-memory", "MiB over idle", (AtMost(16.0),)),
                Case(title, _DJANGO_STREAMS, f"{name}-first", "ms to the first byte", (AtMost(100.0),)),
                Case(title, _DJANGO_STREAMS, f"{name}-rate", "MiB a second", more_is_better=True),
            )
        ),
    ),
    Row(
        "mixing",
        "Mounts and sandwiches in process: what they add to a hello",
        (
            Case("Mounts, native ASGI app", _MOUNTS_ASGI, "added", _ADDED, (_MOUNT,)),
            Case("Mounts, native WSGI app", _MOUNTS_WSGI, "added", _ADDED, (_MOUNT,)),
            Case("500 mounts against 1, native ASGI app", _MOUNTS_ASGI, "many-to-one", _TIMES, (_NO_MORE,)),
            Case("500 mounts against 1, native WSGI app", _MOUNTS_WSGI, "many-to-one", _TIMES, (_NO_MORE,)),
            Case("WsgiToAsgi(AsgiToWsgi), 32 at once, to WsgiToAsgi", _SANDWICH, "asgi-32", _TIMES, (_ADAPTER,)),
            Case("WsgiToAsgi(AsgiToWsgi), one at a time, to WsgiToAsgi", _SANDWICH, "asgi-1", _TIMES, (_ADAPTER,)),
            Case("AsgiToWsgi(WsgiToAsgi), one caller, to AsgiToWsgi", _SANDWICH, "wsgi", _TIMES, (_ADAPTER,)),
        ),
    ),
    _curve(
        "connections",
        "Hello on Uvicorn, by the number of connections",
        "connections",
        _CONNECTIONS,
        _REQUEST,
        servers.CONNECTION_NUMBERS,
    ),
    _curve(
        "callers",
        "AsgiToWsgi in process, hello, by the number of threads that call it",
        "threads",
        _CALLERS,
        _REQUEST,
        in_process.CALLERS,
    ),
    _curve(
        "bodies",
        "WsgiToAsgi in process, one at a time, by the bytes of a body that is sent and comes back",
        "bytes",
        _BODIES,
        _REQUEST,
        in_process.BODIES,
    ),
    _curve(
        "headers",
        "WsgiToAsgi in process, hello, one at a time, by the number of request headers",
        "headers",
        _HEADERS,
        _REQUEST,
        in_process.HEADERS,
    ),
    Row(
        "footprint",
        "What is held in memory",
        (
            Case("an idle adapter", _IDLE, "adapter", "KiB"),
            Case("a request that waits for a thread (WsgiToAsgi)", _WAITING, "request", "KiB"),
            Case("an open stream, and the server's thread (AsgiToWsgi)", _STREAMING, "stream", "KiB"),
        ),
    ),
    Row(
        "websocket",
        "WebSockets on Gunicorn gthread through AsgiToWsgi, and of the same app on Uvicorn (uvloop, websockets)",
        (
            Case(
                f"echo, 32 bytes, {websocket.SESSIONS} sessions",
                _WEBSOCKET_ECHO,
                "small",
                "messages a second",
                _at_least(0.8, websocket.UVICORN_WEBSOCKETS),
                more_is_better=True,
            ),
            Case(
                "echo, 1 MiB, one session",
                _WEBSOCKET_ECHO,
                "large",
                "MiB a second",
                _at_least(0.7, websocket.UVICORN_WEBSOCKETS),
                more_is_better=True,
            ),
            Case(
                f"open {websocket.QUIET_SESSIONS} sessions",
                _WEBSOCKET_QUIET,
                "open",
                "ms for all",
                (AtLeast(websocket.UVICORN_WEBSOCKETS, 1 / 1.5),),
            ),
            Case("a quiet session", _WEBSOCKET_QUIET, "memory", "KiB", (AtMost(64.0),)),
            Case("a quiet session", _WEBSOCKET_QUIET, "threads", "threads", (AtMost(1.0),)),
        ),
    ),
    Row(
        "memory",
        "One large transfer over a real server: peak memory of its process over idle",
        (
            Case("WsgiToAsgi on Uvicorn, up", _MEMORY_UVICORN, "upload", "MiB over idle", (_SMALL,)),
            Case("WsgiToAsgi on Uvicorn, down", _MEMORY_UVICORN, "download", "MiB over idle", (_SMALL,)),
            Case("AsgiToWsgi on Gunicorn gthread, up", _MEMORY_GUNICORN, "upload", "MiB over idle", (_SMALL,)),
            Case("AsgiToWsgi on Gunicorn gthread, down", _MEMORY_GUNICORN, "download", "MiB over idle", (_SMALL,)),
            Case("WsgiToAsgi on Uvicorn, up", _MEMORY_UVICORN, "upload-rate", "MiB a second", more_is_better=True),
            Case("WsgiToAsgi on Uvicorn, down", _MEMORY_UVICORN, "download-rate", "MiB a second", more_is_better=True),
            Case(
                "AsgiToWsgi on Gunicorn gthread, up",
                _MEMORY_GUNICORN,
                "upload-rate",
                "MiB a second",
                more_is_better=True,
            ),
            Case(
                "AsgiToWsgi on Gunicorn gthread, down",
                _MEMORY_GUNICORN,
                "download-rate",
                "MiB a second",
                more_is_better=True,
            ),
        ),
    ),
)


def label(subject: str) -> str:
    """What the table and the chart call a subject."""
    python = peers.python_of(subject)
    return LABELS.get(subject, subject) if python is None else f"bridge, Python {python}"
