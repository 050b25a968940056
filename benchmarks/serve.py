"""A server in a process of its own: `python -m benchmarks.serve SERVER SUBJECT PORT`.

One process that answers, no access log, and otherwise the defaults of each server.
"""

import sys
from typing import Any

import uvicorn
import waitress  # type: ignore[import-untyped]
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from benchmarks import apps, embedding, peers

GTHREAD_THREADS = 32
WAITRESS_THREADS = 32
# Each WebSocket holds one.
WEBSOCKET_THREADS = 120
_DJANGO = "django:"


def run_uvicorn(subject: str, port: int, **options: Any) -> None:
    """Uvicorn with httptools and uvloop, running the ASGI site or, behind an adapter, the WSGI site."""
    if subject.startswith(_DJANGO):
        app: Any = _django("uvicorn", subject)
    else:
        app = apps.asgi_site if subject == peers.NATIVE else peers.wsgi_to_asgi(subject, apps.wsgi_site)
    settings: dict[str, Any] = {"http": "httptools", "loop": "uvloop", "access_log": False, "log_level": "warning"}
    uvicorn.run(app, host="127.0.0.1", port=port, **settings | options)


def run_gunicorn(subject: str, port: int, **options: object) -> None:
    """Gunicorn with one worker, running the WSGI site or, behind an adapter, the ASGI site."""

    class Site(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            settings = {
                "bind": f"127.0.0.1:{port}",
                "workers": 1,
                "loglevel": "warning",
                "control_socket_disable": True,
            }
            for name, value in (settings | options).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            if subject.startswith(_DJANGO):
                return _django("gunicorn", subject)
            return peers.wsgi_site(subject)

    Site().run()


def run_waitress(subject: str, port: int) -> None:
    """Waitress, running the WSGI site or, behind an adapter, the ASGI site."""
    # By default it closes connections above 100.
    waitress.serve(
        peers.wsgi_site(subject), host="127.0.0.1", port=port, threads=WAITRESS_THREADS, connection_limit=2000
    )


def _django(server: str, subject: str) -> Any:
    from benchmarks import django_site

    return django_site.application(server, bridged=subject == _DJANGO + peers.BRIDGE)


def main(server: str, subject: str, port: int) -> None:
    """Serve until SIGTERM."""
    if server == "uvicorn":
        run_uvicorn(subject, port)
    elif server == "gunicorn-sync":
        run_gunicorn(subject, port, worker_class="sync")
    elif server == "gunicorn-gthread":
        run_gunicorn(subject, port, worker_class="gthread", threads=GTHREAD_THREADS)
    elif server == "waitress":
        run_waitress(subject, port)
    elif server == "uwsgi":
        embedding.run_uwsgi(subject, port)
    elif server == "mod_wsgi":
        embedding.run_mod_wsgi(subject, port)
    elif server == "gunicorn-websockets":
        run_gunicorn(subject, port, worker_class="gthread", threads=WEBSOCKET_THREADS)
    elif server == "uvicorn-websockets":
        run_uvicorn(subject, port, ws="websockets")
    else:
        raise LookupError(f"no server is called {server!r}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
