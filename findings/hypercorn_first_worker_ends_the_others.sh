#!/bin/bash
# With several workers, Hypercorn kills the others as soon as the first one has ended at a stop.
#
# Seen with Hypercorn 0.18.0 on CPython 3.11 and 3.13.
# The lifespan protocol of ASGI says that a server must wait for lifespan.shutdown.complete before it terminates. A
# worker does, for 60 seconds by default. The main process tells its workers to stop by a shared flag, not by a signal.
# But it waits for one of them only. Then it sends SIGTERM to all that are left, and a worker has no handler for that.
# Seen: an application whose shutdown takes five seconds in one worker, and no time in another. With one worker it ran
# to its end. With two, both shutdowns began, the quick one ended, and the slow one did not. The main process ended with
# status 0, and the log had nothing about it.
#
# For an adapter: a lifespan shutdown has only as long as the quickest worker takes. Who writes something out at a stop
# should run Hypercorn with one worker, and several of those under a supervisor.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq hypercorn==0.18.0

cat > slow.py <<'PYTHON'
import asyncio
import os


def note(text):
    with open("notes", "a") as notes:
        notes.write(text + "\n")


async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        raise RuntimeError("no request is sent")
    await receive()
    try:
        os.close(os.open("first", os.O_CREAT | os.O_EXCL))
        name, seconds = "slow", 5
    except FileExistsError:
        name, seconds = "quick", 0
    await send({"type": "lifespan.startup.complete"})
    note(f"{name} started")
    await receive()
    note(f"{name} shutdown began")
    await asyncio.sleep(seconds)
    note(f"{name} shutdown ended")
    await send({"type": "lifespan.shutdown.complete"})
PYTHON

cat > seen.py <<'PYTHON'
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
from importlib.metadata import version

NOTES = pathlib.Path("notes")


def stop(workers):
    """The status that Hypercorn ended with, and what the workers wrote."""
    NOTES.write_text("")
    pathlib.Path("first").unlink(missing_ok=True)
    command = ["venv/bin/hypercorn", "slow:application", "--workers", str(workers), "--bind", "127.0.0.1:0"]
    with open("log", "a") as log:
        main = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while NOTES.read_text().count("started") < workers:
            if time.monotonic() > deadline or main.poll() is not None:
                sys.exit("The server did not start.")
            time.sleep(0.1)
        main.send_signal(signal.SIGTERM)
        status = main.wait(60)
    finally:
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
            main.wait()
    return status, [line for line in NOTES.read_text().splitlines() if "shutdown" in line]


print(f"Python {platform.python_version()}, Hypercorn {version('hypercorn')}")
seen = []
for workers in (1, 2):
    status, notes = stop(workers)
    seen.append((status, sorted(notes)))
    print(f"{workers} worker(s): status {status}; {', '.join(notes)}")
began, ended = "slow shutdown began", "slow shutdown ended"
quick = ["quick shutdown began", "quick shutdown ended"]
if seen != [(0, [began, ended]), (0, [*quick, began])]:
    sys.exit("CHANGED: expected the slow shutdown to end with one worker, and not with two")
print("As described.")
PYTHON
timeout 280 venv/bin/python seen.py
