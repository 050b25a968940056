#!/bin/bash
# Uvicorn on httptools takes the Content-Length of a 304 for a promise, and drops the connection. On h11 it does not.
#
# Seen with Uvicorn 0.54.0, httptools 0.9.0 and h11 0.16.0, beside Waitress 3.0.2, on CPython 3.11 and 3.13.
# RFC 9110 section 8.6 lets a server send Content-Length in a 304, where it says how long the body of a 200 would have
# been. A 304 itself has no body. Code that sets the length of each response does this, for example middleware.
# Seen: an application answers 304 with Content-Length 10 and no body, and the client then asks for another page on the
# same connection. On httptools, Uvicorn logged "RuntimeError: Response content shorter than Content-Length" and closed
# the connection, so the second page never came. On h11 both came, and nothing was logged. Waitress, whose applications
# are WSGI, logged "application returned too few bytes", and closed the connection too.
#
# For an adapter: a header that is right on one server breaks the next request on another. Leave Content-Length out of a
# 304: nobody needs it there.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0 waitress==3.0.2

cat > seen.py <<'PYTHON'
import asyncio
import logging
import platform
import socket
import sys
import threading
from importlib.metadata import version

import uvicorn
import waitress

logged = []


class Handler(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            logged.append(str(record.exc_info[1]) if record.exc_info else record.getMessage())


async def asgi(scope, receive, send):
    unmodified = scope["path"] == "/unmodified"
    headers = [(b"content-length", b"10" if unmodified else b"5")]
    await send({"type": "http.response.start", "status": 304 if unmodified else 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if unmodified else b"hello"})


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/unmodified":
        start_response("304 Not Modified", [("Content-Length", "10")])
        return []
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


def ask(address):
    """What a client gets that asks for both pages, one after the other, on one connection."""
    with socket.create_connection(address, 30) as client:
        received = client.makefile("rb")
        client.sendall(b"GET /unmodified HTTP/1.1\r\nHost: example.org\r\n\r\n")
        first = received.readline().split(b" ")[1].decode()
        while received.readline().strip():
            pass
        try:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: example.org\r\n\r\n")
            second = received.readline()
        except ConnectionError:
            second = b""
        return first, second.split(b" ")[1].decode() if second else "closed"


def through_uvicorn(http):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(asgi, http=http, loop="asyncio", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        return ask(listener.getsockname())
    finally:
        server.should_exit = True
        thread.join(30)


def through_waitress():
    server = waitress.create_server(wsgi, host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    return ask(("127.0.0.1", server.effective_port))


logging.getLogger().addHandler(Handler())
names = ("uvicorn", "httptools", "h11", "waitress")
print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names))
seen = {}
for name, probe in (
    ("Uvicorn on httptools", lambda: through_uvicorn("httptools")),
    ("Uvicorn on h11", lambda: through_uvicorn("h11")),
    ("Waitress", through_waitress),
):
    logged.clear()
    answers = probe()
    seen[name] = (*answers, bool(logged))
    print(f"{name}: 304 then hello gave {' then '.join(answers)}; logged: {'; '.join(logged) or 'nothing'}")
expected = {
    "Uvicorn on httptools": ("304", "closed", True),
    "Uvicorn on h11": ("304", "200", False),
    "Waitress": ("304", "closed", True),
}
if seen != expected:
    sys.exit(f"CHANGED: expected {expected}")
print("As described.")
PYTHON
timeout 90 venv/bin/python seen.py
