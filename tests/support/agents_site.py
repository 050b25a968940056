"""A Django project with an agent around it, for a server: `agents_site:application`.

The environment says which: AGENT (sentry, ddtrace, elastic, otel or none), ENTRY (whose `get_..._application`: django
or bridge), SIDE (asgi or wsgi), WHEN (before or after the application is made), and RECORDS, the file to which each
transaction and each error is written as a line of JSON, in place of what the agent would send.
"""

import asyncio
import importlib
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import django
from django.conf import settings

from support.patience import PATIENCE

AGENT, ENTRY, SIDE, RECORDS = (os.environ[name] for name in ("AGENT", "ENTRY", "SIDE", "RECORDS"))
WHEN = os.environ.get("WHEN", "before")
AT_ONCE = 12

_writing = threading.Lock()


def record(**facts: Any) -> None:
    # The port is another one each time.
    line = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", json.dumps(facts))
    with _writing, open(RECORDS, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def sentry() -> Callable[[str], None]:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Recorder(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            for item in envelope.items:
                found = item.payload.json
                if item.type == "transaction" and found["contexts"]["trace"]["op"] == "http.server":
                    trace = found["contexts"]["trace"]
                    marks = [found.get("tags", {}).get("who"), (found.get("user") or {}).get("id")]
                    status = trace.get("data", {}).get("http.response.status_code")
                    record(kind="transaction", name=found["transaction"], status=status, marks=marks)
                elif item.type == "event":
                    values = (found.get("exception") or {}).get("values") or [{}]
                    marks = [found.get("tags", {}).get("who"), (found.get("user") or {}).get("id")]
                    url = (found.get("request") or {}).get("url", "").partition("//")[2].partition("/")[2]
                    said = values[-1].get("value") or str(found.get("logentry") or found.get("message"))
                    record(kind="error", name=said, transaction=found.get("transaction"), url=url, marks=marks)

    sentry_sdk.init("http://key@127.0.0.1:9/1", transport=Recorder, traces_sample_rate=1.0)

    def mark(who: str) -> None:
        sentry_sdk.set_tag("who", who)
        sentry_sdk.set_user({"id": who})

    return mark


def ddtrace() -> Callable[[str], None]:
    # `ddtrace-run` has begun before anything else.
    from ddtrace.trace import TraceFilter, tracer

    class Recorder(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            root = trace[0]
            if root.name != "django.request":
                return
            requests = sum(span.name == "django.request" for span in trace)
            status, marks = root.get_tag("http.status_code"), [root.get_tag("who")]
            record(kind="transaction", name=root.resource, status=status, error=root.error, marks=marks, count=requests)
            if said := root.get_tag("error.message"):
                record(kind="error", name=said, transaction=root.resource)

    tracer.configure(trace_processors=[Recorder()])

    def mark(who: str) -> None:
        root = tracer.current_root_span()
        assert root is not None
        root.set_tag("who", who)

    return mark


def elastic() -> Callable[[str], None]:
    import elasticapm
    from elasticapm.transport.base import Transport

    class Recorder(Transport):
        def queue(self, event_type: str, data: Any, flush: bool = False) -> None:
            if event_type == "transaction":
                marks = [data["context"].get("tags", {}).get("who")]
                record(kind="transaction", name=data["name"], status=data["result"], marks=marks)
            elif event_type == "error":
                record(kind="error", name=data["exception"]["message"], transaction=data["transaction"].get("name"))

        def start_thread(self, pid: int | None = None) -> None:
            """It would wait for something to send."""

        def close(self) -> None:
            """As above."""

    globals()["ElasticRecorder"] = Recorder
    return lambda who: elasticapm.label(who=who)


def otel() -> Callable[[str], None]:
    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Recorder(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            for span in spans:
                if span.kind is trace.SpanKind.SERVER:
                    status = span.attributes.get("http.status_code")
                    record(kind="transaction", name=span.name, status=status, marks=[span.attributes.get("who")])
                    for event in span.events:
                        record(kind="error", name=event.attributes["exception.message"], transaction=span.name)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Recorder()))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()
    return lambda who: trace.get_current_span().set_attribute("who", who)


def none() -> Callable[[str], None]:
    return lambda who: None


mark: Callable[[str], None] = none()


def start_agent() -> None:
    global mark
    mark = {"sentry": sentry, "ddtrace": ddtrace, "elastic": elastic, "otel": otel, "none": none}[AGENT]()


settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["elasticapm.contrib.django"] if AGENT == "elastic" else [],
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    USE_TZ=True,
    LOGGING_CONFIG=None,
    ELASTIC_APM={
        "SERVICE_NAME": "site",
        "TRANSPORT_CLASS": f"{__name__}.ElasticRecorder",
        "CENTRAL_CONFIG": False,
        "METRICS_INTERVAL": "0s",
        "CLOUD_PROVIDER": False,
    },
)
if WHEN == "before":
    start_agent()
django.setup(set_prefix=False)

from django.http import HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from bridge.django import on_loop  # noqa: E402
from bridge.django._agents import UNUSED  # noqa: E402

# --- views


def sync(request: Any) -> HttpResponse:
    return HttpResponse("sync")


async def is_async(request: Any) -> HttpResponse:
    return HttpResponse("async")


@on_loop
async def looped(request: Any) -> HttpResponse:
    return HttpResponse("looped")


def teapot(request: Any) -> HttpResponse:
    return HttpResponse(status=418)


def fails(request: Any) -> HttpResponse:
    raise ValueError("the sync view")


async def async_fails(request: Any) -> HttpResponse:
    raise ValueError("the async view")


@on_loop
async def looped_fails(request: Any) -> HttpResponse:
    raise ValueError("the looped view")


def _parts(*, broken: bool) -> Iterator[bytes]:
    yield b"one"
    if broken:
        raise ValueError("the sync stream")
    yield b"two"


async def _async_parts(said: str, *, broken: bool) -> AsyncIterator[bytes]:
    yield b"one"
    await asyncio.sleep(0)
    if broken:
        raise ValueError(f"the {said} stream")
    yield b"two"


def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(_parts(broken="broken" in request.GET))


async def async_stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(_async_parts("async", broken="broken" in request.GET))


@on_loop
async def looped_stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(_async_parts("looped", broken="broken" in request.GET))


async def upload(request: Any) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


# --- many at once: each marks its own, and all are there before any goes on

_barrier = threading.Barrier(AT_ONCE)
_here = 0
_all: "asyncio.Future[None] | None" = None


def who(request: Any, name: str) -> HttpResponse:
    mark(name)
    _barrier.wait(timeout=PATIENCE)
    raise ValueError(name)


async def _together() -> None:
    global _here, _all
    if _all is None:
        _all = asyncio.get_running_loop().create_future()
    _here += 1
    if _here == AT_ONCE:
        _all.set_result(None)
    async with asyncio.timeout(PATIENCE):
        await asyncio.shield(_all)


async def async_who(request: Any, name: str) -> HttpResponse:
    mark(name)
    await _together()
    raise ValueError(name)


@on_loop
async def looped_who(request: Any, name: str) -> HttpResponse:
    mark(name)
    await _together()
    raise ValueError(name)


# --- clients that leave


def endless(request: Any) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            record(kind="closed", name="endless")

    return StreamingHttpResponse(parts())


async def async_endless(request: Any) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            record(kind="closed", name="async_endless")

    return StreamingHttpResponse(parts())


async def waits(request: Any) -> HttpResponse:
    record(kind="waits", name="waits")
    try:
        await asyncio.Event().wait()
    finally:
        record(kind="closed", name="waits")
    raise AssertionError("an event that nobody sets")


@on_loop
async def looped_waits(request: Any) -> HttpResponse:
    return await waits(request)


urlpatterns = [
    *(
        path(view.__name__, view)
        for view in (
            *(sync, is_async, looped, teapot, fails, async_fails, looped_fails, stream, async_stream, looped_stream),
            *(upload, endless, async_endless, waits, looped_waits),
        )
    ),
    *(path(f"{view.__name__}/<str:name>", view) for view in (who, async_who, looped_who)),
]

_module = "bridge.django" if ENTRY == "bridge" else f"django.core.{SIDE}"
application = getattr(importlib.import_module(_module), f"get_{SIDE}_application")()
if WHEN == "after":
    start_agent()
for hook in UNUSED:
    if not hook.is_own():
        record(kind="unused", name=str(hook))
