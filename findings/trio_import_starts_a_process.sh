#!/bin/bash
# Importing trio starts a process, and so the import fails in the threads of gevent's thread pool.
#
# Seen with trio 0.35.0 and gevent 26.9.0, on CPython 3.11 and 3.13, on Linux with glibc.
# To name its threads, trio looks up the library of POSIX threads when it is imported, with find_library of ctypes. That
# runs /sbin/ldconfig. Where gevent has patched subprocess, a process can be started only in the thread of the main hub,
# because only its loop can watch for the end of a child. gevent's own thread pool, which is meant for code that blocks,
# has other threads.
# Seen: after monkey.patch_all(), "import trio" in such a thread raised "TypeError: child watchers are only available on
# the default loop", and raised it again at the second try. After "import trio" in the main thread, the same line
# worked in the thread pool.
#
# For an adapter: async code that imports trio late, perhaps through httpx, which does so where it is installed, runs in
# the thread of an event loop, and that is not the one of the hub. Import trio when the process starts.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq gevent==26.9.0 trio==0.35.0

cat > seen.py <<'PYTHON'
from gevent import monkey

monkey.patch_all()

import platform
import subprocess
import sys
from importlib.metadata import version

from gevent.threadpool import ThreadPool

def imported():
    """What an import of trio raises, or that it worked."""
    try:
        import trio
    except TypeError as error:
        return f"{type(error).__name__}: {error}"
    return f"imported {trio.__name__}"


print(f"Python {platform.python_version()}, trio {version('trio')}, gevent {version('gevent')}")
plain = """
import subprocess

Popen, started = subprocess.Popen, []
subprocess.Popen = lambda command, **options: started.append(command) or Popen(command, **options)
import trio
print(started)
"""
run = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True, check=True, timeout=60)
print(f"without gevent, started by the import: {run.stdout.strip()}")
pool = ThreadPool(1)
seen = [pool.spawn(imported).get(), pool.spawn(imported).get(), imported(), pool.spawn(imported).get()]
places = ["thread pool", "thread pool again", "main thread", "thread pool afterwards"]
for place, outcome in zip(places, seen, strict=True):
    print(f"{place}: {outcome}")
refused = "TypeError: child watchers are only available on the default loop"
if "ldconfig" not in run.stdout or seen != [refused, refused, "imported trio", "imported trio"]:
    sys.exit("CHANGED: expected it to run ldconfig, and to fail in the thread pool until the main thread has it")
print("As described.")
PYTHON
timeout 90 venv/bin/python seen.py
