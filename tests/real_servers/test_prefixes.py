"""An app below /shop, which the proxy takes off or leaves on and the server is told of: nothing escapes the prefix."""

import json
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT
from urllib.parse import unquote

import pytest

import servers
from servers.process import serve

pytestmark = pytest.mark.servers
# They answer each path with what they are told of root and path.
WSGI_APP = "bridge.WsgiToAsgi(apps.wsgi_facts)"
ASGI_APP = "bridge.AsgiToWsgi(apps.asgi_facts, lifespan='off')"
ROOTED = ["--root-path", "/shop"]
PROBE = "/shop/hello"
Run = Callable[[Path], servers.Running]
REFUSED = (400, 404, 500)  # without the app


def page(name: str, app: str, *more: str) -> Run:
    return lambda directory: serve(name, directory, app, more, probe=PROBE)


# What takes the whole path, and finds the root in it or not: behind a proxy that takes it off, and one that leaves it.
EITHER: dict[str, Run] = {
    "hypercorn": page("hypercorn_asyncio", WSGI_APP, *ROOTED),
    "daphne": page("daphne", WSGI_APP, *ROOTED),
    "gunicorn_asgi": page("gunicorn_asgi", WSGI_APP, *ROOTED),
    "granian_asgi": page("granian_asgi", WSGI_APP, "--url-path-prefix", "/shop"),
}
# What serves nothing but the prefix.
STRICT: dict[str, Run] = {
    "uwsgi": page("uwsgi_mounted", ASGI_APP),
    "apache": lambda directory: servers.apache_daemon(directory, ASGI_APP, alias="/shop"),
    "nginx_uvicorn": lambda directory: servers.nginx_prefix(directory, WSGI_APP),
    "nginx_uwsgi": lambda directory: servers.nginx_uwsgi_mounted(directory, ASGI_APP),
}
# WSGI servers that put their prefix before what does not begin with it.
LENIENT: dict[str, Run] = {
    "waitress": page("waitress", ASGI_APP, "--url-prefix=/shop"),
    "gunicorn": lambda directory: serve(
        "gunicorn_gthread", directory, ASGI_APP, environment={"SCRIPT_NAME": "/shop"}, probe=PROBE
    ),
}
ALL = EITHER | STRICT | LENIENT

BELOW = {
    "/shop/": "/",
    "/shop/a%20b": "/a b",
    "/shop/%E2%82%AC": "/\u20ac",
    "/shop/facts/": "/facts/",
    "/%73hop/x": "/x",
    "/shop/x/shop/y": "/x/shop/y",
    "/shop/shop/x": "/shop/x",
}
# These servers make one slash of several, and do away with dot segments, before they look for the app.
NORMAL = {"apache", "nginx_uvicorn", "nginx_uwsgi"}
ODD = {
    "/shop//x": ("//x", "/x"),
    "/shop/a/./x": ("/a/./x", "/a/x"),
    "/shop/a/../x": ("/a/../x", "/x"),
    "/shop/a%2Fb": ("/a/b", "/a/b"),
}
OUTSIDE = ["/shopping", "/shopping/x", "//evil/shop/x", "/shop/../x", "/shop/%2e%2e/x", "/x/shop/y", "/Shop/x", "/"]


@pytest.fixture(params=ALL)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_paths(name: str, tmp_path: Path) -> None:
    """What is below the prefix is cut at it; what is not is refused, or is below it as a whole, however it looks."""
    with ALL[name](tmp_path) as server:
        for target, path in BELOW.items():
            if not (target.startswith("/%") and name == "gunicorn"):
                assert ("/shop", path) == told(server, target), target
        for target, (as_sent, normal) in ODD.items():
            assert told(server, target) in [("/shop", as_sent), ("/shop", normal), 404], target
        for target in OUTSIDE:
            seen = told(server, target)
            if isinstance(seen, tuple):
                assert_not_cut(target, *seen)
            else:
                assert seen in REFUSED, target
            assert name not in STRICT or not isinstance(seen, tuple) or "/.." in unquote(target), (target, seen)
        if name not in NORMAL:
            assert ("/shop", "") == told(server, "/shop")
        if name == "waitress":
            server.stop(SIGINT)


def test_granian_cuts_whatever_is_there(tmp_path: Path) -> None:
    """Granian's WSGI interface takes off as many characters as its prefix has, and does not look at them."""
    with serve("granian_wsgi", tmp_path, ASGI_APP, ["--url-path-prefix", "/shop"], probe=PROBE) as server:
        assert ("/shop", "/a b") == told(server, "/shop/a%20b")
        assert ("/shop", "/x") == told(server, "/evil/x")
        assert ("/shop", "/shopping") == told(server, "/shopping"), "what does not begin with a slash is not below it"


@pytest.mark.parametrize("name", EITHER)
def test_a_proxy_takes_the_prefix_off(name: str, tmp_path: Path) -> None:
    """The root is what the server was told, and the path what is left of it."""
    with ALL[name](tmp_path) as server:
        for target in ("/", "/a%20b", "/shopping", "//x", "/a/../x"):
            assert ("/shop", unquote(target)) == told(server, target), target


def assert_not_cut(target: str, root: str, path: str) -> None:
    """A path that is not below the root is all there, behind it; Waitress makes one slash of several in front."""
    whole = unquote(target)
    as_sent = {whole} if "/.." in whole else set()
    assert root + path in {root + whole, root + whole[1:]} | as_sent, (target, root, path)


def told(server: servers.Server, target: str) -> tuple[str, str] | int:
    """Root and path as the app was told of them; or the status with which the server has refused."""
    status, body = server.get(target)
    if status != 200 or not body.startswith(b"{"):
        return status if status != 200 else 404  # Nginx has a page of its own for /
    facts = json.loads(body)
    return bytes.fromhex(facts["root"]).decode(), bytes.fromhex(facts["path"]).decode()
