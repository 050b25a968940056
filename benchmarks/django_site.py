"""A Django project with what `startproject` writes, and the views that are measured; no database is touched."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from benchmarks import apps

FILE_BYTES = 100 * 2**20
STREAM_CHUNKS = 10_000


def chunk(number: int) -> bytes:
    """1 KiB, each an object of its own."""
    return b"%015d\n" % number * 64


def configure() -> None:
    """The settings of `startproject`, without DEBUG."""
    if settings.configured:
        return
    contrib = ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
    settings.configure(
        SECRET_KEY="for measuring only",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[f"django.contrib.{name}" for name in contrib],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
    )


configure()
django.setup()

from django.http import FileResponse, HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def hello(request: Any) -> HttpResponse:
    return HttpResponse(apps.HELLO)


async def async_hello(request: Any) -> HttpResponse:
    return HttpResponse(apps.HELLO)


def file(request: Any) -> FileResponse:
    large = Path(tempfile.gettempdir()) / f"bridge-benchmark-{FILE_BYTES}.bin"
    if not large.exists() or large.stat().st_size != FILE_BYTES:
        with large.open("wb") as opened:
            opened.truncate(FILE_BYTES)
    return FileResponse(large.open("rb"))


def stream(request: Any) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        for number in range(STREAM_CHUNKS):
            yield chunk(number)

    return StreamingHttpResponse(chunks())


async def async_stream(request: Any) -> StreamingHttpResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(STREAM_CHUNKS):
            yield chunk(number)

    return StreamingHttpResponse(chunks())


urlpatterns = [
    path("", hello),
    path("async", async_hello),
    path("file", file),
    path("stream", stream),
    path("async-stream", async_stream),
]


def application(server: str, *, bridged: bool) -> Any:
    """The project for Uvicorn or one of Gunicorn's workers, by its own entry points or by those of `bridge.django`."""
    if bridged:
        from bridge.django import get_asgi_application, get_wsgi_application
    else:
        from django.core.asgi import get_asgi_application
        from django.core.wsgi import get_wsgi_application
    return get_asgi_application() if server == "uvicorn" else get_wsgi_application()
