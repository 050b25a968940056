"""Threads and waits of the operating system under monkey patching: greenlets are served, and none is lost."""

import pytest

from support.python_process import run_script

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


GEVENT = """
from gevent import monkey
monkey.patch_all()
import asyncio, threading
import gevent
import gevent.hub
from gevent.threadpool import ThreadPool
import bridge._asgi_to_wsgi.task
from bridge import AsgiToWsgi
from support.plain_servers import environ_for

bridge._asgi_to_wsgi.task.POLL_SECONDS = 3600.0  # nothing may wait by the clock: a wake-up that is lost is a hang
main_thread = monkey.get_original("threading", "get_ident")()
threads, loops = set(), set()

async def app(scope, receive, send):
    threads.add(monkey.get_original("threading", "get_ident")())
    loops.add(asyncio.get_running_loop())
    more = True
    body = b""
    while more:
        event = await receive()
        body += event["body"]
        more = event["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"].startswith("/meet"):
        global waiting
        waiting += 1
        if waiting == 10:
            everybody.set()
        await everybody.wait()
    if scope["path"].startswith("/stream"):
        for _ in range(40):
            await send({"type": "http.response.body", "body": b"x" * 5000, "more_body": True})
            await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": body})

def no_loop_here():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False

def request(path="/", body=b""):
    iterable = adapter(environ_for("POST", path, body), lambda *_: None)
    try:
        assert no_loop_here()
        return b"".join(iterable)
    finally:
        if hasattr(iterable, "close"):
            iterable.close()
"""


class TestNativeThread:
    """Under monkey patching too: the loop in a thread of the operating system, the requests in greenlets."""

    def test_greenlets_are_served_and_none_is_lost(self) -> None:
        """A wake-up has to come from another thread of the operating system, also where the hub has nothing to do."""
        script = """
async def patient(scope, receive, send):
    if scope["path"] == "/later":
        await asyncio.sleep(0.01)
    await app(scope, receive, send)

adapter = AsgiToWsgi(patient, lifespan="off")
everybody, waiting = asyncio.Event(), 0

assert request(body=b"first") == b"first"
assert main_thread not in threads and len(threads) == 1

print(sum(request("/", b"%d" % n) == b"%d" % n for n in range(300)), "one after the other")
print(sum(request("/later", b"%d" % n) == b"%d" % n for n in range(30)), "to an idle hub")

jobs = [gevent.spawn(request, f"/meet/{n}", b"%d" % n) for n in range(10)]
gevent.joinall(jobs, timeout=60, raise_error=True)
print(sum(job.value == b"%d" % n for n, job in enumerate(jobs)), "met on the loop")

jobs = [gevent.spawn(request, f"/stream/{n}", b"end") for n in range(20)]
gevent.joinall(jobs, timeout=60, raise_error=True)
print(sum(job.value == b"x" * 200_000 + b"end" for job in jobs), "streams at once")

jobs = [gevent.spawn(request, "/", b"y" * 300_000) for n in range(20)]
gevent.joinall(jobs, timeout=60, raise_error=True)
print(sum(job.value == b"y" * 300_000 for job in jobs), "uploads at once")

print(len(loops), "loop")
assert no_loop_here()
adapter.close()
print("closed", len(loops), all(loop.is_closed() for loop in loops))
"""
        assert [
            "300 one after the other",
            "30 to an idle hub",
            "10 met on the loop",
            "20 streams at once",
            "20 uploads at once",
            "1 loop",
            "closed 1 True",
        ] == run_script(GEVENT + script)

    def test_the_hub_goes_on_while_a_greenlet_waits(self) -> None:
        """And so does the loop while a greenlet computes."""
        script = """
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.001)

async def slow(scope, receive, send):
    await asyncio.sleep(0.1)
    await app(scope, receive, send)

adapter = AsgiToWsgi(slow)
ticker = gevent.spawn(tick)
assert gevent.spawn(request, "/", b"slow").get(timeout=60) == b"slow"
print(ticks > 10)
ticker.kill()
adapter.close()
"""
        assert ["True"] == run_script(GEVENT + script)

    @pytest.mark.parametrize("factory", ["None", "__import__('uvloop').new_event_loop"])
    def test_thread_sensitive_work_and_lifespan(self, factory: str) -> None:
        """In the greenlet of the request; Django's ORM looks there for a running loop."""
        script = f"""
from asgiref.sync import sync_to_async
events = []
async def both(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        events.append("startup")
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        events.append("shutdown")
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    def work():
        assert no_loop_here()
        return gevent.getcurrent()
    greenlet = await sync_to_async(work)()
    events.append(greenlet)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"ok"}})

adapter = AsgiToWsgi(both, lifespan="on", loop_factory={factory})
jobs = [gevent.spawn(request) for _ in range(5)]
gevent.joinall(jobs, timeout=60, raise_error=True)
print([job.value for job in jobs])
gevent.spawn(adapter.close).get(timeout=60)
print(events[0], events[-1], set(events[1:-1]) == set(jobs))
"""
        assert [repr([b"ok"] * 5), "startup shutdown True"] == run_script(GEVENT + script)

    def test_greenlets_that_leave_a_stream_end_it(self) -> None:
        script = """
ended = []
async def endless(scope, receive, send):
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0.001)
    finally:
        ended.append(1)
        if len(ended) == 12:
            all_ended.set()

all_ended = threading.Event()
adapter = AsgiToWsgi(endless, lifespan="off")
def leave():
    iterable = adapter(environ_for("GET", "/"), lambda *_: None)
    first = next(iter(iterable))
    iterable.close()
    return first[:4]
jobs = [gevent.spawn(leave) for _ in range(12)]
gevent.joinall(jobs, timeout=60, raise_error=True)
print(sum(job.value == b"tick" for job in jobs), all_ended.wait(60))
adapter.close()
"""
        assert ["12 True"] == run_script(GEVENT + script)

    def test_a_wake_up_that_the_hub_has_not_seen(self) -> None:
        """It has been sent before the wait for a connection begins, and ends that."""
        script = """
import socket
from bridge._concurrency.server_thread import ServerThread

waiter = ServerThread()
client, server = socket.socketpair()
for _ in range(3):
    waiter.wake()
    print(waiter.await_readable(server.fileno(), 60))
client.sendall(b"x")
print(waiter.await_readable(server.fileno(), 60), waiter.await_wake(0.01))
client.close(), server.close()
"""
        assert ["True", "True", "True", "True False"] == run_script(GEVENT + script)

    def test_a_response_that_the_garbage_collector_ends_in_another_thread(self) -> None:
        """The watcher of its greenlet is stopped in the hub's thread, the only one that may touch it."""
        script = """
import gc
from bridge._concurrency import greenlets

stopped = []
stop = greenlets._stop

def noting(watcher):
    stopped.append(monkey.get_original("threading", "get_ident")() == main_thread)
    stop(watcher)

async def collecting(scope, receive, send):
    if scope["path"] == "/collect":
        gc.collect()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body"})

gc.disable()
greenlets._stop = noting
adapter = AsgiToWsgi(collecting, lifespan="off")
cycle = [adapter(environ_for("GET", "/"), lambda *_: None)]
cycle.append(cycle)
del cycle
request("/collect")
while len(stopped) < 2:
    gevent.sleep(0.001)
print(*stopped)
adapter.close()
"""
        assert ["True True"] == run_script(GEVENT + script)


PROCESSES = """
from gevent import monkey
monkey.patch_all()
import asyncio, subprocess
from asgiref.sync import sync_to_async
from bridge import AsgiToWsgi
from support.plain_servers import environ_for

async def app(scope, receive, send):
    ways = {
        "loop": lambda: asyncio.create_subprocess_exec("true"),
        "to_thread": lambda: asyncio.to_thread(subprocess.run, ["true"]),
        "sync_to_async": lambda: sync_to_async(subprocess.run)(["true"]),
    }
    seen = []
    for name, way in ways.items():
        try:
            seen.append(f"{name}: {(await way()).returncode}")
        except TypeError as error:
            seen.append(f"{name}: {error}")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": "\\n".join(seen).encode()})

with AsgiToWsgi(app, lifespan="off") as adapter:
    print(b"".join(adapter(environ_for("GET", "/"), lambda *_: None)).decode())
"""


def test_processes_are_started_by_the_greenlet_of_the_request() -> None:
    """gevent starts none in another thread; docs/servers/gevent.md says so."""
    refused = "child watchers are only available on the default loop"
    assert [f"loop: {refused}", f"to_thread: {refused}", "sync_to_async: 0"] == run_script(PROCESSES)
