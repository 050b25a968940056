#!/bin/bash
# A thread that asgiref's sync_to_async has used once keeps the loop it worked for, after the call is over.
#
# Seen with asgiref 3.13.0 on CPython 3.11 and 3.13.
# sync_to_async(thread_sensitive=False) borrows a thread of the executor, the loop's default one where none is named. It
# notes the loop in a thread-local, for async_to_sync to find, and does not take the note away. A later job in that
# thread need not come from asgiref at all: its async_to_sync runs on the loop of the earlier call.
# Seen: the same function, given to asyncio.to_thread twice, in the same thread. Before the thread's first sync_to_async
# the coroutine ran in a new loop and a new thread. After it the coroutine ran on the main loop, in the main thread.
#
# For an adapter: what a pooled thread finds there may be left from someone else. Set it for each request, and put back
# what was there. Whether it exists says nothing about who waits for the thread now.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq asgiref==3.13.0

cat > seen.py <<'PYTHON'
import asyncio
import platform
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from asgiref.sync import async_to_sync, sync_to_async


async def where():
    return asyncio.get_running_loop()


def job():
    return threading.get_ident(), async_to_sync(where)()


def say(moment, loop):
    print(f"{moment}: async_to_sync ran on {'the main loop' if loop is main_loop else 'a loop of its own'}")


async def main():
    global main_loop
    main_loop = asyncio.get_running_loop()
    main_loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
    thread, before = await asyncio.to_thread(job)
    await sync_to_async(threading.get_ident, thread_sensitive=False)()
    same_thread, after = await asyncio.to_thread(job)
    say("before sync_to_async", before)
    say("after it", after)
    if thread != same_thread or before is main_loop or after is not main_loop:
        sys.exit("CHANGED: expected a loop of its own before, and the main loop after, in one thread")


print(f"Python {platform.python_version()}, asgiref {version('asgiref')}")
asyncio.run(asyncio.wait_for(main(), 30))
print("As described.")
PYTHON
timeout 60 venv/bin/python seen.py
