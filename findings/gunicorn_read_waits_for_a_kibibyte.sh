#!/bin/bash
# Under Gunicorn, wsgi.input.read(5) does not return before 1024 bytes of the body have come, or its end.
#
# Seen with Gunicorn 27.0.1 and its sync worker on CPython 3.11 and 3.13.
# That read(n) waits for n bytes is well known. Gunicorn's waits for more than it was asked for. It fetches at least
# 1 KiB for its own buffer, and that fetch waits until it has all of it.
# Seen: an upload of 2000 bytes, with a Content-Length. The application calls read(5). With 1000 bytes there it got
# nothing for a second. Once 24 more had come, 1024 in all, it got its five bytes. When 1024 bytes were there from the
# beginning, it got them at once.
#
# For an adapter: asking for small pieces does not make a slow upload flow. A client that sends a short message and goes
# on only after an answer gets none. An adapter has to ask the reader behind that buffer for what has arrived.
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
timeout 300 venv/bin/pip install -qq gunicorn==27.0.1

cat > reads.py <<'PYTHON'
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["REQUEST_METHOD"] == "POST":
        yield b"<asking>"
        yield b"<got %d>" % len(environ["wsgi.input"].read(5))
        environ["wsgi.input"].read()
    yield b"<end>"
PYTHON

cat > seen.py <<'PYTHON'
import platform
import socket
import sys
import time
from importlib.metadata import version


class Upload:
    def __init__(self):
        self.connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
        self.received = b""
        self.sent = 0
        self.connection.sendall(b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 2000\r\n\r\n")

    def send(self, size):
        self.connection.sendall(b"x" * size)
        self.sent += size

    def sees(self, text, seconds):
        deadline = time.monotonic() + seconds
        while text not in self.received:
            self.connection.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                data = self.connection.recv(4096)
            except TimeoutError:
                return False
            if not data:
                sys.exit("The server closed the connection.")
            self.received += data
        return True

    def finish(self):
        self.send(2000 - self.sent)
        if not self.sees(b"<end>", 10):
            sys.exit("The response did not end.")
        self.connection.close()


deadline = time.monotonic() + 30
while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            sys.exit("The server did not start.")
        time.sleep(0.1)
print(f"Python {platform.python_version()}, Gunicorn {version('gunicorn')}")
seen = []
upload = Upload()
upload.send(1000)
asked = upload.sees(b"<asking>", 10)
seen.append(upload.sees(b"<got 5>", 1))
print(f"1000 bytes sent: read(5) {'returned' if seen[-1] else 'did not return within a second'}")
upload.send(24)
seen.append(upload.sees(b"<got 5>", 10))
print(f"1024 bytes sent: read(5) {'returned' if seen[-1] else 'did not return'}")
upload.finish()
upload = Upload()
upload.send(1024)
seen.append(upload.sees(b"<got 5>", 10))
print(f"1024 bytes sent at once: read(5) {'returned' if seen[-1] else 'did not return'}")
upload.finish()
if not asked or seen != [False, True, True]:
    sys.exit("CHANGED: expected read(5) to return with 1024 bytes and not with 1000")
print("As described.")
PYTHON
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
timeout -k 5 90 venv/bin/gunicorn reads:application --bind "127.0.0.1:$port" > log 2>&1 &
server=$!
timeout 60 venv/bin/python seen.py "$port"
