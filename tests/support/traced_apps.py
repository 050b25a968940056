"""Apps whose spans are begun in threads and on event loops, with OpenTelemetry's middleware around the adapter.

Each span says which thread it was begun in. `/spans` has what has ended, as JSON. `asgi` is for ASGI servers.
`wsgi` is for WSGI servers.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from asgiref.sync import async_to_sync, sync_to_async
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as TracedAsgi
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as TracedWsgi
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("tests")


@contextmanager
def span(name: str) -> Iterator[None]:
    """A span that says where it was begun."""
    with tracer.start_as_current_span(name, attributes={"thread": threading.get_ident()}):
        yield


def spans(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """What has ended."""
    found = [
        {
            "name": each.name,
            "trace": f"{each.context.trace_id:032x}",
            "id": f"{each.context.span_id:016x}",
            "parent": f"{each.parent.span_id:016x}" if each.parent else None,
            "thread": (each.attributes or {}).get("thread"),
        }
        for each in exporter.get_finished_spans()
    ]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]


def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """From its thread to the loop, from there to another thread; and a stream, whose steps are the thread's again."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    async def on_loop() -> None:
        with span("loop"):
            await anyio.sleep(0.01)
            await anyio.to_thread.run_sync(in_another_thread)

    def in_another_thread() -> None:
        with span("another thread"):
            pass

    with span("thread"):
        anyio.from_thread.run(on_loop)
    yield b"one\n"
    with span("stream"):
        yield b"two\n"


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """From the loop to the server's thread, from there to the loop; and what it does after its response."""

    async def on_loop_again() -> None:
        with span("loop again"):
            await anyio.sleep(0.01)

    def in_thread() -> None:
        with span("thread"):
            async_to_sync(on_loop_again)()

    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    with span("loop"):
        await sync_to_async(in_thread)()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"one\n"})
    with span("after"):
        await anyio.sleep(0.01)


async def websocket_app(scope: Any, receive: Any, send: Any) -> None:
    """One message, and its echo."""
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    with span("message"):
        await send({"type": "websocket.send", "text": message["text"]})
    await receive()


asgi = Mounts({"/spans": spans, "/": TracedAsgi(WsgiToAsgi(wsgi_app), exclude_spans=["receive", "send"])}).asgi
wsgi = Mounts(
    {
        "/spans": spans,
        "/websocket": TracedWsgi(AsgiToWsgi(TracedAsgi(websocket_app, exclude_spans=["receive", "send"]))),
        "/": TracedWsgi(AsgiToWsgi(asgi_app)),
    }
).wsgi
