"""WSGI servers."""

import subprocess
import textwrap
from pathlib import Path

from servers.certificates import certified
from servers.process import Running, grace, serve, threads
from support.paths import ROOT


def _gunicorn(name: str, directory: Path, app: str, *more: str) -> Running:
    return serve(name, directory, app, ["--graceful-timeout", str(grace()), *more])


def gunicorn_sync(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_sync", directory, app, "--workers", "1")


def gunicorn_sync_preload(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_sync", directory, app, "--workers", "1", "--preload")


def gunicorn_gthread(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_gthread", directory, app, "--threads", str(threads()))


def gunicorn_gthread_preload(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_gthread", directory, app, "--threads", str(threads()), "--preload")


def gunicorn_http2(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", str(grace()), "--threads", str(threads())]
    return serve("gunicorn_http2", directory, app, more, tls=certified(directory))


CERTIFIED = ["--certfile", "cert.pem", "--keyfile", "key.pem"]


def gunicorn_sync_tls(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", str(grace()), "--workers", "1", *CERTIFIED]
    return serve("gunicorn_sync", directory, app, more, tls=certified(directory))


def gunicorn_gevent_tls(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", str(grace()), *CERTIFIED]
    return serve("gunicorn_gevent", directory, app, more, tls=certified(directory))


def gunicorn_gevent_pywsgi_tls(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", str(grace()), *CERTIFIED]
    return serve("gunicorn_gevent_pywsgi", directory, app, more, tls=certified(directory))


def gunicorn_h2c(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_h2c", directory, app, "--threads", "6")


def gunicorn_hooks(directory: Path, app: str) -> Running:
    return serve("gunicorn_hooks", directory, app, ["--graceful-timeout", "6", "--threads", str(threads())])


def gunicorn_sync_hooks(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", "6", "--worker-class", "sync", "--threads", "1"]
    return serve("gunicorn_hooks", directory, app, more)


def gunicorn_gevent_hooks(directory: Path, app: str) -> Running:
    # The worker looks at its clock each second, and takes another one to end its greenlets.
    return serve("gunicorn_gevent_hooks", directory, app, ["--graceful-timeout", "10"])


def gunicorn_gevent_pywsgi_hooks(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", "10", "--worker-class", "gevent_pywsgi", "--preload"]
    return serve("gunicorn_gevent_hooks", directory, app, more)


def gunicorn_gevent(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_gevent", directory, app)


def gunicorn_gevent_preload(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_gevent", directory, app, "--preload")


def gunicorn_gevent_pywsgi(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_gevent_pywsgi", directory, app)


def gunicorn_gevent_pywsgi_preload(directory: Path, app: str) -> Running:
    return _gunicorn("gunicorn_gevent_pywsgi", directory, app, "--preload")


def waitress(directory: Path, app: str) -> Running:
    return serve("waitress", directory, app, [f"--threads={threads()}"])


def waitress_websockets(directory: Path, app: str) -> Running:
    return serve("waitress_websockets", directory, app, [f"--threads={threads()}"])


def waitress_unix(directory: Path, app: str) -> Running:
    return serve("waitress_unix", directory, app, [f"--threads={threads()}"], unix=True)


def _uwsgi(name: str, directory: Path, app: str, *, processes: int = 1, forked_after_import: bool = False) -> Running:
    # A worker that is told to stop while it imports the app catches the signal there, and goes on without it.
    ready = ("ready in", 1 if forked_after_import else processes)
    threaded = ["--threads", str(threads())] if name in ("uwsgi_threads", "uwsgi_http_websockets") else []
    more = ["--worker-reload-mercy", str(grace()), *threaded]
    return serve(name, directory, app, more, ready=ready)


def uwsgi_prefork(directory: Path, app: str) -> Running:
    return _uwsgi("uwsgi_prefork", directory, app, processes=2, forked_after_import=True)


def uwsgi_lazy_apps(directory: Path, app: str) -> Running:
    return _uwsgi("uwsgi_lazy_apps", directory, app, processes=2)


def uwsgi_threads(directory: Path, app: str) -> Running:
    return _uwsgi("uwsgi_threads", directory, app)


def uwsgi_without_threads(directory: Path, app: str) -> Running:
    # Debian's, which is old enough; its Python is that of the environment for Apache.
    environment = subprocess.check_output([ROOT / "scripts" / "apache.sh"], text=True).strip()
    (directory / "venv").symlink_to(environment)
    return _uwsgi("uwsgi_without_threads", directory, app)


def uwsgi_http_websockets(directory: Path, app: str) -> Running:
    return _uwsgi("uwsgi_http_websockets", directory, app)


def uwsgi_https(directory: Path, app: str) -> Running:
    more = ["--worker-reload-mercy", str(grace()), "--threads", str(threads())]
    return serve("uwsgi_https", directory, app, more, ready=("ready in", 1), tls=certified(directory))


def uwsgi_https_socket(directory: Path, app: str) -> Running:
    more = ["--worker-reload-mercy", str(grace()), "--threads", str(threads())]
    return serve("uwsgi_https_socket", directory, app, more, ready=("ready in", 1), tls=certified(directory))


def uwsgi_gevent(directory: Path, app: str) -> Running:
    return _uwsgi("uwsgi_gevent", directory, app)


def granian_wsgi(directory: Path, app: str) -> Running:
    more = ["--workers-kill-timeout", str(grace()), "--blocking-threads", str(threads())]
    return serve("granian_wsgi", directory, app, more)


def granian_wsgi_tls(directory: Path, app: str) -> Running:
    more = ["--workers-kill-timeout", str(grace())]
    return serve("granian_wsgi_tls", directory, app, more, tls=certified(directory))


def cheroot(directory: Path, app: str) -> Running:
    return serve("cheroot", directory, app)


def cheroot_tls(directory: Path, app: str) -> Running:
    return serve("cheroot_tls", directory, app, tls=certified(directory))


def cheroot_pyopenssl(directory: Path, app: str) -> Running:
    return serve("cheroot_pyopenssl", directory, app, tls=certified(directory))


def werkzeug(directory: Path, app: str) -> Running:
    return serve("werkzeug", directory, app)


def werkzeug_tls(directory: Path, app: str) -> Running:
    return serve("werkzeug_tls", directory, app, tls=certified(directory))


def werkzeug_debugger(directory: Path, app: str) -> Running:
    return serve("werkzeug_debugger", directory, app)


def wsgiref(directory: Path, app: str) -> Running:
    return serve("wsgiref", directory, app)


DJANGO_PROJECT = {
    "manage.py": """
        import os
        import sys

        from django.core.management import execute_from_command_line

        os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
        execute_from_command_line(sys.argv)
    """,
    "mysite/settings.py": """
        DEBUG = True
        ROOT_URLCONF = "mysite.settings"
        WSGI_APPLICATION = "mysite.wsgi.application"
        urlpatterns = []
    """,
}


def write_django_project(directory: Path) -> None:
    """What `manage.py` needs around the app."""
    (directory / "mysite").mkdir(exist_ok=True)
    for name, text in DJANGO_PROJECT.items():
        (directory / name).write_text(textwrap.dedent(text))


def django_runserver(directory: Path, app: str) -> Running:
    write_django_project(directory)
    return serve("django_runserver", directory, app)


def gevent_pywsgi(directory: Path, app: str) -> Running:
    return serve("gevent_pywsgi", directory, app)


def gevent_pywsgi_tls(directory: Path, app: str) -> Running:
    return serve("gevent_pywsgi_tls", directory, app, tls=certified(directory))


def bjoern(directory: Path, app: str) -> Running:
    return serve("bjoern", directory, app)
