#!/bin/bash
# uvloop drops a signal that comes while its loop does not run, though a handler is set. Gunicorn's ASGI worker then
# does not hear that it is to stop.
#
# Seen with uvloop 0.23.0 and Gunicorn 27.0.1 on CPython 3.11.
# asyncio keeps such a signal, and calls what was given to add_signal_handler as soon as the loop runs. uvloop takes the
# signal from Python's default handling as well, at add_signal_handler and between two runs, and then nobody has it.
# Seen: SIGTERM before a loop's first run, and between two runs: asyncio called the handler twice, and uvloop never.
# While the loop ran, both called it. Gunicorn's worker for ASGI sets its handlers before it imports the application.
# Told to stop during an import of two seconds, it ended after two seconds with `--asgi-loop asyncio`. With uvloop,
# which it takes by default where that is installed, the worker began to serve, and was killed at the end of
# `--graceful-timeout`, here eight seconds.
#
# For an adapter: a handler of add_signal_handler is no place to learn of a stop that may come during a start.
set -euo pipefail

folder=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq uvloop==0.23.0 gunicorn==27.0.1

cat > signals.py <<'PYTHON'
import asyncio
import os
import platform
import signal
import sys
from importlib.metadata import version

import uvloop

print(f"Python {platform.python_version()}, uvloop {version('uvloop')}, Gunicorn {version('gunicorn')}")


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


seen = {}
for name, make in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
    loop = make()
    called = []
    loop.add_signal_handler(signal.SIGTERM, called.append, None)
    counts = []
    stop()
    loop.run_until_complete(asyncio.sleep(0.5))
    counts.append(len(called))
    loop.call_later(0.1, stop)
    loop.run_until_complete(asyncio.sleep(0.5))
    counts.append(len(called))
    stop()
    loop.run_until_complete(asyncio.sleep(0.5))
    counts.append(len(called))
    loop.close()
    seen[name] = counts
    print(f"{name}: calls after a signal before the first run, during a run, and between two runs: {counts}")
if seen != {"asyncio": [1, 2, 3], "uvloop": [0, 1, 1]}:
    sys.exit("CHANGED: expected asyncio to call the handler for each signal, and uvloop only for the one during a run")
PYTHON
timeout 60 venv/bin/python signals.py

cat > slow.py <<'PYTHON'
import pathlib
import time

pathlib.Path("importing").touch()
time.sleep(2)


async def application(scope, receive, send):
    raise RuntimeError("no request is sent")
PYTHON

# Prints how many whole seconds it took until Gunicorn had ended.
seconds() {
    rm -f importing
    venv/bin/gunicorn slow:application -k asgi --asgi-loop "$1" --bind 127.0.0.1:0 --graceful-timeout 8 \
        --no-control-socket > "log.$1" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        [ ! -e importing ] || break
        sleep 0.1
    done
    SECONDS=0
    kill -TERM "$server"
    wait "$server" || true
    server=
    taken=$SECONDS
    echo "Gunicorn's ASGI worker on $1, told to stop during the import: ended after $taken seconds"
}
seconds asyncio
[ "$taken" -le 6 ] || { echo "CHANGED: expected the worker on asyncio to end before the grace is over"; exit 1; }
seconds uvloop
[ "$taken" -ge 7 ] || { echo "CHANGED: expected the worker on uvloop to be killed at the end of the grace"; exit 1; }
echo "As described."
