"""`bridge serve`: runs a server, with the application in the interface of that server."""

import argparse
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from bridge.cli import _servers
from bridge.cli._load import describe, load
from bridge.cli._servers import Server, Wanted
from bridge.interfaces import Interface, asgi_side, wsgi_side

SERVER_NAMES: Final = tuple(_servers.SERVERS)
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_SERVED_APP: Final = "bridge.cli._served:app"
_DEFAULT_THREADS: Final = 40
_SPEAKS: Final[dict[Interface, str]] = {"asgi": "speaks ASGI", "wsgi": "speaks WSGI", "both": "speaks ASGI and WSGI"}


def serve(options: argparse.Namespace, further: list[str]) -> NoReturn:
    """Become the server. Raises `SystemExit` if that is not possible."""
    server = _servers.SERVERS[options.under]
    for name in server.lacks:
        if getattr(options, name):
            _refuse(f"{server.title} has no --{name.replace('_', '-')}", status=2)
    if importlib.util.find_spec(options.under) is None:
        _refuse(f"{server.title} is not installed: pip install '{server.install}'")
    here = Path.cwd()
    app, interface = load(options.app)
    os.chdir(here)  # a module may have changed it, and the server would not find that module again
    threads = options.threads or _DEFAULT_THREADS
    wanted = server.wants(interface)
    if options.threads and not server.own_threads(wanted) and not _runs_in_threads(app, wanted):
        _refuse(f"{options.app} runs on the loop of {server.title}: --threads is for WSGI code", status=2)
    if problem := _cannot_listen(options.host, options.port, options.uds):
        _refuse(f"cannot listen on {options.uds or f'{options.host} port {options.port}'}: {problem}")
    told = f"{options.app} ({describe(app)}) {_SPEAKS[interface]}; {server.title} runs it"
    sys.stderr.write(f"bridge: {told} {_way(app, wanted, threads)}\n")
    sys.stderr.flush()
    _become(server, options, wanted, threads, further)


def _way(app: Any, wanted: Wanted, threads: int) -> str:
    side = asgi_side(app) if wanted == "asgi" else wsgi_side(app)
    if side is not None:
        return f"as {wanted.upper()}, natively"
    return f"in WsgiToAsgi, with {threads} threads" if wanted == "asgi" else "in AsgiToWsgi"


def _runs_in_threads(app: Any, wanted: Wanted) -> bool:
    """Whether an adapter that is made here has the threads."""
    return wanted == "asgi" and asgi_side(app) is None


def _become(server: Server, options: argparse.Namespace, wanted: Wanted, threads: int, further: list[str]) -> NoReturn:
    told = {"app": options.app, "under": options.under, "wanted": wanted, "threads": threads}
    told |= {"grace": _servers.grace(options), "reload": options.reload}
    os.environ[_servers.KEY] = json.dumps(told)
    command = [sys.executable, "-m", *server.command(options, wanted, threads), *further, _SERVED_APP]
    # The server replaces this process, so that signals and the exit status are the server's.
    os.execv(sys.executable, command)  # noqa: S606 - no shell


def _cannot_listen(host: str, port: int, uds: str | None) -> str | None:
    """Why it is not possible to listen there, or None. Checked first, because a server would find out last."""
    if uds is not None:
        return None if Path(uds).parent.is_dir() else "there is no such directory"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError:  # of a name with an empty part, or one of more than 63 letters
        return "it is not the name of a host"
    return None


def _refuse(message: str, status: int = 1) -> NoReturn:
    sys.stderr.write(f"bridge: {message}\n")
    raise SystemExit(status)
