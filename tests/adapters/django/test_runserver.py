"""`BridgeMiddleware` under `manage.py runserver`, as one develops."""

import http.client
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import processes
from support.paths import PYTHONPATH
from support.patience import PATIENCE

PROGRAM = """
import sys
from support import django_project
from django.conf import settings
from django.core.management import call_command
settings.MIDDLEWARE = ["bridge.django.BridgeMiddleware", *django_project.MIDDLEWARE]
settings.DEBUG = True
call_command("runserver", f"127.0.0.1:{sys.argv[1]}", use_reloader=False, skip_checks=True)
"""


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    """To Django's own server with the project."""
    port, log = processes.free_port(), tmp_path / "runserver.log"
    command = [sys.executable, "-c", PROGRAM, str(port)]
    process = processes.start_logging(command, tmp_path, {"PYTHONPATH": PYTHONPATH}, log=log)
    try:
        processes.wait_until_it_listens(process, port, log)
        made = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        yield made
        made.close()
    finally:
        processes.end(process)


def test_streams_loops_and_hops(connection: http.client.HTTPConnection) -> None:
    """Parts come as they are made, async code shares one loop, and the header tells of the hops."""

    def ask(path: str) -> http.client.HTTPResponse:
        connection.request("GET", path)
        return connection.getresponse()

    loops = [json.loads(ask(path).read()) for path in ("/async_where", "/calls_async", "/async_where")]
    assert 1 == len({loops[0]["loop"], loops[1]["asgiref"], loops[1]["bridge"], loops[2]["loop"]})
    for path, hops in (("/hello", 0), ("/async_hello", 2)):
        response = ask(path)
        assert b"hello\n" == response.read()
        assert (response.getheader("Server-Timing") or "").startswith(f'hops;desc="{hops}"')
    feed = ask("/async_ticks")
    assert [b"data: 0\n", b"\n", b"data: 1\n"] == [feed.readline() for _ in range(3)]
    feed.close()
