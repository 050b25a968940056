#!/bin/bash
# Granian's WSGI server answers 200 without headers for an application that is a generator function.
#
# Seen with Granian 2.8.9 on CPython 3.11 and 3.13.
# PEP 3333 lets an application call start_response as late as in the first step of its iterable, and a plain generator
# function can do no other: none of its code runs before. Granian calls the application, then takes status and headers
# at once, and only after that asks for the first piece. What start_response is told by then is lost, without a word in
# the log.
# Seen: two applications, both with "201 Created" and a header X-Shelf. The one that returns a list came through as it
# was. The generator came through with its whole body, status 200, and no X-Shelf.
#
# For an adapter: have the response's head before you return the iterable, even where the iterable could fetch it later.
# A middleware that is a generator function may have to be run to its first piece for the same reason.
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

cat > shelf.py <<'PYTHON'
HEAD = "201 Created", [("Content-Type", "text/plain"), ("X-Shelf", "upper")]


def returns_list(start_response):
    start_response(*HEAD)
    return [b"put on the shelf"]


def generator(start_response):
    start_response(*HEAD)
    yield b"put on "
    yield b"the shelf"


def application(environ, start_response):
    chosen = generator if environ["PATH_INFO"] == "/generator" else returns_list
    return chosen(start_response)
PYTHON

cat > seen.py <<'PYTHON'
import http.client
import platform
import sys
import time
from importlib.metadata import version


def ask(path):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    seen = response.status, response.getheader("X-Shelf"), response.read()
    connection.close()
    return seen


deadline = time.monotonic() + 30
while True:
    try:
        ask("/list")
        break
    except OSError:
        if time.monotonic() > deadline:
            sys.exit("The server did not start.")
        time.sleep(0.1)
print(f"Python {platform.python_version()}, Granian {version('granian')}")
answers = []
for path in ("/list", "/generator"):
    status, shelf, body = ask(path)
    answers.append((status, shelf, body))
    print(f"{path}: status {status}, X-Shelf {shelf or 'missing'}, body of {len(body)} bytes")
text = b"put on the shelf"
if answers != [(201, "upper", text), (200, None, text)]:
    sys.exit("CHANGED: expected 201 with the header from the list, and 200 without it from the generator")
print("As described.")
PYTHON
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
timeout -k 5 90 venv/bin/granian --interface wsgi --host 127.0.0.1 --port "$port" shelf:application > log 2>&1 &
server=$!
timeout 60 venv/bin/python seen.py "$port"
