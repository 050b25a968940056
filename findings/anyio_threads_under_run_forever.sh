#!/bin/bash
# anyio makes a new thread for every job when nothing but run_forever drives the loop.
#
# Seen with anyio 4.16.0 on CPython 3.11 and 3.13.
# anyio.to_thread.run_sync keeps idle threads and uses them again. Their life is tied to a task: the outermost one that
# runs the loop, as the main coroutine of asyncio.run does. A loop that a thread drives with run_forever has no such
# task. anyio then ties its threads to the task that asked, and stops them when that task is over. Nothing warns.
# Seen: 20 jobs, one after the other, each from a task of its own. Under asyncio.run one thread did them all. Under
# run_forever there were 20 threads, one a job. The same loop, driven by run_until_complete with a task that only waited
# for the end, needed one thread again.
#
# For an adapter: a loop in a background thread should be driven by run_until_complete with one long-lived task. Else
# each request to an endpoint that runs in a thread pays for the start of a thread.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq anyio==4.16.0

cat > seen.py <<'PYTHON'
import asyncio
import platform
import sys
import threading
from importlib.metadata import version

import anyio.to_thread

JOBS = 20
used = []


async def request():
    await anyio.to_thread.run_sync(lambda: used.append(threading.current_thread()))


def count():
    number = len(set(used))
    used.clear()
    return number


async def main():
    for _ in range(JOBS):
        await asyncio.create_task(request())


asyncio.run(main())
with_main_task = count()

def ask_from_outside(loop):
    for _ in range(JOBS):
        asyncio.run_coroutine_threadsafe(request(), loop).result(10)
    return count()


loop = asyncio.new_event_loop()
driver = threading.Thread(target=loop.run_forever)
driver.start()
with_run_forever = ask_from_outside(loop)
loop.call_soon_threadsafe(loop.stop)
driver.join(10)

end = asyncio.Event()
driver = threading.Thread(target=loop.run_until_complete, args=(end.wait(),))
driver.start()
with_waiting_task = ask_from_outside(loop)
loop.call_soon_threadsafe(end.set)
driver.join(10)

print(f"Python {platform.python_version()}, anyio {version('anyio')}")
print(f"{JOBS} jobs, each from its own task")
print(f"asyncio.run: {with_main_task} thread(s)")
print(f"run_forever: {with_run_forever} thread(s)")
print(f"run_until_complete with a waiting task: {with_waiting_task} thread(s)")
if (with_main_task, with_run_forever, with_waiting_task) != (1, JOBS, 1):
    sys.exit(f"CHANGED: expected {JOBS} threads under run_forever and 1 in the other cases")
print("As described.")
PYTHON
timeout 60 venv/bin/python seen.py
