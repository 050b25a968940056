"""An ASGI app as a CGI script (RFC 3875): a process for each request, which must answer, finish its work and end."""

import os
import subprocess
import sys
from pathlib import Path

from support.paths import PYTHONPATH
from support.patience import PROCESS_PATIENCE

SCRIPT = """\
from wsgiref.handlers import CGIHandler

from bridge import AsgiToWsgi
from support import apps


async def app(scope, receive, send):
    if scope.get("path") != "/later":
        return await apps.asgi_site(scope, receive, send)
    await apps.asgi_hello(scope, receive, send)
    apps.signals.tell("later")


CGIHandler().run(AsgiToWsgi(app))
"""


def ask(directory: Path, method: str, path: str, body: bytes = b"") -> tuple[bytes, bytes]:
    """Head and body of what the script prints; it has to end by itself, and without a word on stderr."""
    (directory / "signals").mkdir(exist_ok=True)
    request = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "BRIDGE_TEST_SIGNALS": str(directory / "signals"),
        "PYTHONPATH": PYTHONPATH,
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        input=body,
        env={"PATH": os.environ["PATH"], **request},
        capture_output=True,
        timeout=PROCESS_PATIENCE,
    )
    assert (0, b"") == (done.returncode, done.stderr)
    head, _, found = done.stdout.partition(b"\r\n\r\n")
    return head, found


def test_a_page(tmp_path: Path) -> None:
    """With the lifespan around it, which the app tells of."""
    head, body = ask(tmp_path, "GET", "/hello")

    assert head.startswith(b"Status: 200 OK\r\n")
    assert body == b"Hello, world!\n"
    told = (tmp_path / "signals" / "lifespan.signal").read_text().split()
    assert ["startup", "shutdown"] == told[::2]


def test_a_body(tmp_path: Path) -> None:
    """It comes on standard input."""
    assert ask(tmp_path, "POST", "/echo", b"x" * 200_000)[1] == b"x" * 200_000


def test_no_content(tmp_path: Path) -> None:
    head, body = ask(tmp_path, "GET", "/no-content")

    assert (b"Status: 204", b"") == (head[:11], body)


def test_work_after_the_response(tmp_path: Path) -> None:
    """It is done before the process ends."""
    ask(tmp_path, "GET", "/later")

    assert (tmp_path / "signals" / "later.signal").exists()
