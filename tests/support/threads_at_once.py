"""Eight threads through both adapters, Mounts and bridge.django for some seconds, while adapters are opened and closed
and the process forks: `python -m support.threads_at_once SECONDS`.

Each answer is checked, and at the end each count. It is a process of its own, since it forks and sets Django up. Prints
what it did as JSON; what was wrong is a list under "wrong".
"""

import asyncio
import contextvars
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi
from support.asgi_apps import reply
from support.plain_servers import Seen, call_asgi, call_wsgi, environ_for, scope_for

THREADS = 8
# How many requests a loop has at once, and how many batches it lives for.
AT_ONCE, BATCHES = 4, 10
CLOSE_SECONDS, FORK_SECONDS, CHILD_SECONDS = 0.02, 0.5, 30.0

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
# Requests that are refused, since they are none: by whom, and how they are counted, is checked as well.
REFUSED = "/refused"


def text_of(path: str, seen_user: str) -> bytes:
    return f"{path} for {seen_user}".encode()


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await asyncio.sleep(0)
    await reply(send, text_of(scope["path"], user.get()))


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    body = text_of(environ["SCRIPT_NAME"] + environ["PATH_INFO"], user.get())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def sync_view(request: HttpRequest, token: str) -> HttpResponse:
    return HttpResponse(text_of(request.path, user.get()))


async def async_view(request: HttpRequest, token: str) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse(text_of(request.path, user.get()))


urlpatterns = [path("sync/<str:token>", sync_view), path("async/<str:token>", async_view)]


class Site:
    """What all threads share, and what they note."""

    def __init__(self) -> None:
        settings.configure(
            ROOT_URLCONF=__name__,
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="-",
            MIDDLEWARE=[],
            USE_I18N=False,
            LOGGING_CONFIG=None,
        )
        from bridge.django import get_asgi_application, get_wsgi_application

        self.asgi_to_wsgi = AsgiToWsgi(asgi_app)
        self.wsgi_to_asgi = WsgiToAsgi(wsgi_app)
        self.mounts = Mounts({"/asgi": asgi_app, "/": wsgi_app})
        self.django_wsgi: Any = get_wsgi_application()
        self.django_asgi: Any = get_asgi_application()
        self.closables: list[Any] = [
            self.asgi_to_wsgi,
            self.wsgi_to_asgi,
            self.mounts,
            self.django_wsgi,
            self.django_asgi,
        ]
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.closes = self.forks = 0

    def check(self, name: str, counts: "Counter[str]", path: str, seen: Seen) -> None:
        """Note an answer: the right one, a refusal, or a wrong one."""
        refusal = 400 if REFUSED in path else 503
        if seen.status == refusal and seen.error is None and (refusal == 400 or name.endswith("asgi")):
            # A WsgiToAsgi that is closed between the look for its threads and the call says that it is busy.
            counts[f"{name} refused"] += 1
        elif (seen.status, seen.body, seen.error) == (200, text_of(path, f"user of {path}"), None):
            counts[name] += 1
        else:
            self.wrong.append(f"{name} {path}: {seen.status} {seen.body!r} {seen.error!r}")

    # -- by a thread of a WSGI server

    def ask_wsgi(self, name: str, app: Any, path: str, counts: "Counter[str]") -> None:
        def ask() -> Seen:
            user.set(f"user of {path}")
            changed = {"CONTENT_LENGTH": "x"} if REFUSED in path else {}
            return call_wsgi(app, environ_for("GET", path, **changed))

        self.check(name, counts, path, contextvars.copy_context().run(ask))

    def wsgi_requests(self, token: str, counts: "Counter[str]") -> None:
        self.ask_wsgi("AsgiToWsgi", self.asgi_to_wsgi, f"/{token}", counts)
        self.ask_wsgi("AsgiToWsgi", self.asgi_to_wsgi, f"{REFUSED}{token}", counts)
        self.ask_wsgi("Mounts.wsgi", self.mounts.wsgi, f"/{token}", counts)
        self.ask_wsgi("Mounts.wsgi to asgi", self.mounts.wsgi, f"/asgi/{token}", counts)
        self.ask_wsgi("django wsgi", self.django_wsgi, f"/sync/{token}", counts)
        self.ask_wsgi("django wsgi", self.django_wsgi, f"/async/{token}", counts)
        with AsgiToWsgi(asgi_app) as opened:
            self.ask_wsgi("opened", opened, f"/{token}", counts)

    # -- by the loop of an ASGI server

    async def ask_asgi(self, name: str, app: Any, path: str, counts: "Counter[str]") -> None:
        user.set(f"user of {path}")
        headers = [(b"content-length", b"x")] if REFUSED in path else []
        self.check(name, counts, path, await call_asgi(app, scope_for("GET", path, headers), []))

    async def asgi_requests(self, token: str, counts: "Counter[str]") -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                path = f"/{token}-{number}"
                for name, app, prefix in (
                    ("WsgiToAsgi.asgi", self.wsgi_to_asgi, ""),
                    ("WsgiToAsgi.asgi", self.wsgi_to_asgi, REFUSED),
                    ("Mounts.asgi", self.mounts.asgi, "/asgi"),
                    ("Mounts to wsgi.asgi", self.mounts.asgi, ""),
                    ("django.asgi", self.django_asgi, "/sync"),
                    ("django.asgi", self.django_asgi, "/async"),
                ):
                    group.create_task(self.ask_asgi(name, app, prefix + path, counts))

    # -- what the threads do

    def send(self, number: int, counts: "Counter[str]") -> None:
        batch = 0
        while not self.over.is_set():
            with asyncio.Runner() as runner:
                for _ in range(BATCHES):
                    batch += 1
                    runner.run(self.asgi_requests(f"{number}-{batch}", counts))
                    self.wsgi_requests(f"{number}-{batch}", counts)
                    if self.over.is_set():
                        break

    def close(self) -> None:
        chosen = random.Random(1)
        while not self.over.wait(CLOSE_SECONDS):
            chosen.choice(self.closables).close()
            self.closes += 1

    def fork(self) -> None:
        while not self.over.wait(FORK_SECONDS):
            child = os.fork()
            if not child:
                os._exit(self._serve_in_child())
            deadline = time.monotonic() + CHILD_SECONDS
            while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.005)
            if ended[0] == 0:
                os.kill(child, signal.SIGABRT)  # it says where it is
                os.waitpid(child, 0)
            if ended != (child, 0):
                self.wrong.append(f"a child ended with {ended}")
            self.forks += 1

    def _serve_in_child(self) -> int:
        counts: Counter[str] = Counter()
        self.wrong = []
        for attempt in range(3):
            self.ask_wsgi("AsgiToWsgi", self.asgi_to_wsgi, f"/child-{attempt}", counts)
            # Not asyncio.run(), which asks for all tasks at its end. Without the interpreter lock that waits for ever
            # if a thread that the child does not have held the lock of one of them when it forked.
            loop = asyncio.new_event_loop()
            loop.run_until_complete(self.ask_asgi("WsgiToAsgi.asgi", self.wsgi_to_asgi, f"/child-{attempt}", counts))
            loop.close()
        stats = self.asgi_to_wsgi.stats(), self.wsgi_to_asgi.stats()
        if self.wrong or counts.total() != 6 or [each.served for each in stats] != [3, 3]:
            print("in a child:", self.wrong, counts, stats, file=sys.stderr)
            return 1
        return 0

    # -- the end

    def compare(self, counts: "Counter[str]") -> None:
        """Close all, and compare what the adapters have counted with what came back."""
        for closable in self.closables:
            closable.close()
        mounted_asgi, mounted_wsgi = self.mounts._adapters
        for name, adapter in (
            ("AsgiToWsgi", self.asgi_to_wsgi),
            ("Mounts.wsgi to asgi", mounted_wsgi),
            ("WsgiToAsgi.asgi", self.wsgi_to_asgi),
            ("Mounts to wsgi.asgi", mounted_asgi),
            ("django.asgi", self.django_asgi),
        ):
            stats = adapter.stats()
            counted = stats.served, stats.rejected, stats.aborted, stats.client_disconnects, stats.busy
            expected = counts[name], counts[f"{name} refused"], 0, 0, 0
            if counted != expected:
                self.wrong.append(f"{name} counted {counted}, and {expected} came back")


def main(seconds: float) -> None:
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # it forks though it has threads
    site = Site()
    own: list[Counter[str]] = [Counter() for _ in range(THREADS)]

    def noting(function: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                function()
            except BaseException as error:
                site.wrong.append(f"{function} raised {error!r}")

        return run

    work: list[Callable[[], None]] = [lambda n=n: site.send(n, own[n]) for n in range(THREADS)]  # type: ignore[misc]
    threads = [threading.Thread(target=noting(function)) for function in [*work, site.close, site.fork]]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    site.over.set()
    for thread in threads:
        thread.join()
    counts = sum(own, Counter[str]())
    site.compare(counts)
    print(json.dumps({"counts": counts, "closes": site.closes, "forks": site.forks, "wrong": site.wrong}))


if __name__ == "__main__":
    main(float(sys.argv[1]))
