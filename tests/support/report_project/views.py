"""Views of each kind."""

import asyncio

from django.db import transaction
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.views import View

from bridge.django import on_loop


def plain(request):
    return HttpResponse("plain")


async def waiting(request):
    await asyncio.sleep(0)
    return HttpResponse("waiting")


@on_loop
async def marked(request):
    await asyncio.sleep(0)
    return HttpResponse("marked")


@transaction.non_atomic_requests
async def free(request):
    return HttpResponse("free")


async def templated(request):
    return TemplateResponse(request, "hello.txt")


def templated_plain(request):
    return TemplateResponse(request, "hello.txt")


class Plain(View):
    def get(self, request):
        return HttpResponse("a class")


class Waiting(View):
    async def get(self, request):
        await asyncio.sleep(0)
        return HttpResponse("an async class")


async def ticks():
    yield b"tick"


def lines():
    yield b"line"


async def async_stream(request):
    return StreamingHttpResponse(ticks())


def async_stream_of_a_sync_view(request):
    return StreamingHttpResponse(streaming_content=ticks(), content_type="text/event-stream")


def sync_stream(request):
    return StreamingHttpResponse(lines())


async def sync_stream_of_an_async_view(request):
    return StreamingHttpResponse(str(number) for number in range(3))


class Feed(View):
    async def get(self, request):
        async def events():
            yield b"event"

        return StreamingHttpResponse(events())


async def download(request):
    return FileResponse(open(__file__, "rb"))


def unknown_stream(request):
    return StreamingHttpResponse(request.parts)


def no_stream_after_all(request):
    def makes_one():
        def inner():
            yield b"of another"

        return inner

    return StreamingHttpResponse(makes_one())
