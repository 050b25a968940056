"""Nginx in front of another server: the tests talk to the first of two processes, and stop the second."""

import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.certificates import certified
from servers.pages import read_pages
from servers.process import Running, Server, free_port, grace, placed, serve, start, threads

# What a distribution's configuration has around the part that is on the page.
CONFIGURATION = """
{user}
daemon off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temporary}
    include {directory}/site.conf;
}}
"""


@contextmanager
def _nginx(
    name: str,
    directory: Path,
    app: str,
    *more: str,
    probe: str = "/hello",
    probe_behind: str = "/hello",
    tls: ssl.SSLContext | None = None,
) -> Iterator[Server]:
    front = directory / "front"
    (front / "tmp").mkdir(parents=True)
    address, behind = ("127.0.0.1", free_port()), free_port()
    # The sockets that both speak of are in the directory of the server behind.
    site = read_pages()[name].files["site.conf"].replace("127.0.0.1:8001", f"127.0.0.1:{behind}")
    (front / "site.conf").write_text(placed(site, directory, address))
    shutil.copy("/etc/nginx/uwsgi_params", front)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {front}/{kind};" for kind in kinds)
    user = "user root;" if os.getuid() == 0 else ""
    configuration = CONFIGURATION.format(directory=front, temporary=temporary, user=user)
    (front / "nginx.conf").write_text(configuration)
    command = ["/usr/sbin/nginx", "-c", str(front / "nginx.conf"), "-e", "stderr"]
    with (
        serve(name, directory, app, more, unix="unix:" in site, port=behind, probe=probe_behind) as server,
        start(f"{name} in front", front, command, address, tls=tls, probe=probe) as proxy,
    ):
        server.address, server.tls = proxy.address, tls
        server.more_logs.append(proxy.log_path)
        yield server


def nginx_gunicorn(directory: Path, app: str) -> Running:
    return _nginx("nginx_gunicorn", directory, app, "--graceful-timeout", str(grace()), "--threads", str(threads()))


def nginx_http2_gunicorn(directory: Path, app: str) -> Running:
    more = ["--graceful-timeout", str(grace()), "--threads", "6"]
    return _nginx("nginx_http2_gunicorn", directory, app, *more, tls=certified(directory))


def nginx_http2_uvicorn(directory: Path, app: str) -> Running:
    more = ["--timeout-graceful-shutdown", str(grace())]
    return _nginx("nginx_http2_uvicorn", directory, app, *more, tls=certified(directory))


def nginx_uwsgi(directory: Path, app: str) -> Running:
    return _nginx(
        "nginx_uwsgi",
        directory,
        app,
        "--worker-reload-mercy",
        str(grace()),
        "--threads",
        str(threads()),
        probe_behind="",
    )


def nginx_uvicorn(directory: Path, app: str) -> Running:
    return _nginx("nginx_uvicorn", directory, app, "--timeout-graceful-shutdown", str(grace()))


def nginx_hypercorn(directory: Path, app: str) -> Running:
    return _nginx("nginx_hypercorn", directory, app, "--graceful-timeout", str(grace()))


def nginx_prefix(directory: Path, app: str) -> Running:
    more = ["--timeout-graceful-shutdown", str(grace())]
    return _nginx("nginx_prefix", directory, app, *more, probe="/shop/hello")


def nginx_uwsgi_mounted(directory: Path, app: str) -> Running:
    more = ["--worker-reload-mercy", str(grace())]
    return _nginx("nginx_uwsgi_mounted", directory, app, *more, probe="/shop/hello", probe_behind="")
