"""A Django project for the tests: settings, URLs and views, each view named for what it does or shows."""

import asyncio
import collections
import contextvars
import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import django
from asgiref.local import Local
from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings

from support import apps

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


def _database() -> dict[str, Any]:
    """SQLite; or PostgreSQL on the port in `DJANGO_SITE_POSTGRES`, with psycopg's pool or persistent connections."""
    port = os.environ.get("DJANGO_SITE_POSTGRES")
    if port is None:
        name = Path(tempfile.gettempdir(), f"django_project-{os.getpid()}.sqlite3")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "CONN_MAX_AGE": 600}
    pooled = "DJANGO_SITE_POOL" in os.environ
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": port,
        "NAME": "postgres",
        "USER": "postgres",
        "CONN_MAX_AGE": 0 if pooled else 600,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 4, "timeout": 20}} if pooled else {},
    }


def configure() -> None:
    """Set Django up, once a process."""
    if settings.configured:
        return
    settings.configure(
        DEBUG=False,
        SECRET_KEY="not a secret",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="support.django_project",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
        ],
        MIDDLEWARE=MIDDLEWARE,
        DATABASES={"default": _database()},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        LANGUAGES=[("en", "English"), ("de", "German"), ("fr", "French")],
        USE_TZ=True,
        TIME_ZONE="UTC",
        LOGGING_CONFIG=None,
    )
    django.setup(set_prefix=False)


configure()

from django.core.cache import caches  # noqa: E402
from django.core.signals import request_finished, request_started  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import (  # noqa: E402
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines  # noqa: E402
from django.template.response import TemplateResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone, translation  # noqa: E402
from django.utils.decorators import sync_and_async_middleware  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

local = Local()
variable: contextvars.ContextVar[str] = contextvars.ContextVar("django_project", default="unset")
# What happened, with the thread that it happened in.
events: list[tuple[str, int]] = []


def note(what: str) -> None:
    events.append((what, threading.get_ident()))


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


# --- small answers


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello\n")


async def async_hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello\n")


def held(request: HttpRequest) -> HttpResponse:
    return HttpResponse(apps.hold(request.GET["id"]))


def where(request: HttpRequest) -> HttpResponse:
    """The thread of the view, and the loop that runs there."""
    note("view")
    return JsonResponse({"thread": threading.get_ident(), "loop": id(_loop()) if _loop() else None})


async def async_where(request: HttpRequest) -> HttpResponse:
    """As `where`; and the thread of the ORM, twice."""
    note("view")
    orm = [await sync_to_async(threading.get_ident)() for _ in range(2)]
    return JsonResponse({"thread": threading.get_ident(), "loop": id(_loop()), "orm": orm})


def calls_async(request: HttpRequest) -> HttpResponse:
    """A sync view that calls async code: through asgiref, and through the bridge."""

    async def loop() -> int:
        return id(asyncio.get_running_loop())

    return JsonResponse({"asgiref": async_to_sync(loop)(), "bridge": request.bridge.call_async(loop)})  # type: ignore[attr-defined]


def facts(request: Any) -> HttpResponse:
    keys = ("REQUEST_METHOD", "SERVER_PROTOCOL", "QUERY_STRING", "SCRIPT_NAME", "PATH_INFO", "SERVER_PORT")
    meta = {key: request.META.get(key) for key in keys}
    meta |= {key: request.META[key] for key in request.META if key.startswith("HTTP_X")}
    return JsonResponse(
        {
            "meta": meta,
            "wsgi": sorted(key for key in request.META if key.startswith("wsgi.")),
            "environ": request.environ is request.META,
            "scope": [request.scope["type"], request.scope["path"], request.scope["method"]],
            "state": dict(request.scope.get("state") or {}),
            "interface": request.bridge.interface,
            "path": request.path,
            "cookies": request.COOKIES,
        }
    )


async def async_facts(request: Any) -> HttpResponse:
    return facts(request)


# --- request bodies


@csrf_exempt
def body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


@csrf_exempt
async def async_body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


@csrf_exempt
def lines(request: HttpRequest) -> HttpResponse:
    """By `readline`, iteration and `read`, as a parser may."""
    first = request.readline()
    second = next(iter(request))
    return JsonResponse({"lines": [first.decode(), second.decode()], "rest": request.read().decode()})


@csrf_exempt
async def async_lines(request: HttpRequest) -> HttpResponse:
    return lines(request)


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    files = {name: [file.name, file.size, file.read(16).decode()] for name, file in request.FILES.items()}
    return JsonResponse({"post": request.POST.dict(), "files": files})


@csrf_exempt
async def async_form(request: HttpRequest) -> HttpResponse:
    return form(request)


# --- streams


class Watched:
    """A stream that the test steps: each part waits for `go`; `ended` and `closed` tell of its end."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.closed = threading.Event()
        self.closings: list[int] = []

    def close(self) -> None:
        self.closings.append(threading.get_ident())
        self.closed.set()


watched = Watched()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        try:
            for number in range(int(request.GET.get("parts", "3"))):
                yield b"%d\n" % number
        finally:
            note("closed")

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            for number in range(int(request.GET.get("parts", "3"))):
                yield b"%d\n" % number
                await asyncio.sleep(0)
        finally:
            note("closed")

    return StreamingHttpResponse(parts(), content_type="text/plain")


def endless(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1024
        finally:
            note("closed")

    return StreamingHttpResponse(parts())


async def async_endless(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            note("closed")

    return StreamingHttpResponse(parts())


async def async_orm_stream(request: HttpRequest) -> StreamingHttpResponse:
    """A stream whose parts tell the thread of the ORM."""

    async def parts() -> AsyncIterator[str]:
        for _ in range(3):
            yield f"{await sync_to_async(threading.get_ident)()} {await sync_to_async(_connection)()}\n"

    return StreamingHttpResponse(parts())


def breaks_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the stream broke")

    return StreamingHttpResponse(parts())


async def async_breaks_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("the stream broke")

    return StreamingHttpResponse(parts())


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"), filename="site.py")


async def async_file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"), filename="site.py")


# --- state of the request


def _state() -> dict[str, str]:
    return {
        "language": translation.get_language(),
        "zone": timezone.get_current_timezone_name(),
        "local": getattr(local, "value", "unset"),
        "variable": variable.get(),
    }


def _set(value: str) -> None:
    translation.activate(value)
    timezone.activate(f"Etc/GMT-{len(value)}")
    local.value = value
    variable.set(value)


def state(request: HttpRequest) -> HttpResponse:
    before = _state()
    if "set" in request.GET:
        _set(request.GET["set"])
    return JsonResponse({"before": before, "after": _state()})


async def async_state(request: HttpRequest) -> HttpResponse:
    before = _state()
    if "set" in request.GET:
        _set(request.GET["set"])
    await asyncio.sleep(0)
    in_thread = await sync_to_async(_state)()
    return JsonResponse({"before": before, "after": _state(), "in_thread": in_thread})


def stateful_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Its parts tell the state, before and after the first."""
    if "set" in request.GET:
        _set(request.GET["set"])

    def parts() -> Iterator[str]:
        yield _state()["local"]
        yield f" {variable.get()}"

    return StreamingHttpResponse(parts())


async def async_stateful_stream(request: HttpRequest) -> StreamingHttpResponse:
    if "set" in request.GET:
        _set(request.GET["set"])

    async def parts() -> AsyncIterator[str]:
        yield _state()["local"]
        yield f" {variable.get()}"

    return StreamingHttpResponse(parts())


def state_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Sets the state before the view, and shows what the view has left."""

    def middleware(request: HttpRequest) -> Any:
        if "middle" in request.GET:
            _set(request.GET["middle"])
        response = get_response(request)
        response.headers["X-After"] = _state()["local"]
        return response

    return middleware


def thread_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    def middleware(request: HttpRequest) -> Any:
        note("middleware in")
        response = get_response(request)
        note("middleware out")
        return response

    return middleware


# --- failures


class Private(Exception):
    """Has a message that only logs may show."""


def fails(request: HttpRequest) -> HttpResponse:
    password = "hunter2"  # noqa: F841
    raise Private("the view failed")


async def async_fails(request: HttpRequest) -> HttpResponse:
    password = "hunter2"  # noqa: F841
    await asyncio.sleep(0)
    raise Private("the view failed")


async def async_cancels(request: HttpRequest) -> HttpResponse:
    raise asyncio.CancelledError


async def async_waits(request: HttpRequest) -> HttpResponse:
    """Waits until it is cancelled."""
    note("waits")
    try:
        await asyncio.Event().wait()
    finally:
        note("cancelled")
        await sync_to_async(note)("cleaned")
    return HttpResponse("never")


def template(request: HttpRequest) -> TemplateResponse:
    return TemplateResponse(request, engines["django"].from_string("hello {{ name }}\n"), {"name": "template"})


async def async_template(request: HttpRequest) -> TemplateResponse:
    return template(request)


@sync_and_async_middleware
class TemplateMiddleware:
    """Middleware with an async hook."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    async def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        response.context_data["name"] = "middleware"
        return response


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse()
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response


async def async_cookies(request: HttpRequest) -> HttpResponse:
    return cookies(request)


# --- database


def _connection() -> int:
    connection.ensure_connection()
    return id(connection.connection)


def database(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"connection": _connection(), "thread": threading.get_ident()})


async def async_database(request: HttpRequest) -> HttpResponse:
    return JsonResponse(
        {"connection": await sync_to_async(_connection)(), "thread": await sync_to_async(threading.get_ident)()}
    )


def _backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_sleep(0.01)")
        return int(cursor.fetchone()[0])


def backend(request: HttpRequest) -> HttpResponse:
    """PostgreSQL's process for the connection."""
    return JsonResponse({"backend": [_backend(), _backend()]})


async def async_backend(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"backend": [await sync_to_async(_backend)(), await sync_to_async(_backend)()]})


async def async_backend_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        for _ in range(2):
            yield f"{await sync_to_async(_backend)()} "

    return StreamingHttpResponse(parts())


def cached(request: HttpRequest) -> HttpResponse:
    """The cache of the thread, which may hold a connection."""
    caches["default"].set("key", 1)
    return JsonResponse({"cache": id(caches["default"]), "thread": threading.get_ident()})


async def async_cached(request: HttpRequest) -> HttpResponse:
    await caches["default"].aset("key", 1)
    return JsonResponse({"cache": id(caches["default"]), "thread": await sync_to_async(threading.get_ident)()})


caches_held: list[int] = []


async def async_holds_cache(request: HttpRequest) -> HttpResponse:
    """Notes its cache, and keeps it."""
    caches_held.append(id(caches["default"]))
    await asyncio.Event().wait()
    return HttpResponse("never")


async def async_cached_stream(request: HttpRequest) -> StreamingHttpResponse:
    before = id(caches["default"])

    async def parts() -> AsyncIterator[str]:
        yield f"{before} {id(caches['default'])}"

    return StreamingHttpResponse(parts())


def counters(request: HttpRequest) -> HttpResponse:
    """What happened so far, by its name, and under "pid" the process."""
    return JsonResponse({"pid": os.getpid()} | collections.Counter(name for name, _ in events))


@csrf_exempt
def digest(request: HttpRequest) -> HttpResponse:
    """Of a body of any size, piece by piece."""
    found = hashlib.sha256()
    while data := request.read(65536):
        found.update(data)
    return HttpResponse(found.hexdigest())


@csrf_exempt
async def async_digest(request: HttpRequest) -> HttpResponse:
    return digest(request)


async def async_ticks(request: HttpRequest) -> StreamingHttpResponse:
    """Server-sent events, twenty a second."""

    async def parts() -> AsyncIterator[str]:
        note("feed")
        try:
            for number in range(1000):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.05)
        finally:
            note("feed closed")

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


_VIEWS = [
    *(hello, async_hello, where, async_where, calls_async, facts, async_facts, body, async_body, lines),
    *(async_lines, form, async_form, stream, async_stream, endless, async_endless, async_orm_stream),
    *(breaks_stream, async_breaks_stream, file, async_file, stateful_stream, async_stateful_stream, state),
    *(async_state, fails, async_fails, async_cancels, async_waits, template, async_template, database),
    *(async_database, backend, async_backend, async_backend_stream, cached, async_cached, async_cached_stream),
    *(counters, held, digest, async_digest, async_ticks, cookies, async_cookies, async_holds_cache),
]
urlpatterns = [path(view.__name__, view, name=view.__name__) for view in _VIEWS]

__all__ = ["request_finished", "request_started", "urlpatterns"]
