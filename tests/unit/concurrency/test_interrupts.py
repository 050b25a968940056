"""What a signal raises in the server's thread goes to the server, whatever that thread does for a request."""

import asyncio
import functools
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bridge._concurrency.interrupts import is_interrupt, may_pass
from support.python_process import run_script


class Worker:
    """A server's worker whose method is the handler, as Gunicorn's is."""

    def end(self, number: int, frame: object) -> None:
        self.leave()

    def leave(self) -> None:
        sys.exit(1)

    def __call__(self, number: int, frame: object) -> None:
        self.leave()


def end(number: int, frame: object) -> None:
    sys.exit(1)


def complain(number: int, frame: object) -> None:
    raise TimeoutError("the alarm of the application itself")


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.fixture(name="handle")
def handle_fixture() -> Any:
    """Sets the handler of SIGUSR1; returns what raises what that raises."""
    before = signal.getsignal(signal.SIGUSR1)

    def handle(handler: Any) -> Callable[[], None]:
        signal.signal(signal.SIGUSR1, handler)
        return lambda: signal.raise_signal(signal.SIGUSR1)

    yield handle
    signal.signal(signal.SIGUSR1, before)


HANDLERS = [end, Worker().end, Worker(), functools.partial(end), signal.default_int_handler]


@pytest.mark.parametrize("handler", HANDLERS)
def test_what_a_handler_raises_is_one(handle: Any, handler: Any) -> None:
    """Whatever kind of callable it is; that of Python for Ctrl-C is written in C."""
    assert is_interrupt(raised(handle(handler)))


def test_what_the_application_raises_is_none(handle: Any) -> None:
    """Its own exit is not the server's; and an alarm that raises an error is for whoever has set it."""
    handle(end)
    assert not is_interrupt(raised(sys.exit))
    assert not is_interrupt(raised(handle(complain)))


def test_there_is_none_in_another_thread(handle: Any) -> None:
    """Handlers run in the main thread."""
    error = raised(handle(end))
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(is_interrupt(error)))
    thread.start()
    thread.join()
    assert [False] == said


SERVER = """
import asyncio, logging, signal, sys
from asgiref.sync import sync_to_async
from bridge import AsgiToWsgi, WsgiToAsgi
from support.plain_servers import environ_for
from support.asgi_apps import reply
from support.scripted_wsgi_server import ask

def end(number, frame):
    sys.exit("the server ends")

signal.signal(signal.SIGTERM, end)
logging.getLogger("bridge").addHandler(logging.NullHandler())
seen = []

def sync(number):
    if number:
        signal.raise_signal(number)
    else:
        sys.exit("the app ends")

async def sensitive(scope, receive, send):
    if scope["path"] == "/":
        await reply(send, b"next")
        return
    try:
        await sync_to_async(sync)(int(scope["path"][1:]))
    except BaseException as error:
        seen.append(type(error).__name__)
        raise

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/":
        start_response("200 OK", [])
        return [b"next"]
    try:
        sync(int(environ["PATH_INFO"][1:]))
    except BaseException as error:
        seen.append(type(error).__name__)
        raise

with AsgiToWsgi({app}, lifespan="off", disconnect_grace=0.1) as adapter:
    for number in (signal.SIGTERM, signal.SIGINT, 0):
        try:
            adapter(environ_for("GET", f"/{{int(number)}}"), lambda *_: None)
        except BaseException as error:
            print(type(error).__name__)
    print(ask(adapter).body)
    print(*seen)
"""


@pytest.mark.parametrize(
    ("app", "seen"),
    [
        ("sensitive", "CancelledError CancelledError SystemExit"),
        ("WsgiToAsgi(wsgi)", "SystemExit KeyboardInterrupt SystemExit"),
    ],
)
def test_the_server_gets_it(app: str, seen: str) -> None:
    """Out of thread-sensitive work, and out of a WSGI app further in; what the app raises stays the app's."""
    printed = run_script(SERVER.format(app=app))
    assert ["SystemExit", "KeyboardInterrupt", "RuntimeError", "b'next'", seen] == printed


EACH_STEP = """
import contextlib, itertools, os, signal, sys, threading
from asgiref.sync import sync_to_async
import bridge
from bridge import AsgiToWsgi, WsgiToAsgi
from support.asgi_apps import chunk, end, start
from support.plain_servers import environ_for

HERE = os.path.dirname(bridge.__file__)

class Stop(SystemExit):
    pass

def handler(number, frame):
    raise Stop

def signal_at(step):
    # Python looks for signals where a function begins, and where one written in C has returned.
    left = [step]

    def profile(frame, event, argument):
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(HERE):
            left[0] -= 1
            if not left[0]:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGUSR1)

    sys.setprofile(profile)

def wsgi(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    yield b"two"

async def sensitive(scope, receive, send):
    await start(send)
    await sync_to_async(int)()
    await chunk(send, b"one")
    await sync_to_async(int)()
    await end(send)

async def stream(scope, receive, send):
    await start(send)
    while True:
        await chunk(send, bytes(70_000))

def request(adapter):
    response = adapter(environ_for("GET", "/"), lambda *_: None)
    try:
        list(itertools.islice(response, 2))
    finally:
        if hasattr(response, "close"):
            response.close()

signal.signal(signal.SIGUSR1, handler)
sys.unraisablehook = lambda _: None  # a generator that is dropped half-way
with AsgiToWsgi({app}, lifespan="off", disconnect_grace=0.01) as adapter:
    request(adapter)
    runner, _ = adapter._runners.here()
    for step in itertools.count(1):
        ended, signal_came = threading.Event(), False
        signal_at(step)
        try:
            request(adapter)
        except Stop:
            signal_came = True
        except BaseException as error:
            print(step, "the server got", repr(error))
            signal_came = True
        sys.setprofile(None)
        for _ in range(2000):
            if not runner.live:
                break
            ended.wait(0.001)
        else:
            print(step, "the task goes on")
            break
        if not signal_came:
            break
    print("served", len(runner.live), "more than 50 steps:", step > 50)
"""


@pytest.mark.parametrize("app", ["WsgiToAsgi(wsgi)", "sensitive", "stream"])
def test_at_whatever_step_it_comes(app: str) -> None:
    """The server gets it, and not an error of our own; the task of the request ends."""
    assert ["served 0 more than 50 steps: True"] == run_script(EACH_STEP.format(app=app), quiet=False)


@pytest.mark.parametrize("error", [LookupError(), pytest.fail.Exception("x"), pytest.skip.Exception("x")])
def test_what_an_application_raises_may_pass(error: BaseException) -> None:
    """The outcome of a test too, which is no `Exception`."""
    assert may_pass(error)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, BaseException])
def test_what_would_end_a_server_may_not(kind: type[BaseException]) -> None:
    """Its process, a thread or a task."""
    assert not may_pass(kind())
