#!/bin/bash
# In a uWSGI worker, a thread that was started at import is dead, and Python says that it is alive.
#
# Seen with uWSGI 2.0.30 (the package pyuwsgi 2.0.30.post1) on CPython 3.11 and 3.13.
# By default uWSGI imports the application once and forks its workers after that. A thread does not live through a fork.
# Python normally notices: it marks the thread as ended and calls what os.register_at_fork was given. uWSGI forks in C
# and does not tell it, even with --enable-threads. Its option --py-call-osafterfork changes that. It is off by default.
# Seen: a module starts a thread that counts. In a child made by os.fork, is_alive() was False, and the hook had been
# called. In uWSGI's worker is_alive() was True, threading.enumerate() listed the thread, the hook had not been called,
# and the count stood still.
#
# For an adapter: a background thread, a loop or a lock must be kept by process number, and os.getpid() compared at each
# use. Neither is_alive() nor a fork hook can be trusted there: work handed to such a thread is never done.
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
timeout 300 venv/bin/pip install -qq pyuwsgi==2.0.30.post1

cat > counts.py <<'PYTHON'
import os
import threading
import time

importer = os.getpid()
count = 0
hook_calls = []


def keep_counting():
    global count
    while True:
        count += 1
        time.sleep(0.01)


thread = threading.Thread(target=keep_counting, daemon=True)
thread.start()
os.register_at_fork(after_in_child=lambda: hook_calls.append(os.getpid()))
time.sleep(0.2)


def report():
    before = count
    time.sleep(0.5)
    facts = {
        "another process": os.getpid() != importer,
        "counted at import": before > 0,
        "counts": count > before,
        "is_alive()": thread.is_alive(),
        "in enumerate()": thread in threading.enumerate(),
        "hook called": bool(hook_calls),
    }
    return ", ".join(f"{name} {'yes' if fact else 'no'}" for name, fact in facts.items())


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [report().encode()]
PYTHON

cat > seen.py <<'PYTHON'
import os
import platform
import sys
import time
import urllib.request
from importlib.metadata import version

import counts


def forked():
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, counts.report().encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def served():
    deadline = time.monotonic() + 30
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(f"http://127.0.0.1:{sys.argv[1]}/", timeout=10) as response:
                return response.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("The server did not start.")
            time.sleep(0.1)


print(f"Python {platform.python_version()}, pyuwsgi {version('pyuwsgi')}")
by_python = forked()
print(f"child of os.fork: {by_python}")
by_uwsgi = served()
print(f"worker of uWSGI: {by_uwsgi}")
both = "another process yes, counted at import yes, counts no, "
if by_python != both + "is_alive() no, in enumerate() no, hook called yes":
    sys.exit("CHANGED: expected Python to know after os.fork that the thread is dead")
if by_uwsgi != both + "is_alive() yes, in enumerate() yes, hook called no":
    sys.exit("CHANGED: expected Python not to know in uWSGI's worker that the thread is dead")
print("As described.")
PYTHON
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
timeout -k 5 90 venv/bin/uwsgi --http-socket "127.0.0.1:$port" --master --die-on-term --need-app --enable-threads \
    --virtualenv "$folder/venv" --module counts > log 2>&1 &
server=$!
timeout 60 venv/bin/python seen.py "$port"
