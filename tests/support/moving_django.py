"""What docs/migrating.md says of Django's handlers and of ours: a probe is given the name of the package."""

import subprocess
import sys
from typing import Any

from support.moving_wsgi import Probe
from support.paths import ROOT
from support.patience import PROCESS_PATIENCE

# Prints, for the application of one module of the two, what the page says of it.
DJANGO = """
import asyncio, sys, threading, warnings
import django
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

module, what = sys.argv[1:]
made, sent, loops, threads, environs = [], [], [], [], []
PARTS = 20  # some may be made after the first has been taken, and before its taker has looked
REQUESTS = 20  # a thread may be late to become free, so that another is started

def parts():
    for number in range(PARTS):
        made.append(number)
        yield bytes(2**20)  # more than may be on its way

async def async_parts():
    for part in parts():
        yield part

def sync_view(request):
    threads.append(threading.current_thread())
    environs.append(hasattr(request, "environ") and hasattr(request, "scope"))
    return HttpResponse("x")

async def async_view(request):
    loops.append(asyncio.get_running_loop())
    return HttpResponse("x")

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
urlpatterns = [
    path("sync-stream", lambda request: StreamingHttpResponse(parts())),
    path("async-stream", lambda request: StreamingHttpResponse(async_parts())),
    path("sync", sync_view),
    path("async", async_view),
]
warnings.simplefilter("ignore")
from importlib import import_module
if module == "django.core":
    module += ".wsgi" if what in ("async-stream", "loops") else ".asgi"
library = import_module(module)

def scope(where):
    return {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": where, "raw_path": where.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"x")], "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 80), "state": {}}

async def ask(application, where):
    waiting = [{"type": "http.request", "body": b"", "more_body": False}]
    over = asyncio.Event()
    async def receive():
        if waiting:
            return waiting.pop()
        await over.wait()
        return {"type": "http.disconnect"}
    async def send(event):
        if event.get("body"):
            sent.append(len(made))
        if event["type"] == "http.response.body" and not event.get("more_body"):
            over.set()
    await application(scope(where), receive, send)

async def startup(application):
    answers = []
    waiting = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    async def receive():
        return waiting.pop()
    async def send(event):
        answers.append(event["type"])
    try:
        await application({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    except ValueError as error:
        return "ValueError"
    return answers[0]

def wsgi(application, where):
    import io
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": where, "QUERY_STRING": "", "SERVER_NAME": "x",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "x", "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.multithread": True,
        "wsgi.multiprocess": False, "wsgi.run_once": False}
    body = application(environ, lambda *args: None)
    for part in body:
        if part:
            sent.append(len(made))
    if hasattr(body, "close"):
        body.close()

if what in ("async-stream", "loops"):
    application = library.get_wsgi_application()
    if what == "async-stream":
        wsgi(application, "/async-stream")
        print("whole" if sent[0] == PARTS else "in parts")
    else:
        wsgi(application, "/async")
        wsgi(application, "/async")
        print(len(set(map(id, loops))))
else:
    async def main():
        application = library.get_asgi_application()
        if what == "sync-stream":
            await ask(application, "/sync-stream")
            print("whole" if sent[0] == PARTS else "in parts")
        elif what == "lifespan":
            print(await startup(application))
        else:
            for _ in range(REQUESTS):
                await ask(application, "/sync")
            print(("new" if len(set(threads)) == REQUESTS else "again") if what == "threads" else environs[0])
    asyncio.run(main())
"""


def in_django(what: str) -> Probe:
    """What the script prints, with the functions of that module."""

    def probe(module: Any) -> str:
        name = module if isinstance(module, str) else module.__name__
        done = subprocess.run(
            [sys.executable, "-c", DJANGO, name, what],
            capture_output=True,
            text=True,
            timeout=PROCESS_PATIENCE,
            env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return probe
