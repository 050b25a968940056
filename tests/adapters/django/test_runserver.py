"""`BridgeMiddleware` under `manage.py runserver`, as one develops."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import PYTHONPATH

PATIENCE = 30
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    log = tmp_path / "runserver.log"
    with log.open("wb") as output:
        command = [sys.executable, "-c", PROGRAM, str(port)]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            made = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                made.connect()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield made
        made.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.timeout(60)
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
