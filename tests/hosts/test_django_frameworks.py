"""`on_loop`, `BRIDGE["ON_LOOP"]` and the names in `bridge_report` with the real django-ninja and Django REST framework.

adrf is what makes views of Django REST framework async.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import override_settings
from django.urls import include, path

from bridge.django import get_asgi_application, on_loop
from bridge.django._report.project import routes
from support import django_project  # noqa: F401  # sets Django up
from support.django_clients import Asgi
from support.waiting import LogWatch

pytestmark = pytest.mark.hosts

HERE = __name__


def ninja_urls() -> list[Any]:
    from ninja import NinjaAPI, Router

    api = NinjaAPI(docs_url=None, openapi_url=None)
    router = Router()
    router.get("/named")(ninja_named)
    router.get("/several")(ninja_several)
    router.post("/several")(ninja_other)
    api.get("/marked")(ninja_marked)
    api.get("/sync")(ninja_sync)
    api.add_router("/sub", router)
    return [path("ninja/", api.urls)]


async def ninja_named(request: HttpRequest, word: str = "x") -> dict[str, str]:
    return {"word": word}


async def ninja_several(request: HttpRequest) -> dict[str, str]:
    return {}


async def ninja_other(request: HttpRequest) -> dict[str, str]:
    return {}


@on_loop
async def ninja_marked(request: HttpRequest) -> dict[str, str]:
    return {}


def ninja_sync(request: HttpRequest) -> dict[str, str]:
    return {}


def rest_urls() -> list[Any]:
    import adrf.decorators
    import adrf.views
    import adrf.viewsets
    from rest_framework import routers, views
    from rest_framework.decorators import api_view
    from rest_framework.response import Response

    class Async(adrf.views.APIView):
        authentication_classes: Any = ()
        permission_classes: Any = ()

        async def get(self, request: Any) -> Any:
            return Response({"view": "async"})

    class Marked(Async):
        @on_loop
        async def get(self, request: Any) -> Any:
            return Response({"view": "marked"})

    class Shelf(adrf.viewsets.ViewSet):
        authentication_classes: Any = ()
        permission_classes: Any = ()

        async def list(self, request: Any) -> Any:
            return Response([])

        async def retrieve(self, request: Any, pk: Any = None) -> Any:
            return Response({})

    class Sync(views.APIView):
        authentication_classes: Any = ()
        permission_classes: Any = ()

        def get(self, request: Any) -> Any:
            return Response({"view": "sync"})

    async def async_function(request: Any) -> Any:
        return Response({})

    def sync_function(request: Any) -> Any:
        return Response({})

    named = {"Async": Async, "Shelf": Shelf, "Sync": Sync, "Marked": Marked}
    for name, kind in named.items():
        kind.__qualname__ = name
    for function in (async_function, sync_function):
        function.__qualname__ = function.__name__
        function.authentication_classes = function.permission_classes = ()  # type: ignore[attr-defined]
    router = routers.DefaultRouter()
    router.include_root_view = router.include_format_suffixes = False
    router.register("shelf", Shelf, basename="shelf")
    return [
        path("rest/async", Async.as_view()),
        path("rest/marked", Marked.as_view()),
        path("rest/sync", Sync.as_view()),
        path("rest/function", adrf.decorators.api_view(["GET"])(async_function)),
        path("rest/sync-function", api_view(["GET"])(sync_function)),
        path("rest/", include(router.urls)),
    ]


@contextlib.contextmanager
def project(*on_loop: str) -> Iterator[Asgi]:
    """A server with these views, of which some are named by their functions."""

    class Urls:
        urlpatterns = [*ninja_urls(), *rest_urls()]

    named = {"ON_LOOP": [f"{HERE}.{name}" for name in on_loop]}
    renders = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"], "UNAUTHENTICATED_USER": None}
    # Of middleware that is async throughout, all async views would run on the loop.
    chain = ["django.middleware.common.CommonMiddleware"]
    with override_settings(ROOT_URLCONF=Urls, MIDDLEWARE=chain, BRIDGE=named, REST_FRAMEWORK=renders):
        face = Asgi(get_asgi_application(shutdown_timeout=2.0))
        try:
            yield face
        finally:
            face.close()


NAMED = [
    ("ninja_named", "/ninja/sub/named?word=y"),
    ("ninja_other", "/ninja/sub/several"),
    ("Async", "/rest/async"),
    ("Shelf", "/rest/shelf/"),
    ("Shelf.list", "/rest/shelf/"),
    ("Shelf.retrieve", "/rest/shelf/1/"),
    ("async_function", "/rest/function"),
]


def runs_on_loop(face: Asgi, target: str) -> bool:
    """Whether the adapter leaves the request to the loop; and the view answers there."""
    assert 200 == face.ask(target).status
    return bool(face.app._loop_handler.takes({"PATH_INFO": target.partition("?")[0], "SCRIPT_NAME": ""}))


@pytest.mark.parametrize(("name", "target"), NAMED)
def test_a_name_in_on_loop_reaches_the_view(log: LogWatch, name: str, target: str) -> None:
    with project(name) as face:
        assert runs_on_loop(face, target)
        assert not [line for line in log.complaints() if name in line]
    with project() as face:
        assert not runs_on_loop(face, target)


@pytest.mark.parametrize("target", ["/ninja/marked", "/rest/marked"])
def test_the_decorator_reaches_the_view(target: str) -> None:
    with project() as face:
        assert runs_on_loop(face, target)


@pytest.mark.parametrize(("name", "target"), [("ninja_sync", "/ninja/sync"), ("Sync", "/rest/sync")])
def test_what_cannot_run_there_is_said(log: LogWatch, name: str, target: str) -> None:
    with project(name) as face:
        assert not runs_on_loop(face, target)

    log.wait_for(f"{HERE}.{name} should run on the event loop (on_loop), but does not: ", "is sync")


def test_the_report_shows_the_own_functions() -> None:
    with project():
        shown = {route.route: route.path.replace(f"{HERE}.", "") for route in routes(frozenset())}

    assert {
        "ninja/sub/named": "ninja_named",
        "ninja/sub/several": "ninja_several, ninja_other",
        "ninja/marked": "ninja_marked",
        "ninja/sync": "ninja_sync",
        "rest/async": "Async",
        "rest/sync": "Sync",
        "rest/function": "async_function",
        "rest/sync-function": "sync_function",
        "rest/^shelf/$": "Shelf.list",
        "rest/^shelf/(?P<pk>[^/.]+)/$": "Shelf.retrieve",
    }.items() <= shown.items()
