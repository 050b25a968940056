"""The subjects: our adapters, those of the peers with the defaults they ship with, and the app without any adapter.

A package is imported when its subject is built, so that each measured process holds only what it measures.
"""

import importlib
import importlib.metadata
import os
import re
import sys
import warnings
from typing import Any

from benchmarks import apps
from benchmarks.apps import ASGIApp, WSGIApp

BRIDGE = "bridge"
# `bridge` of another commit, whose sources are at the path that the environment variable names.
AGAINST = "against"
AGAINST_SOURCES = "BRIDGE_BENCHMARKS_AGAINST"
# The interpreters that `bridge` is measured on beside this one, by the names of their versions; see `on`.
PYTHONS: dict[str, str] = {}
NATIVE = "native"
# The same behind a bare hop: see `hops`.
HOP = "hop"
# For the requests that block: as many threads as ours has by default, beside the ten that a2wsgi has by default.
A2WSGI_40 = "a2wsgi-40-workers"
# `bridge` where a thread that computes gives up the interpreter lock each millisecond; by default it keeps it for five.
BRIDGE_1_MS = "bridge-1-ms"
_SWITCH_SECONDS = {BRIDGE_1_MS: 0.001}
PACKAGES = (
    "a2wsgi",
    "asgiref",
    "gunicorn",
    "httptools",
    "uvicorn",
    "uvloop",
    "waitress",
    "websockets",
    "wsgi-asgi-bridge",
    "wsproto",
)

_WSGI_TO_ASGI: dict[str, tuple[str, str, dict[str, Any]]] = {
    BRIDGE: ("bridge", "WsgiToAsgi", {}),
    BRIDGE_1_MS: ("bridge", "WsgiToAsgi", {}),
    "a2wsgi": ("a2wsgi", "WSGIMiddleware", {}),
    A2WSGI_40: ("a2wsgi", "WSGIMiddleware", {"workers": 40}),
    "asgiref": ("asgiref.wsgi", "WsgiToAsgi", {}),
    # Uvicorn's own, which it deprecates: its public name `WSGIMiddleware` is a2wsgi's wherever that is installed.
    "uvicorn": ("uvicorn.middleware.wsgi", "_WSGIMiddleware", {}),
}
_ASGI_TO_WSGI: dict[str, tuple[str, str, dict[str, Any]]] = {
    BRIDGE: ("bridge", "AsgiToWsgi", {}),
    "a2wsgi": ("a2wsgi", "ASGIMiddleware", {}),
}


def on(python: str) -> str:
    """The subject that is `bridge` on another Python of this name, such as `3.14` or `3.14t`."""
    return f"{BRIDGE}-on-{python}"


def python_of(subject: str) -> str | None:
    """The name of the other Python that `subject` is measured on."""
    found = re.search(rf"{on('')}(\S+)$", subject)
    return found and found[1]


def in_process_of_its_own(subject: str) -> tuple[str, str, dict[str, str]]:
    """The interpreter of a process that runs `subject`, what to call it there, and the environment variables there."""
    environment = dict(os.environ)
    if python := python_of(subject):
        return PYTHONS[python], subject.replace(on(python), BRIDGE), environment
    if AGAINST not in subject:
        return sys.executable, subject, environment
    paths = [os.environ[AGAINST_SOURCES], os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return sys.executable, subject.replace(AGAINST, BRIDGE), environment


def wsgi_to_asgi(subject: str, app: WSGIApp) -> ASGIApp:
    """`app` behind the adapter of `subject`, as an ASGI app."""
    if subject in _SWITCH_SECONDS:
        sys.setswitchinterval(_SWITCH_SECONDS[subject])
    adapted: ASGIApp = _build(_WSGI_TO_ASGI[subject], app)
    return adapted


def asgi_to_wsgi(subject: str, app: ASGIApp) -> WSGIApp:
    """`app` behind the adapter of `subject`, as a WSGI app."""
    adapted: WSGIApp = _build(_ASGI_TO_WSGI[subject], app)
    return adapted


def wsgi_site(subject: str) -> WSGIApp:
    """What a WSGI server runs: the WSGI site itself, or the ASGI site behind the adapter of `subject`."""
    return apps.wsgi_site if subject == NATIVE else asgi_to_wsgi(subject, apps.asgi_site)


def _build(adapter: tuple[str, str, dict[str, Any]], app: Any) -> Any:
    module, name, options = adapter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(importlib.import_module(module), name)(app, **options)


def versions() -> dict[str, str]:
    """The installed version of each package that takes part, or `missing`."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found
