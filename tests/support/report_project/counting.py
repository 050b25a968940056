"""Serves one request after the other by the real handlers, and counts how often each changes its thread.

`python -m report_project.counting` reads a JSON list of cases, and prints for each what was counted and what the report
says. A profile function sees each call of a function of Django's or of the project's, and each resumption of their
coroutines, in any thread. One request runs at a time, and such code of one request never in two threads at once: each
change of the thread is a crossing.
"""

import asyncio
import contextlib
import inspect
import io
import json
import sys
import threading
from pathlib import Path

import django
from asgiref.sync import AsyncToSync
from django.core import signals
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http.response import HttpResponseBase
from django.test.utils import override_settings
from django.urls import clear_url_caches

from bridge._asgi_to_wsgi.portal import Portal
from bridge._concurrency.loops import AsyncioLoop
from bridge._concurrency.pool import ThreadPool
from bridge.django import _signals

SEEN = (str(Path(django.__file__).parent), str(Path(__file__).parent))
# Between two of these there need be nothing of Django's.
ASKING = {AsyncToSync.__call__.__code__, Portal.call.__code__}
ASYNC = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
LIMIT = 10.0


class Trail:
    """The threads that a request has been in, one after the other."""

    def __init__(self):
        self.threads = None

    def start(self):
        self.threads = [threading.get_ident()]

    def here(self):
        if self.threads[-1] != threading.get_ident():
            self.threads.append(threading.get_ident())

    def hops(self):
        self.here()
        threads, self.threads = self.threads, None
        return len(threads) - 1

    def __call__(self, frame, event, argument):
        # A coroutine that suspends itself "returns", too, when another thread may have begun already.
        if self.threads is not None and (event == "call" or (event == "return" and not frame.f_code.co_flags & ASYNC)):
            code = frame.f_code
            if code in ASKING or (code.co_filename.startswith(SEEN) and code.co_filename != __file__):
                self.here()


TRAIL = Trail()


class Posts:
    """Counts what goes over between the threads and the loops of `WsgiToAsgi` and its response."""

    def __init__(self):
        self.count = 0
        for kind, name in ((AsyncioLoop, "post"), (ThreadPool, "submit")):
            setattr(kind, name, self._counted(getattr(kind, name)))

    def _counted(self, original):
        def call(*args, **kwargs):
            self.count += 1
            return original(*args, **kwargs)

        return call


@contextlib.asynccontextmanager
async def closing():
    """Wait at the end for the response to have been closed: some handlers do so when it has been sent already."""
    loop, closed, all_of_it, quickly = (
        asyncio.get_running_loop(),
        asyncio.Event(),
        HttpResponseBase.close,
        _signals.close,
    )

    def told(original):
        def close(response):
            original(response)
            loop.call_soon_threadsafe(closed.set)

        return close

    HttpResponseBase.close = _signals._close = told(all_of_it)
    _signals.close = told(quickly)
    try:
        yield
        await asyncio.wait_for(closed.wait(), LIMIT)
    finally:
        HttpResponseBase.close = _signals._close = all_of_it
        _signals.close = quickly


def wsgi(app, path):
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    heads = []
    TRAIL.start()
    response = app(environ, lambda status, headers, exc_info=None: heads.append((status, dict(headers))))
    for _ in response:
        pass
    if hasattr(response, "close"):
        response.close()
    hops = TRAIL.hops()
    return hops, *heads[0]


async def asgi(app, path):
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }
    waiting, sent = [{"type": "http.request"}], []

    async def receive():
        return waiting.pop() if waiting else await asyncio.Future()

    async def send(event):
        sent.append(event)

    TRAIL.start()
    async with closing():
        await asyncio.wait_for(app(scope, receive, send), LIMIT)
    hops = TRAIL.hops()
    headers = {name.decode("latin-1").title(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return hops, str(sent[0]["status"]), headers


def served(app, handler, path):
    if handler.endswith("wsgi"):
        return wsgi(app, path)
    return LOOP.run_until_complete(asgi(app, path))


def applications():
    from bridge.django import get_asgi_application, get_wsgi_application

    return {
        "django-wsgi": WSGIHandler(),
        "django-asgi": ASGIHandler(),
        "bridge-wsgi": get_wsgi_application(),
        "bridge-asgi": get_asgi_application(threads=2),
    }


@contextlib.contextmanager
def listening(names):
    def sync_receiver(**_):
        pass

    async def async_receiver(**_):
        pass

    found = {"sync": sync_receiver, "async": async_receiver}
    connected = [(getattr(signals, name), found[kind]) for name, kind in names]
    for signal, receiver in connected:
        signal.connect(receiver)
    try:
        yield
    finally:
        for signal, receiver in connected:
            signal.disconnect(receiver)


def count(case):
    """What one case shows: the report, and for each handler and URL pattern the hops, status and Server-Timing."""
    from bridge.django._report.cost import report
    from bridge.django._report.project import survey
    from bridge.django._report.selection import Hidden
    from bridge.django._report.tables import as_json

    clear_url_caches()
    with override_settings(**case.get("settings", {})), listening(case.get("listeners", ())):
        shown = as_json(report(survey()), Hidden())
        counted = {}
        for handler, app in applications().items():
            for pattern in shown["url_patterns"]:
                path = "/" + pattern["route"].strip("^$")
                if handler == "bridge-asgi":
                    served(app, handler, path)  # the first of a process makes the chain, in a thread
                before = POSTS.count
                hops, status, headers = served(app, handler, path)
                assert status.startswith("200"), (status, handler, path)
                counted.setdefault(pattern["route"], {})[handler] = {
                    "hops": hops,
                    "posts": POSTS.count - before,
                    "timing": headers.get("Server-Timing"),
                }
            if hasattr(app, "close"):
                app.close()
    return {"report": shown, "counted": counted}


if __name__ == "__main__":
    threading.setprofile(TRAIL)
    django.setup()
    POSTS = Posts()
    LOOP = asyncio.new_event_loop()
    cases = json.load(sys.stdin)
    sys.setprofile(TRAIL)
    results = [count(case) for case in cases]
    sys.setprofile(None)
    LOOP.run_until_complete(LOOP.shutdown_default_executor())
    LOOP.close()
    json.dump(results, sys.stdout)
