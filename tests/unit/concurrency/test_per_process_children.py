"""An application forks while it serves a request, and the child comes back from its code. It ends there, and the parent
is left as it was.
"""

import pytest

from support.python_process import run_script

# How the child ends: its exit status is to be ENDS[how].
HOW = """
import os, sys, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and newer warn of forks beside threads
children = []

def fork(how):
    children.append(os.fork())
    if children[0]:
        return
    if how == "exits":
        sys.exit(3)
    if how == "says why":
        sys.exit("enough")
    if how == "raises":
        raise ValueError("a fault of the child")

def status():
    return os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
"""

ON_WSGI = """
from bridge import AsgiToWsgi, WsgiToAsgi
from asgiref.sync import sync_to_async
from support.asgi_apps import reply
from support.plain_servers import environ_for
from support.scripted_wsgi_server import ask

async def on_the_loop(scope, receive, send):
    if scope["path"] == "/fork":
        fork(how)
    await reply(send, b"ok")

async def in_the_servers_thread(scope, receive, send):
    if scope["path"] == "/fork":
        await sync_to_async(fork)(how)
    await reply(send, b"ok")

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/fork":
        fork(how)
    start_response("200 OK", [])
    return [b"ok"]

with AsgiToWsgi(WsgiToAsgi(wsgi) if app == "wsgi" else globals()[app], lifespan="off") as adapter:
    print(ask(adapter, environ_for("GET", "/fork")).body)
    print(status())
    print({ask(adapter).body for _ in range(20)})
"""

ON_ASGI = """
import asyncio
from bridge import WsgiToAsgi
from support.scripted_asgi_server import get, serve

def when_called(environ, start_response):
    if environ["PATH_INFO"] == "/fork":
        fork(how)
    start_response("200 OK", [])
    return [b"ok"]

def when_iterated(environ, start_response):
    start_response("200 OK", [])
    yield b"o"
    if environ["PATH_INFO"] == "/fork":
        fork(how)
    yield b"k"


async def main():
    with WsgiToAsgi(globals()[app]) as adapter:
        print((await serve(adapter, *get("/fork"))).body)
        print(status())
        print({(await serve(adapter, *get())).body for _ in range(20)})

asyncio.run(main())
"""

ENDS = {"exits": 3, "says why": 1, "raises": 1, "returns": 0}
PLACES = [
    ("on_the_loop", ON_WSGI),
    ("in_the_servers_thread", ON_WSGI),
    ("wsgi", ON_WSGI),
    ("when_called", ON_ASGI),
    ("when_iterated", ON_ASGI),
]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize(("app", "script"), PLACES, ids=[name for name, _ in PLACES])
def test_a_child_that_comes_back(app: str, script: str, how: str) -> None:
    lines = run_script(f"how, app = {how!r}, {app!r}\n{HOW}{script}", quiet=False)
    assert ["b'ok'", str(ENDS[how]), "{b'ok'}"] == lines
