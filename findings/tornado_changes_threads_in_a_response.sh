#!/bin/bash
# Tornado's WSGIContainer runs the steps of one WSGI response in different threads, and close() in that of its loop.
#
# Seen with Tornado 6.6.1, on CPython 3.11 and 3.13.
# With executor=ThreadPoolExecutor(...), the container gives the executor the call of the app as one job, and each piece
# of the body as another one. Nothing keeps them together. So a generator begins in one thread and goes on in others,
# while other requests run in the thread that it began in. close() is not given to the executor at all: it runs in the
# thread of the event loop, which it can block. The pieces are collected: the client gets the first one after the last.
# PEP 3333 says nothing of threads here, but code that keeps a database connection in a threading.local, as Django does,
# relies on one thread for each request.
# Seen: eight requests at once, whose pieces wait for each other, each had several threads in its body. All eight bodies
# were closed in the thread of the loop, and no byte reached the clients before the last piece was made.
#
# For an adapter: find the thread that asks anew in each step, and do not block in close().
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq tornado==6.6.1

cat > seen.py <<'PYTHON'
import asyncio
import platform
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import tornado
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.wsgi import WSGIContainer

REQUESTS, PIECES = 8, 4
taken = {}
closed_in = []
made_at = []


class Body:
    def __init__(self, number):
        self.number = number
        self.left = PIECES
        taken[number] = {threading.get_ident()}

    def __iter__(self):
        return self

    def __next__(self):
        if self.left == 0:
            raise StopIteration
        # Nobody goes on before all requests have come as far, so that no thread stays free for one of them.
        steps[PIECES - self.left].wait(20)
        self.left -= 1
        taken[self.number].add(threading.get_ident())
        made_at.append(time.monotonic())
        return b"piece"

    def close(self):
        closed_in.append(threading.get_ident())


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(environ["PATH_INFO"])


async def main():
    sockets = bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]
    server = HTTPServer(WSGIContainer(app, executor=ThreadPoolExecutor(REQUESTS)))
    server.add_sockets(sockets)
    client = AsyncHTTPClient(max_clients=REQUESTS)
    came = []

    async def ask(number):
        await client.fetch(f"http://127.0.0.1:{port}/{number}", streaming_callback=lambda _: came.append(time.monotonic()))

    await asyncio.gather(*(ask(number) for number in range(REQUESTS)))
    server.stop()
    return came


steps = [threading.Barrier(REQUESTS) for _ in range(PIECES)]
print(f"Python {platform.python_version()}, Tornado {tornado.version}")
came = asyncio.run(main())
several = sum(len(threads) > 1 for threads in taken.values())
on_loop = sum(ident == threading.get_ident() for ident in closed_in)
print(f"{several} of {REQUESTS} bodies ran in more than one thread; {on_loop} of {len(closed_in)} were closed on the loop")
print(f"bytes came before the last piece was made: {min(came) < max(made_at)}")
if (several > 0, on_loop, len(closed_in), min(came) > max(made_at)) != (True, REQUESTS, REQUESTS, True):
    sys.exit("CHANGED: expected bodies in several threads, each closed on the loop, and no byte before all were made")
print("As described.")
PYTHON
timeout 90 venv/bin/python seen.py
