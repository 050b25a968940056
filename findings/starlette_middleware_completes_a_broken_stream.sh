#!/bin/bash
# Starlette's BaseHTTPMiddleware sends a proper end of the body for a response that its app broke off.
#
# Seen with Starlette 1.10.0 and Uvicorn 0.54.0 on h11 0.16.0, on CPython 3.11 and 3.13.
# An ASGI app that raises in the middle of its response leaves it without an end. Uvicorn then closes the connection
# without the last chunk, so that the client can tell that the body is not whole (RFC 9112 section 8).
# BaseHTTPMiddleware, which is also what FastAPI's @app.middleware("http") makes, passes the chunks on as a stream of
# its own. It ends that stream properly where the app's chunks end, for whatever reason, and raises the app's exception
# only after it.
# Seen: the app sends one chunk and raises. Without the middleware, the client gets that chunk and no end. With it, the
# client gets the chunk and the last chunk, as of a whole response. The exception is logged in both cases.
#
# For an adapter: an aborted response may look whole on the wire behind such middleware. Only a Content-Length shows it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq starlette==1.10.0 uvicorn==0.54.0 h11==0.16.0

cat > seen.py <<'PYTHON'
import asyncio
import logging
import platform
import socket
import sys
import threading
from importlib.metadata import version

import uvicorn
from starlette.middleware.base import BaseHTTPMiddleware

logged = []


class Handler(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.ERROR:
            logged.append(record.getMessage())


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("no more")


async def pass_on(request, call_next):
    return await call_next(request)


def body_through(application):
    """All that a client gets behind the head of the response."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, http="h11", loop="asyncio", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        with socket.create_connection(listener.getsockname(), 30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
            received = b""
            while piece := client.recv(65536):
                received += piece
        return received.partition(b"\r\n\r\n")[2]
    finally:
        server.should_exit = True
        thread.join(30)


logging.getLogger().addHandler(Handler())
names = ("starlette", "uvicorn", "h11")
print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names))
seen = {}
for name, application in (("the app", app), ("the middleware", BaseHTTPMiddleware(app, dispatch=pass_on))):
    logged.clear()
    body = body_through(application)
    seen[name] = (body, bool(logged))
    print(f"{name}: the client got {body!r}; logged: {'; '.join(logged) or 'nothing'}")
expected = {"the app": (b"4\r\nhalf\r\n", True), "the middleware": (b"4\r\nhalf\r\n0\r\n\r\n", True)}
if seen != expected:
    sys.exit(f"CHANGED: expected {expected}")
print("As described.")
PYTHON
timeout 90 venv/bin/python seen.py
