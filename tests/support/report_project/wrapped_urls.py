from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.urls import path

from bridge.django import on_loop


@on_loop
async def hidden(request):
    return HttpResponse("hidden")


def without_wraps(view):
    async def wrapper(*args, **kwargs):
        return await view(*args, **kwargs)

    return wrapper


def made_sync(view):
    def wrapper(*args, **kwargs):
        return async_to_sync(view)(*args, **kwargs)

    return wrapper


async def named(request):
    return HttpResponse("named")


urlpatterns = [path("hidden/", made_sync(hidden)), path("named/", without_wraps(named))]
