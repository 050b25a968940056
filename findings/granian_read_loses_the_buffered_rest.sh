#!/bin/bash
# In Granian's WSGI server, read() without a size loses what an earlier read(n) or readline() has left over.
#
# Seen with Granian 2.8.9 on CPython 3.11 and 3.13.
# PEP 3333 gives the methods of wsgi.input the meaning that they have for a file: read() returns all that has not been
# read yet. Granian takes the body from the connection in the pieces in which it comes, and keeps of a piece what a read
# does not need. Another read(n) begins with that. read() drops it, and returns only what comes afterwards.
# Seen with a body of three lines, compared with an io.BytesIO. In one piece: read(3) and then read() returned the first
# three bytes and then nothing, and readline() and then read() the first line and then nothing. In three chunks: read(3)
# and then read() left one byte out, in the middle. read(3) again and again returned everything. Nothing was raised or
# logged.
#
# For an adapter: read with a size always, to the end as well. An application that looks at the beginning of an upload,
# to tell its format, and then takes the rest with read(), stores a file with a hole.
set -euo pipefail

folder=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq granian==2.8.9

cat > reads.py <<'PYTHON'
WAYS = {
    "/part": lambda body: [body.read(3), body.read()],
    "/line": lambda body: [body.readline(), body.read()],
    "/parts": lambda body: list(iter(lambda: body.read(3), b"")),
}


def application(environ, start_response):
    way = WAYS.get(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(way(environ["wsgi.input"]) if way else "ready").encode()]
PYTHON

cat > seen.py <<'PYTHON'
import ast
import http.client
import io
import platform
import sys
import time
from importlib.metadata import version

from reads import WAYS

LINES = [b"one\n", b"two\n", b"three\n"]
WHOLE = b"".join(LINES)
LABELS = {"/part": "read(3), read()", "/line": "readline(), read()", "/parts": "read(3), until the end"}


def ask(path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
    connection.request("POST" if body else "GET", path, body)  # a list is sent in chunks
    seen = ast.literal_eval(connection.getresponse().read().decode())
    connection.close()
    return seen


deadline = time.monotonic() + 30
while True:
    try:
        ask("/")
        break
    except OSError:
        if time.monotonic() > deadline:
            sys.exit("The server did not start.")
        time.sleep(0.1)
print(f"Python {platform.python_version()}, Granian {version('granian')}")
seen = []
for path, body in (("/part", WHOLE), ("/line", WHOLE), ("/part", LINES), ("/parts", WHOLE), ("/parts", LINES)):
    seen.append(ask(path, body))
    pieces = "in three chunks" if body is LINES else "in one piece"
    print(f"{pieces}, {LABELS[path]}: {seen[-1]}, a file {WAYS[path](io.BytesIO(WHOLE))}")
lost = [[b"one", b""], [b"one\n", b""], [b"one", b"two\nthree\n"]]
if seen[:3] != lost or b"".join(seen[3]) != WHOLE or b"".join(seen[4]) != WHOLE:
    sys.exit("CHANGED: expected read() to drop what was left over, and read(3) to return everything")
print("As described.")
PYTHON
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
timeout -k 5 120 venv/bin/granian --interface wsgi --host 127.0.0.1 --port "$port" reads:application > log 2>&1 &
server=$!
timeout 100 venv/bin/python seen.py "$port"
