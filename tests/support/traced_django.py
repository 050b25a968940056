"""A Django project with OpenTelemetry's middleware, whose views cross to the other side and back; see `traced_apps`."""

import asyncio

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from opentelemetry.instrumentation.django import DjangoInstrumentor

from bridge import Mounts
from bridge.django import get_asgi_application, get_wsgi_application
from support.traced_apps import span, spans


def sync_view(request: HttpRequest) -> HttpResponse:
    async def on_loop() -> None:
        with span("loop"):
            await asyncio.sleep(0.01)
            await sync_to_async(in_thread_again)()

    def in_thread_again() -> None:
        with span("thread again"):
            pass

    with span("thread"):
        async_to_sync(on_loop)()
    return HttpResponse("one\n")


async def async_view(request: HttpRequest) -> HttpResponse:
    async def on_loop_again() -> None:
        with span("loop again"):
            await asyncio.sleep(0.01)

    def in_thread() -> None:
        with span("thread"):
            async_to_sync(on_loop_again)()

    with span("loop"):
        await sync_to_async(in_thread)()
    return HttpResponse("one\n")


urlpatterns = [path("sync", sync_view), path("async", async_view)]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="no secret", MIDDLEWARE=[])
DjangoInstrumentor().instrument()
asgi = Mounts({"/spans": spans, "/": get_asgi_application()}).asgi
wsgi = Mounts({"/spans": spans, "/": get_wsgi_application()}).wsgi
