#!/bin/bash
# With thread_inherit_context, jobs of run_in_executor see the context variables of whichever task started their thread.
#
# Needs Python 3.14 or newer: python3.14 on PATH, or the one that is named as in PYTHON=/opt/python/bin/python3.14.
# Seen on CPython 3.14.9, with the lock and without it, and on 3.15.1. The flag is on by default in the free-threaded
# build, and with `-X thread_inherit_context=1` in the other.
# The documentation says that a thread then begins with a copy of the context of the caller of Thread.start(). A pool
# calls that itself, in submit(), when it needs another thread, and keeps the thread for later jobs of anybody. What it
# means for pools is not said there, nor for run_in_executor.
# Seen: three tasks, one after the other, each with its own value in a context variable, and a pool of one thread. With
# the flag, the jobs of all three saw the value of the first. Without it, none saw any. asyncio.to_thread, in the same
# pool, gave each its own with and without the flag, since it copies the context for each job.
#
# For an adapter: start the threads of a pool with an empty context, and run each job in a copy of its request's. Else
# the user, the language or the trace of one request shows up in jobs of others, and only where the flag is on.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python=${PYTHON:-python3.14}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 14))'; then
    echo "This needs Python 3.14 or newer. Please name one, as in PYTHON=/opt/python/bin/python3.14." >&2
    exit 2
fi

cat > seen.py <<'PYTHON'
import asyncio
import contextvars
import platform
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

NAMES = ["alice", "bob", "carol"]
user = contextvars.ContextVar("user", default="nobody")


async def request(name):
    user.set(name)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, user.get), await asyncio.to_thread(user.get)


async def main():
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
    return [await asyncio.create_task(request(name)) for name in NAMES]


inherits = bool(sys.flags.thread_inherit_context)
build = "without the lock" if sysconfig.get_config_var("Py_GIL_DISABLED") else "with the lock"
print(f"Python {platform.python_version()}, the build {build}, thread_inherit_context={int(inherits)}")
in_executor, in_to_thread = map(list, zip(*asyncio.run(asyncio.wait_for(main(), 60))))
for name, one, other in zip(NAMES, in_executor, in_to_thread):
    print(f"the task of {name}: run_in_executor saw {one}, to_thread saw {other}")
if in_executor != [NAMES[0] if inherits else "nobody"] * 3 or in_to_thread != NAMES:
    sys.exit("CHANGED: expected the first name with the flag and none without it, and to_thread to see each its own")
PYTHON
for flag in 0 1; do
    timeout 90 "$python" -X thread_inherit_context=$flag seen.py
done
echo "As described."
