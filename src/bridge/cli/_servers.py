"""The servers that `bridge serve` knows: the interfaces of each, and its names for the options."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from bridge.interfaces import Interface

Wanted = Literal["asgi", "wsgi"]
Command = Callable[[argparse.Namespace, Wanted, int], Iterator[str]]

# Seconds that requests in progress get when the server stops. With --reload, a developer waits for the new code.
GRACE_SECONDS: Final = 10
RELOAD_GRACE_SECONDS: Final = 1

# The environment variable that tells the server's process what to serve.
KEY: Final = "BRIDGE_SERVE"


@dataclass(frozen=True)
class Server:
    """One server. `lacks` are the options that it does not have."""

    title: str
    install: str
    speaks: tuple[Wanted, ...]
    words: Command
    lacks: tuple[str, ...] = ()

    def wants(self, interface: Interface) -> Wanted:
        """The interface in which the server gets an application of this interface."""
        for each in self.speaks:
            if each == interface:
                return each
        return self.speaks[0]

    def own_threads(self, wanted: Wanted) -> bool:
        """Whether the server has its own threads for such an application."""
        return wanted == "wsgi"

    def command(self, options: argparse.Namespace, wanted: Wanted, threads: int) -> list[str]:
        """The words after `python -m`, without the application."""
        return list(self.words(options, wanted, threads))


def grace(options: argparse.Namespace) -> int:
    """The seconds that requests in progress get when the server stops."""
    return int(options.grace or (RELOAD_GRACE_SECONDS if options.reload else GRACE_SECONDS))


def _address(options: argparse.Namespace) -> str:
    return f"[{options.host}]:{options.port}" if ":" in options.host else f"{options.host}:{options.port}"


def _common(options: argparse.Namespace) -> Iterator[str]:
    """The options that most servers call by the same name."""
    if options.workers:
        yield from ("--workers", str(options.workers))
    if options.reload:
        yield "--reload"
    if options.log_level:
        yield from ("--log-level", options.log_level)


def _uvicorn(options: argparse.Namespace, _wanted: Wanted, _threads: int) -> Iterator[str]:
    yield from ("uvicorn", "--interface", "asgi3")
    if options.uds:
        yield from ("--uds", options.uds)
    else:
        yield from ("--host", options.host, "--port", str(options.port))
    yield from ("--timeout-graceful-shutdown", str(grace(options)))
    yield from _common(options)


def _hypercorn(options: argparse.Namespace, _wanted: Wanted, _threads: int) -> Iterator[str]:
    yield from ("hypercorn", "--bind", f"unix:{options.uds}" if options.uds else _address(options))
    yield from ("--graceful-timeout", str(grace(options)))
    yield from _common(options)


def _granian(options: argparse.Namespace, wanted: Wanted, threads: int) -> Iterator[str]:
    yield from ("granian", "--interface", wanted)
    if options.uds:
        yield from ("--uds", options.uds)
    else:
        yield from ("--host", options.host, "--port", str(options.port))
    if wanted == "wsgi":
        yield from ("--blocking-threads", str(threads))
    yield from ("--workers-kill-timeout", str(grace(options)))
    yield from _common(options)


def _gunicorn(options: argparse.Namespace, _wanted: Wanted, threads: int) -> Iterator[str]:
    yield from ("gunicorn", "--bind", f"unix:{options.uds}" if options.uds else _address(options))
    yield from ("--worker-class", "gthread", "--threads", str(threads))
    yield from ("--graceful-timeout", str(grace(options)))
    yield from _common(options)


def _waitress(options: argparse.Namespace, _wanted: Wanted, threads: int) -> Iterator[str]:
    yield "waitress"
    yield f"--unix-socket={options.uds}" if options.uds else f"--listen={_address(options)}"
    yield f"--threads={threads}"


SERVERS: Final = {
    "uvicorn": Server("Uvicorn", "wsgi-asgi-bridge[serve]", ("asgi",), _uvicorn),
    "gunicorn": Server("Gunicorn", "gunicorn", ("wsgi",), _gunicorn),
    "waitress": Server("Waitress", "waitress", ("wsgi",), _waitress, lacks=("workers", "reload", "log_level", "grace")),
    "hypercorn": Server("Hypercorn", "hypercorn", ("asgi",), _hypercorn),
    "granian": Server("Granian", "granian", ("asgi", "wsgi"), _granian),
}
