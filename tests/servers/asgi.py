"""ASGI servers."""

from pathlib import Path

from servers.certificates import certified
from servers.process import Running, grace, serve


def _uvicorn(name: str, directory: Path, app: str) -> Running:
    return serve(name, directory, app, ["--timeout-graceful-shutdown", str(grace())])


def uvicorn_httptools_uvloop(directory: Path, app: str) -> Running:
    return _uvicorn("uvicorn_httptools_uvloop", directory, app)


def uvicorn_h11_asyncio(directory: Path, app: str) -> Running:
    return _uvicorn("uvicorn_h11_asyncio", directory, app)


def _hypercorn(name: str, directory: Path, app: str) -> Running:
    return serve(name, directory, app, ["--graceful-timeout", str(grace())])


def hypercorn_asyncio(directory: Path, app: str) -> Running:
    return _hypercorn("hypercorn_asyncio", directory, app)


def hypercorn_uvloop(directory: Path, app: str) -> Running:
    return _hypercorn("hypercorn_uvloop", directory, app)


def hypercorn_trio(directory: Path, app: str) -> Running:
    return _hypercorn("hypercorn_trio", directory, app)


def hypercorn_tls(directory: Path, app: str) -> Running:
    return serve("hypercorn_tls", directory, app, ["--graceful-timeout", str(grace())], tls=certified(directory))


def daphne(directory: Path, app: str) -> Running:
    return serve("daphne", directory, app)


def granian_asgi(directory: Path, app: str) -> Running:
    return serve("granian_asgi", directory, app, ["--workers-kill-timeout", str(grace())])


def gunicorn_asgi(directory: Path, app: str) -> Running:
    return serve("gunicorn_asgi", directory, app, ["--graceful-timeout", str(grace())])


def gunicorn_asgi_hooks(directory: Path, app: str) -> Running:
    # The worker takes half a second beside its grace, and the adapter its `shutdown_timeout`.
    return serve("gunicorn_asgi_hooks", directory, app, ["--graceful-timeout", "10"])
