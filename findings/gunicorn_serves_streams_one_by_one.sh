#!/bin/bash
# Gunicorn's gthread worker serves the requests of an HTTP/2 connection one after the other, though threads are free.
#
# Seen with Gunicorn 27.0.1 and Granian 2.8.9, spoken to with h2 4.4.1, on CPython 3.11 and 3.13.
# RFC 9113 section 2 describes streams as largely independent: one that is stalled does not keep the others from going
# on. Gunicorn offers 100 concurrent streams in its settings. Yet it gives each connection a single thread, which takes
# up the next request only when the response before it is complete.
# Seen: a server with four threads. A long response begins on one connection, and waits up to five seconds for a short
# request, which the client sends on the same connection. It waited in vain: the application was called for the short
# request only after the long response had ended. Another request, on a connection of its own, was served meanwhile.
# Under Granian's WSGI server, with the same application and client, the short request came while the long one waited.
#
# For an adapter: the number of threads does not say what one client can have in progress. A stream of events that waits
# for a message which the same browser posts may wait for ever. Bound such a wait, or have a proxy in front that speaks
# HTTP/1.1 to the server.
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
timeout 300 venv/bin/pip install -qq gunicorn==27.0.1 granian==2.8.9 h2==4.4.1

cat > order.py <<'PYTHON'
import threading

journal = []
short_came = threading.Event()


def long_response():
    journal.append("long begins")
    yield b"begun"
    short_came.wait(5)
    journal.append("long ends")
    yield b"ended"


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
    if path == "/long":
        return long_response()
    if path == "/journal":
        return [", ".join(journal).encode()]
    journal.append(path[1:])
    if path == "/short":
        short_came.set()
    return [b"ok"]
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


class Client:
    """One connection. It reads only while somebody waits for something."""

    def __init__(self, port):
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connection = socket.create_connection(("127.0.0.1", port), 30)
                break
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit("The server did not start.")
                time.sleep(0.1)
        self.state = H2Connection(H2Configuration(header_encoding="latin-1"))
        self.state.initiate_connection()
        self.bodies = {}
        self.ended = set()

    def request(self, path):
        number = self.state.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "example.org"), (":path", path)]
        self.state.send_headers(number, head, end_stream=True)
        self.connection.sendall(self.state.data_to_send())
        self.bodies[number] = b""
        return number

    def take(self):
        data = self.connection.recv(65536)
        if not data:
            sys.exit("The server closed the connection.")
        for event in self.state.receive_data(data):
            if isinstance(event, (ConnectionTerminated, StreamReset)):
                sys.exit("The server did not answer a request.")
            if isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
            if isinstance(event, StreamEnded):
                self.ended.add(event.stream_id)
        self.connection.sendall(self.state.data_to_send())

    def begins(self, number):
        while not self.bodies[number]:
            self.take()

    def body(self, number):
        while number not in self.ended:
            self.take()
        return self.bodies[number].decode()

    def close(self):
        self.connection.close()


def order(port):
    """What the application did, one after the other, and how many streams the server offers."""
    client = Client(port)
    long = client.request("/long")
    client.begins(long)
    short = client.request("/short")
    another = Client(port)
    another.body(another.request("/other"))
    another.close()
    client.body(long)
    client.body(short)
    journal = client.body(client.request("/journal")).split(", ")
    client.close()
    return journal, client.state.remote_settings.max_concurrent_streams


print(
    f"Python {platform.python_version()}, Gunicorn {version('gunicorn')}, Granian {version('granian')},"
    f" h2 {version('h2')}"
)
gunicorn, offered = order(int(sys.argv[1]))
print(f"Gunicorn, {offered} streams offered: {', '.join(gunicorn)}")
granian, offered = order(int(sys.argv[2]))
print(f"Granian, {offered} streams offered: {', '.join(granian)}")
if gunicorn != ["long begins", "other", "long ends", "short"]:
    sys.exit("CHANGED: expected Gunicorn to serve the other connection first, and the short request after the long one")
if granian.index("short") > granian.index("long ends"):
    sys.exit("CHANGED: expected Granian to serve the short request while the long one waits")
print("As described.")
PYTHON
read -r gunicorn granian < <(venv/bin/python -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
timeout -k 5 120 venv/bin/gunicorn order:application -k gthread --threads 4 --keep-alive 30 --http-protocols h2,h1 \
    --http2-cleartext prior-knowledge --bind "127.0.0.1:$gunicorn" --no-control-socket > log.gunicorn 2>&1 &
servers+=($!)
timeout -k 5 120 venv/bin/granian --interface wsgi --blocking-threads 4 --host 127.0.0.1 --port "$granian" \
    order:application > log.granian 2>&1 &
servers+=($!)
timeout 100 venv/bin/python seen.py "$gunicorn" "$granian"
