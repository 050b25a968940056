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


def _hypercorn_tls(directory: Path, app: str, *more: str) -> Running:
    return serve("hypercorn_tls", directory, app, ["--graceful-timeout", str(grace()), *more], tls=certified(directory))


def hypercorn_tls(directory: Path, app: str) -> Running:
    return _hypercorn_tls(directory, app)


def hypercorn_tls_uvloop(directory: Path, app: str) -> Running:
    return _hypercorn_tls(directory, app, "--worker-class", "uvloop")


def hypercorn_tls_trio(directory: Path, app: str) -> Running:
    return _hypercorn_tls(directory, app, "--worker-class", "trio")


def daphne(directory: Path, app: str) -> Running:
    return serve("daphne", directory, app)


def granian_asgi(directory: Path, app: str) -> Running:
    return serve("granian_asgi", directory, app, ["--workers-kill-timeout", str(grace())])


def granian_asgi_tls(directory: Path, app: str) -> Running:
    more = ["--workers-kill-timeout", str(grace())]
    return serve("granian_asgi_tls", directory, app, more, tls=certified(directory))


def gunicorn_asgi(directory: Path, app: str) -> Running:
    return serve("gunicorn_asgi", directory, app, ["--graceful-timeout", str(grace())])


def gunicorn_asgi_hooks(directory: Path, app: str) -> Running:
    # The worker takes half a second beside its grace, and the adapter its `shutdown_timeout`.
    return serve("gunicorn_asgi_hooks", directory, app, ["--graceful-timeout", "10"])


def gunicorn_asgi_http2(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", str(grace())]
    return serve("gunicorn_asgi_http2", directory, app, more, tls=certified(directory))


def gunicorn_asgi_h2c(directory: Path, app: str) -> Running:
    return serve("gunicorn_asgi_h2c", directory, app, ["--graceful-timeout", str(grace())])
