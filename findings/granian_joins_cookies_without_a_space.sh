#!/bin/bash
# Granian's WSGI server joins the parts of a cookie that came over HTTP/2 by ";" without the space.
#
# Seen with Granian 2.8.9 and Gunicorn 27.0.1, spoken to with h2 4.4.1, on CPython 3.11 and 3.13.
# RFC 9113 section 8.2.3 lets a client split its cookie into several fields, and browsers do so. Before such a request
# goes on into anything that is not HTTP/2, the parts have to be joined by the two bytes "; ". RFC 6265 section 4.2.1
# has the same two bytes between any two cookies.
# Seen: one request, with the cookie in three fields: "a=1", "b=2" and "c=3; d=4". A WSGI application got
# "a=1;b=2;c=3; d=4" from Granian, which has both kinds of joints in it, and "a=1; b=2; c=3; d=4" from Gunicorn.
# Granian's ASGI interface passes the three fields on as they came, which ASGI allows.
#
# For an adapter: going from ASGI to WSGI, join the fields by "; " yourself, and not by the comma that is right for
# other headers. What reads a cookie from WSGI has to split it at ";" and to strip the spaces. If it splits at "; ", the
# cookie from Granian has a single "a" with the value "1;b=2;c=3".
set -euo pipefail

folder=$(mktemp -d)
servers=()
cleanup() {
    for server in "${servers[@]}"; do
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq granian==2.8.9 gunicorn==27.0.1 h2==4.4.1

cat > cookies.py <<'PYTHON'
def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["HTTP_COOKIE"].encode("latin-1")]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        cookies = [value for name, value in scope["headers"] if name == b"cookie"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"\n".join(cookies)})
PYTHON

cat > seen.py <<'PYTHON'
import platform
import socket
import sys
import time
from importlib.metadata import version

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset

FIELDS = ["a=1", "b=2", "c=3; d=4"]


def connect(port):
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("The server did not start.")
            time.sleep(0.1)


def ask(port):
    """The cookies that the application got, one for each field that it was shown."""
    with connect(port) as connection:
        state = H2Connection(H2Configuration(header_encoding="latin-1"))
        state.initiate_connection()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "example.org"), (":path", "/")]
        state.send_headers(1, head + [("cookie", field) for field in FIELDS], end_stream=True)
        connection.sendall(state.data_to_send())
        body, ended = b"", False
        while not ended:
            data = connection.recv(65536)
            if not data:
                sys.exit("The server closed the connection.")
            for event in state.receive_data(data):
                if isinstance(event, (ConnectionTerminated, StreamReset)):
                    sys.exit("The server did not answer the request.")
                if isinstance(event, DataReceived):
                    body += event.data
                ended = ended or isinstance(event, StreamEnded)
            connection.sendall(state.data_to_send())
        return body.decode("latin-1").split("\n")


print(
    f"Python {platform.python_version()}, Granian {version('granian')}, Gunicorn {version('gunicorn')},"
    f" h2 {version('h2')}"
)
print(f"sent: {FIELDS}")
expected = {
    "Granian, WSGI": ["a=1;b=2;c=3; d=4"],
    "Granian, ASGI": ["a=1", "b=2", "c=3; d=4"],
    "Gunicorn, WSGI": ["a=1; b=2; c=3; d=4"],
}
seen = {}
for name, port in zip(expected, sys.argv[1:], strict=True):
    seen[name] = ask(int(port))
    print(f"{name}: {seen[name]}")
if seen != expected:
    sys.exit("CHANGED: expected no space where Granian's WSGI server joins, and one where Gunicorn does")
print("As described.")
PYTHON
read -r wsgi asgi gunicorn < <(venv/bin/python -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
timeout -k 5 120 venv/bin/granian --interface wsgi --host 127.0.0.1 --port "$wsgi" cookies:wsgi > log.wsgi 2>&1 &
servers+=($!)
timeout -k 5 120 venv/bin/granian --interface asgi --host 127.0.0.1 --port "$asgi" cookies:asgi > log.asgi 2>&1 &
servers+=($!)
timeout -k 5 120 venv/bin/gunicorn cookies:wsgi -k gthread --http-protocols h2,h1 --http2-cleartext prior-knowledge \
    --bind "127.0.0.1:$gunicorn" --no-control-socket > log.gunicorn 2>&1 &
servers+=($!)
timeout 100 venv/bin/python seen.py "$wsgi" "$asgi" "$gunicorn"
