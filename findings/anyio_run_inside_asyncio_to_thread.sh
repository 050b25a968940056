#!/bin/bash
# asyncio.to_thread(anyio.run, ...) fails if the loop was started by anyio.run, and sniffio happens to be installed.
#
# Seen with anyio 4.16.0 and sniffio 1.3.1 on CPython 3.11 and 3.13.
# anyio.run notes "asyncio" in a context variable of sniffio's, when it finds that package. asyncio.to_thread copies the
# context into its thread. There a second anyio.run reads the variable and takes the thread for one that runs a loop.
# sniffio is no dependency of anyio any more, so the same code works or fails by what else is installed.
# Seen, always in a thread that ran no loop:
#   anyio.run outside, without sniffio: the inner anyio.run works.
#   anyio.run outside, with sniffio: RuntimeError, "Already running asyncio in this thread".
#   anyio.run outside, with sniffio, but anyio's own to_thread.run_sync: works, since anyio clears the variable there.
#   asyncio.run outside, with sniffio: works, since asyncio sets no such variable.
#
# For an adapter: who runs an application in a thread with a copy of the request's context must set that variable to
# None in the copy. Else sync code that calls anyio.run breaks under some servers and test clients only.
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
from importlib.metadata import PackageNotFoundError, version

import anyio
import anyio.to_thread

try:
    sniffio = version("sniffio")
except PackageNotFoundError:
    sniffio = None


async def inner():
    return "works"


async def outer(to_thread):
    try:
        return await to_thread(anyio.run, inner)
    except RuntimeError as error:
        return f"RuntimeError, {error}"


async def copied():
    return await outer(asyncio.to_thread)


async def cleared():
    return await outer(anyio.to_thread.run_sync)


seen = {
    "anyio.run outside, asyncio.to_thread": anyio.run(copied),
    "anyio.run outside, anyio.to_thread.run_sync": anyio.run(cleared),
    "asyncio.run outside, asyncio.to_thread": asyncio.run(copied()),
}
print(f"Python {platform.python_version()}, anyio {version('anyio')}, sniffio {sniffio or 'not installed'}")
for case, what in seen.items():
    print(f"{case}: {what}")
first = "RuntimeError, Already running asyncio in this thread" if sniffio else "works"
if list(seen.values()) != [first, "works", "works"]:
    sys.exit(f"CHANGED: expected '{first}' in the first case, and 'works' in the others")
PYTHON
timeout 60 venv/bin/python seen.py
if venv/bin/python -c "import sniffio" 2>/dev/null; then
    echo "CHANGED: anyio brings sniffio along"
    exit 1
fi
timeout 300 venv/bin/pip install -qq sniffio==1.3.1
timeout 60 venv/bin/python seen.py
echo "As described."
