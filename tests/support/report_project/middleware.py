"""Middleware of each kind."""

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin

from bridge.django import BridgeMiddleware


class OwnBridge(BridgeMiddleware):
    """What a project has made of it."""


class SyncOnly:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)


class SyncOnlyWithView(SyncOnly):
    def process_view(self, request, view, args, kwargs):
        return None


@async_only_middleware
def async_only(get_response):
    async def middleware(request):
        return await get_response(request)

    return middleware


@sync_and_async_middleware
def both(get_response):
    if iscoroutinefunction(get_response):

        async def middleware(request):
            return await get_response(request)

    else:

        def middleware(request):
            return get_response(request)

    return middleware


class Native:
    sync_capable = True
    async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        return self.acall(request) if iscoroutinefunction(self) else self.get_response(request)

    async def acall(self, request):
        return await self.get_response(request)


class NativeWithView(Native):
    async def process_view(self, request, view, args, kwargs):
        return None

    async def process_template_response(self, request, response):
        return response


class Mixin(MiddlewareMixin):
    def process_request(self, request):
        return None

    def process_view(self, request, view, args, kwargs):
        return None

    def process_template_response(self, request, response):
        return response


class MixinWithCall(Mixin):
    """Its own async side; the view hook stays."""

    async def __acall__(self, request):
        return await self.get_response(request)


class NotUsed(MiddlewareMixin):
    def __init__(self, get_response):
        raise MiddlewareNotUsed

    def process_request(self, request):
        raise AssertionError


class Neither:
    sync_capable = False
    async_capable = False


def nothing(get_response):
    return None
