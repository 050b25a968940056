#!/bin/bash
# Cheroot hands over only the last of a repeated request header, unless the name is on a list of its own.
#
# Seen with Cheroot 11.1.2, beside Waitress 3.0.2, on CPython 3.11 and 3.13.
# A header whose value is a list may be sent in several lines, and RFC 9110 section 5.3 lets them be joined with commas.
# RFC 3875 section 4.1.18 says that a server must make one value of them that means the same. Cheroot does that for some
# twenty names that are built in. Of any other name it keeps the last line, without a word in its log.
# Seen: Accept-Language, which is one of them, came through with both values. Prefer, which RFC 7240 section 2 lets
# clients repeat, came through with the last one only, and so did X-Shelf, a name of our own. Waitress joined all three.
#
# For an adapter: the other values are gone before the application is called, and nothing shows that there were any.
# Whoever writes the client should send one line with commas.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq cheroot==11.1.2 waitress==3.0.2

cat > seen.py <<'PYTHON'
import http.client
import json
import platform
import sys
import threading
from importlib.metadata import version

import waitress
from cheroot.wsgi import Server

SENT = {
    "Accept-Language": ["de", "en"],
    "Prefer": ["respond-async", "wait=100"],
    "X-Shelf": ["upper", "lower"],
}


def application(environ, start_response):
    values = {name: environ.get("HTTP_" + name.upper().replace("-", "_")) for name in SENT}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(values).encode()]


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", "/")
    for name, values in SENT.items():
        for value in values:
            connection.putheader(name, value)
    connection.endheaders()
    received = json.loads(connection.getresponse().read())
    connection.close()
    return {name: value.replace(" ", "") for name, value in received.items()}


def cheroot_answers():
    server = Server(("127.0.0.1", 0), application)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        return ask(server.bind_addr[1])
    finally:
        server.stop()
        thread.join(30)


def waitress_answers():
    server = waitress.create_server(application, host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    return ask(server.effective_port)


print(f"Python {platform.python_version()}, Cheroot {version('cheroot')}, Waitress {version('waitress')}")
by_cheroot, by_waitress = cheroot_answers(), waitress_answers()
for name, values in SENT.items():
    print(f"{name}, sent as {' and '.join(values)}: Cheroot {by_cheroot[name]}, Waitress {by_waitress[name]}")
joined = {name: ",".join(values) for name, values in SENT.items()}
if by_waitress != joined or by_cheroot != joined | {"Prefer": "wait=100", "X-Shelf": "lower"}:
    sys.exit("CHANGED: expected Waitress to join all three, and Cheroot only Accept-Language")
print("As described.")
PYTHON
timeout 90 venv/bin/python seen.py
