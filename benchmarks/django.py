"""A Django project on real servers: `bridge.django` beside Django's own handlers."""

import contextlib
from http.client import HTTPConnection
from time import perf_counter

from benchmarks import servers
from benchmarks.child import SampleError
from benchmarks.memory import peak_over_idle, reset_peak
from benchmarks.peers import BRIDGE
from benchmarks.settings import Settings

DJANGO = "django"
DJANGO_SYNC_VIEW = "django-sync-view"
DJANGO_GUNICORN_SYNC = "django-gunicorn-sync"
DJANGO_GUNICORN_GTHREAD = "django-gunicorn-gthread"
SITE = "django:"
_MIB = 2**20
_WARM_UP_REQUESTS = 20


def sync_view(subject: str, settings: Settings) -> dict[str, float]:
    """Requests a second of a sync view: on Uvicorn, or by Django's own WSGI handler on one of Gunicorn's workers."""
    on_gunicorn = {DJANGO_GUNICORN_SYNC: "gunicorn-sync", DJANGO_GUNICORN_GTHREAD: "gunicorn-gthread"}
    if subject in on_gunicorn:
        return servers.rate(on_gunicorn[subject], SITE + DJANGO, "/", settings)
    return servers.rate("uvicorn", SITE + subject, "/", settings)


def async_view(subject: str, settings: Settings) -> dict[str, float]:
    """Requests a second of an async view on Uvicorn."""
    return servers.rate("uvicorn", SITE + subject, "/async", settings)


def async_view_on_wsgi(subject: str, settings: Settings) -> dict[str, float]:
    """Requests a second of an async view on Gunicorn's sync worker; or of the sync view, by Django's own handler."""
    if subject == DJANGO_SYNC_VIEW:
        return servers.rate("gunicorn-sync", SITE + DJANGO, "/", settings)
    return servers.rate("gunicorn-sync", SITE + subject, "/async", settings)


def streams(subject: str, settings: Settings) -> dict[str, float]:
    """A large file, and a stream of the kind that the server's interface does not have: memory, and the first byte."""
    metrics: dict[str, float] = {}
    for name, server, path in (
        ("file", "uvicorn", "/file"),
        ("sync-on-asgi", "uvicorn", "/stream"),
        ("async-on-wsgi", "gunicorn-gthread", "/async-stream"),
    ):
        with servers.running(server, SITE + subject) as site:
            connection = HTTPConnection("127.0.0.1", site.port, timeout=60)
            with contextlib.closing(connection):
                for _ in range(_WARM_UP_REQUESTS):
                    connection.request("GET", "/")
                    connection.getresponse().read()
                idle = reset_peak(site.pid)
                started = perf_counter()
                connection.request("GET", path)
                response = connection.getresponse()
                size = len(response.read(1))
                metrics[f"{name}-first"] = (perf_counter() - started) * 1000
                while data := response.read(65536):
                    size += len(data)
                metrics[f"{name}-memory"] = peak_over_idle(site.pid, idle) / _MIB
                metrics[f"{name}-rate"] = size / _MIB / (perf_counter() - started)
                if size < 9 * _MIB:
                    raise SampleError(f"{server} with {subject} sent {size} bytes of {path}")
    return metrics


SUBJECTS = (BRIDGE, DJANGO)
