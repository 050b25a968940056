"""`Mounts`: what reaches which app, and as what, on both sides."""

import subprocess
import sys
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount as StarletteMount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from bridge import AsgiToWsgi, Mounts, ServerProtocolError, WsgiToAsgi
from support import frameworks
from support.asgi_apps import reply
from support.lenient_asgi_server import fetch, living
from support.mounted import by_asgi, by_wsgi, closing
from support.paths import TESTS
from support.plain_servers import Environ, environ_for, scope_for
from support.scripted_wsgi_server import ask
from support.waiting import bounded
from support.websocket_clients import Rejected
from support.websocket_clients import site as websocket_site

pytestmark = pytest.mark.anyio

asyncio_only = pytest.mark.parametrize("anyio_backend", [("asyncio", {"debug": True})])


def wsgi_app(name: str) -> Any:
    """Answers with its name, and with how PEP 3333 splits its path."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{name} wsgi {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]

    return app


def asgi_app(name: str, seen: list[Any] | None = None) -> Any:
    """Answers with its name, and with how ASGI gives its path; the path begins with root_path."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        if seen is not None:
            seen.append(scope)
        root, path = scope["root_path"], scope["path"]
        assert path.startswith(root)
        await reply(send, f"{name} asgi {root}|{path.removeprefix(root)}".encode())

    return app


PATHS = [
    ("/", "root |/"),
    ("/x", "root |/x"),
    ("/new", "new /new|"),
    ("/new/", "new /new|/"),
    ("/new/x/y", "new /new|/x/y"),
    ("/newer", "root |/newer"),
    ("/new/old", "deep /new/old|"),
    ("/new/old/x", "deep /new/old|/x"),
    ("/new/older", "new /new|/older"),
    ("/old/x", "old /old|/x"),
    ("/old//x/", "old /old|//x/"),
    ("//old/x", "root |//old/x"),
    ("/old/../new", "old /old|/../new"),
    ("/./old", "root |/./old"),
    ("/old/a b", "old /old|/a b"),
    ("/old/ü", "old /old|/ü"),
    ("/ünï/ü", "word /ünï|/ü"),
    ("/new/%2F", "new /new|/%2F"),
]


def site_of(*, flipped: bool = False) -> Mounts:
    """The same prefixes with apps of each style; flipped, each of the other style."""
    one, other = (asgi_app, wsgi_app) if flipped else (wsgi_app, asgi_app)
    mounts = {"/": one("root"), "/old": one("old"), "/new": other("new")}
    return Mounts({**mounts, "/new/old": one("deep"), "/ünï": other("word")})


def text(body: bytes, *, flipped: bool = False) -> str:
    """What the app said, without its style, which has to be the right one."""
    name, style, rest = body.decode().split(" ", 2)
    assert (style == "asgi") != ((name in ("root", "old", "deep")) != flipped)
    return f"{name} {rest}"


@asyncio_only
class TestPaths:
    @pytest.mark.parametrize("flipped", [False, True])
    @pytest.mark.parametrize(("path", "expected"), PATHS)
    async def test_on_an_asgi_server(self, path: str, expected: str, flipped: bool) -> None:
        site = site_of(flipped=flipped)
        with closing(site):
            seen = await by_asgi(site.asgi, path)

        assert expected == text(seen.body, flipped=flipped)

    @pytest.mark.parametrize("flipped", [False, True])
    @pytest.mark.parametrize(("path", "expected"), PATHS)
    async def test_on_a_wsgi_server(self, path: str, expected: str, flipped: bool) -> None:
        site = site_of(flipped=flipped)
        with closing(site):
            seen = by_wsgi(site.wsgi, path)

        assert expected == text(seen.body, flipped=flipped)

    @pytest.mark.parametrize("raw", [b"/new%2Fold/x", b"/new/old%2fx", b"/%6eew/old/x"])
    async def test_escapes_are_decoded_before_the_prefix_is_looked_for(self, raw: bytes) -> None:
        """Both specifications hand over a decoded path; raw_path and REQUEST_URI still say what the client wrote."""
        scopes: list[Any] = []
        site = Mounts({"/new/old": asgi_app("deep", scopes), "/": wsgi_app("root")})
        with closing(site):
            one = await by_asgi(site.asgi, "/new/old/x", raw_path=raw)
            other = by_wsgi(site.wsgi, "/new/old/x", REQUEST_URI=raw.decode())

        assert one.body == other.body == b"deep asgi /new/old|/x"
        assert [raw, raw] == [scope["raw_path"] for scope in scopes]

    @pytest.mark.parametrize("path", ["/", "/a", "/ab", "/abc/b"])
    async def test_nothing_is_mounted_there(self, path: str) -> None:
        site = Mounts({"/a/b": wsgi_app("a"), "/abc/bc": asgi_app("b")})
        with closing(site):
            one, other = await by_asgi(site.asgi, path), by_wsgi(site.wsgi, path)
            head = by_wsgi(site.wsgi, path, "HEAD")

        assert (404, b"nothing is mounted here\n") == (one.status, one.body) == (other.status, other.body)
        assert (404, b"", ["24"]) == (head.status, head.body, head.by_name()["content-length"])

    @pytest.mark.parametrize(
        ("root", "path", "expected"),
        [
            ("/site", "/site/new/x", "new asgi /site/new|/x"),
            ("/site", "/site", "root wsgi /site|"),
            ("/site", "/site/old", "old wsgi /site/old|"),
            ("/site/", "/site/new/x", "new asgi /site/new|/x"),
            ("/new", "/new/new/x", "new asgi /new/new|/x"),
        ],
    )
    async def test_below_a_root_of_the_server(self, root: str, path: str, expected: str) -> None:
        site = site_of()
        with closing(site):
            one = await by_asgi(site.asgi, path, root_path=root)
            other = by_wsgi(site.wsgi, path[len(root.rstrip("/")) :], SCRIPT_NAME=root)

        assert expected == one.body.decode()
        assert expected.replace("/site|", "/site|") == other.body.decode().replace("/site/|", "/site|")

    async def test_a_server_that_leaves_the_root_out_of_the_path(self) -> None:
        """Hypercorn and Daphne do; the app gets what the specification says, root_path being part of path."""
        site = site_of()
        with closing(site):
            new = await by_asgi(site.asgi, "/new/x", root_path="/site")
            old = await by_asgi(site.asgi, "/old/x", root_path="/site")

        assert b"new asgi /site/new|/x" == new.body
        assert b"old wsgi /site/old|/x" == old.body

    async def test_the_scope_of_the_server_stays_as_it_is(self) -> None:
        """ASGI, "Middleware": changes must not leak to what is outside."""
        scopes: list[Any] = []
        site = Mounts({"/new": asgi_app("new", scopes), "/old": wsgi_app("old")})
        with closing(site):
            for path in ("/new/x", "/old/x"):
                scope = scope_for("GET", path)
                before = dict(scope)
                await fetch(site.asgi, scope)
                assert before == scope

        assert "bridge.mount" not in scopes[0]

    @pytest.mark.parametrize("path", ["/new", "/old"])
    async def test_a_body_reaches_each_app(self, path: str) -> None:
        site = Mounts({"/new": frameworks.MAKE["starlette"](), "/old": frameworks.MAKE["flask"]()})
        with closing(site):
            one = await by_asgi(site.asgi, f"{path}/echo", "POST", b"body")
            other = by_wsgi(site.wsgi, f"{path}/echo", "POST", b"body")

        assert (200, b"body") == (one.status, one.body) == (other.status, other.body)


# What an app answers at the prefix itself, without a slash, and where it redirects to.
AT_THE_PREFIX = {
    "flask": (308, "http://127.0.0.1:8000/mounted/"),
    "falcon": (200, None),
    "bottle": (200, None),
    "pyramid": (200, None),
    "fastapi": (307, "http://127.0.0.1:8000/mounted/"),
    "starlette": (307, "http://127.0.0.1:8000/mounted/"),
    "litestar": (200, None),
    "quart": (404, None),
    "falcon-asgi": (404, None),
}


@asyncio_only
@pytest.mark.parametrize("name", frameworks.MAKE)
class TestFrameworks:
    async def test_each_finds_its_prefix(self, name: str) -> None:
        app = frameworks.MAKE[name]()
        site = Mounts({"/mounted": app})
        with closing(site):
            one, other = await by_asgi(site.asgi, "/mounted/where"), by_wsgi(site.wsgi, "/mounted/where")

        assert (200, b"/mounted|/where") == (one.status, one.body)
        assert (200, b"/mounted|/where") == (other.status, other.body)

    async def test_each_gets_a_body(self, name: str) -> None:
        site = Mounts({"/mounted": frameworks.MAKE[name]()})
        with closing(site):
            one = await by_asgi(site.asgi, "/mounted/echo", "POST", b"a body")
            other = by_wsgi(site.wsgi, "/mounted/echo", "POST", b"a body")

        assert (200, b"a body") == (one.status, one.body) == (other.status, other.body)

    async def test_each_answers_at_its_prefix_without_a_slash(self, name: str) -> None:
        """It redirects, finds nothing or serves its root, as the framework does when its path is empty."""
        site = Mounts({"/mounted": frameworks.MAKE[name](), "/": wsgi_app("root")})
        with closing(site):
            for seen in (await by_asgi(site.asgi, "/mounted"), by_wsgi(site.wsgi, "/mounted")):
                location = (seen.by_name().get("location") or [None])[0]
                assert AT_THE_PREFIX[name] == (seen.status, location)

    async def test_each_at_the_root(self, name: str) -> None:
        site = Mounts({"/": frameworks.MAKE[name]()})
        with closing(site):
            one, other = await by_asgi(site.asgi, "/"), by_wsgi(site.wsgi, "/")

        assert (200, b"root") == (one.status, one.body) == (other.status, other.body)


def test_django_both_ways() -> None:
    """Its settings are those of a process, so that it has one of its own."""
    program = """if True:
        import anyio, django
        from django.conf import settings
        settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"])
        django.setup()
        from django.core.asgi import get_asgi_application
        from django.core.wsgi import get_wsgi_application
        from django.http import HttpResponse
        from django.urls import path, reverse
        from bridge import Mounts, interface_of
        from support.mounted import by_asgi, by_wsgi, closing

        def where(request):
            return HttpResponse(f"{type(request).__name__} {reverse('where')} {request.path_info}")

        urlpatterns = [path("where", where, name="where")]
        old, new = get_wsgi_application(), get_asgi_application()
        assert ("wsgi", "asgi") == (interface_of(old), interface_of(new))
        site = Mounts({"/old": old, "/new": new})
        with closing(site):
            for name, kind in (("/old", "WSGIRequest"), ("/new", "ASGIRequest")):
                one = anyio.run(by_asgi, site.asgi, f"{name}/where")
                other = by_wsgi(site.wsgi, f"{name}/where")
                assert f"{kind} {name}/where /where".encode() == one.body == other.body, (one, other)
        print("served")
    """
    ran = subprocess.run([sys.executable, "-c", program], cwd=TESTS, capture_output=True)
    assert (b"served\n", b"") == (ran.stdout, ran.stderr)


class TestNative:
    """An app runs without an adapter where the server speaks its interface."""

    async def test_asgi_apps_on_an_asgi_server(self) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((scope["type"], threading.get_ident(), receive, send))
            await reply(send)

        async def receive() -> Any: ...

        async def send(event: Any) -> None: ...

        site = Mounts({"/new": app})
        with closing(site):
            await site.asgi(scope_for("GET", "/new"), receive, send)

        assert [("http", threading.get_ident(), receive, send)] == seen

    async def test_wsgi_apps_on_a_wsgi_server(self) -> None:
        seen: list[Any] = []
        result = [b"x"]

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            seen.append((threading.get_ident(), environ, start_response))
            return result

        environ = environ_for("GET", "/old/x")
        site = Mounts({"/old": app})
        with closing(site):
            returned = site.wsgi(environ, print)

        assert returned is result
        assert [(threading.get_ident(), environ, print)] == seen
        assert seen[0][1] is environ, "what an app puts there is for the middleware outside"

    async def test_an_adapter_of_the_users_own_keeps_its_options(self) -> None:
        """And comes off on the side where it is not needed."""
        old, new = wsgi_app("old"), asgi_app("new")
        with WsgiToAsgi(old, threads=1) as one:
            other = AsgiToWsgi(new, lifespan="off")
            site = Mounts({"/old": one, "/new": other})
            with closing(site):
                found = {mount.prefix: mount for mount in site.mounts}
                await by_asgi(site.asgi, "/old/x")
                by_wsgi(site.wsgi, "/new/x")
                assert (1, 1) == (one.stats().served, other.stats().served)
            await anyio.to_thread.run_sync(other.close)

        assert (one, old) == (found["/old"].asgi, found["/old"].wsgi)
        assert (new, other) == (found["/new"].asgi, found["/new"].wsgi)

    @asyncio_only  # on trio a thread is woken for each request
    async def test_all_wsgi_apps_share_their_threads(self) -> None:
        """Five hundred mounts must not mean five hundred pools."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [threading.current_thread().name.encode()]

        site = Mounts({f"/{number}": lambda environ, start_response: app(environ, start_response) for number in "abc"})
        with closing(site):
            names = {(await by_asgi(site.asgi, f"/{number}")).body for number in "abc"}

        assert 1 == len(names)


@asyncio_only
class TestNested:
    async def test_mounts_within_mounts(self) -> None:
        inner = Mounts({"/old": wsgi_app("old"), "/new": asgi_app("new")})
        site = Mounts({"/in": inner, "/": wsgi_app("root")})
        with closing(site, inner):
            for path, expected in (
                ("/in/old/x", "old wsgi /in/old|/x"),
                ("/in/new/x", "new asgi /in/new|/x"),
                ("/in/new", "new asgi /in/new|"),
                ("/x", "root wsgi |/x"),
            ):
                one, other = await by_asgi(site.asgi, path), by_wsgi(site.wsgi, path)
                assert expected == one.body.decode() == other.body.decode()
            for path in ("/in", "/in/", "/in/x"):
                assert 404 == (await by_asgi(site.asgi, path)).status == by_wsgi(site.wsgi, path).status

    @pytest.mark.parametrize("side", ["asgi", "wsgi"])
    async def test_one_side_of_mounts_within_mounts_leads_to_both(self, side: str) -> None:
        inner = Mounts({"/old": wsgi_app("old"), "/new": asgi_app("new")})
        site = Mounts({"/in": getattr(inner, side)})
        with closing(site, inner):
            assert b"new asgi /in/new|/x" == (await by_asgi(site.asgi, "/in/new/x")).body
            assert b"old wsgi /in/old|/x" == by_wsgi(site.wsgi, "/in/old/x").body

        assert (inner.asgi, inner.wsgi) == (site.mounts[0].asgi, site.mounts[0].wsgi)

    async def test_within_a_mount_of_starlette(self) -> None:
        site = Mounts({"/old": wsgi_app("old"), "/new": asgi_app("new"), "/": asgi_app("root")})
        outer = Starlette(routes=[StarletteMount("/site", app=site.asgi)])
        with closing(site):
            bodies = [(await by_asgi(outer, path)).body for path in ("/site/old/x", "/site/new/x", "/site/")]

        assert [b"old wsgi /site/old|/x", b"new asgi /site/new|/x", b"root asgi /site|/"] == bodies

    async def test_within_a_dispatcher_of_werkzeug(self) -> None:
        site = Mounts({"/old": wsgi_app("old"), "/new": asgi_app("new"), "/": asgi_app("root")})
        outer = DispatcherMiddleware(wsgi_app("outer"), {"/site": site.wsgi})
        with closing(site):
            bodies = [by_wsgi(outer, path).body for path in ("/site/old/x", "/site/new/x", "/site/", "/x")]

        assert [
            b"old wsgi /site/old|/x", b"new asgi /site/new|/x", b"root asgi /site|/", b"outer wsgi |/x"
        ] == bodies  # fmt: skip

    async def test_starlette_and_werkzeug_within(self) -> None:
        """Their own mounts below ours."""
        new = Starlette(routes=[StarletteMount("/deep", app=asgi_app("new"))])
        old = DispatcherMiddleware(wsgi_app("outer"), {"/deep": wsgi_app("old")})
        site = Mounts({"/new": new, "/old": old})
        with closing(site):
            for name, style in (("new", "asgi"), ("old", "wsgi")):
                one, other = await by_asgi(site.asgi, f"/{name}/deep/x"), by_wsgi(site.wsgi, f"/{name}/deep/x")
                assert f"{name} {style} /{name}/deep|/x".encode() == one.body == other.body


class TestServerAtFault:
    """A path that is none is told as an adapter tells it."""

    @pytest.mark.parametrize("changes", [{"path": None}, {"path": b"/"}, {"root_path": b"/a"}, {"root_path": 5}])
    async def test_of_a_scope(self, changes: dict[str, Any]) -> None:
        site = Mounts({"/old": wsgi_app("old")})
        with closing(site), pytest.raises(ServerProtocolError, match="the server gave a scope whose path is of type"):
            await fetch(site.asgi, scope_for("GET", "/old") | changes)

    @pytest.mark.parametrize("changes", [{"PATH_INFO": None}, {"PATH_INFO": b"/"}, {"SCRIPT_NAME": 5}])
    def test_of_an_environ(self, changes: dict[str, Any]) -> None:
        site = Mounts({"/new": asgi_app("new")})
        with closing(site), pytest.raises(ServerProtocolError, match="the server gave an environ whose path is"):
            site.wsgi(environ_for("GET", "/new") | changes, print)


class TestOtherConnections:
    """Websockets, and what else a server may open."""

    @staticmethod
    def websocket(path: str, **changed: Any) -> dict[str, Any]:
        scope = scope_for("GET", path) | {"type": "websocket", "scheme": "ws", "subprotocols": [], **changed}
        del scope["method"]
        return scope

    def test_on_a_wsgi_server_each_goes_to_its_mount(self) -> None:
        """With the mount as its root; the other side's application gets a plain request."""

        async def new(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": f"{scope['root_path']} {scope['path']}"})
            await send({"type": "websocket.close"})

        def old(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Length", "3")])
            return [b"old"]

        with Mounts({"/new": new, "/": old}) as mounts, websocket_site(mounts.wsgi) as running:
            with running.connect() as client:
                client.open("/new/x")
                assert "/new /new/x" == client.receive()
                client.answer_close(client.receive())  # type: ignore[arg-type]
            with running.connect() as client:
                answer = client.open("/other")
                assert isinstance(answer, Rejected)
                assert (200, b"old") == (answer.status, answer.body)

    async def test_a_websocket_goes_to_an_asgi_mount(self) -> None:
        scopes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            assert "websocket.connect" == (await receive())["type"]
            await send({"type": "websocket.accept"})

        site = Mounts({"/new": app, "/": wsgi_app("root")})
        with closing(site):
            exchange = await fetch(site.asgi, self.websocket("/new/x"), {"type": "websocket.connect"})

        assert [{"type": "websocket.accept"}] == exchange.sent
        assert ("websocket", "/new", "/new/x") == tuple(scopes[0][key] for key in ("type", "root_path", "path"))

    @pytest.mark.parametrize("path", ["/old/x", "/nowhere"])
    async def test_elsewhere_it_is_denied(self, path: str) -> None:
        site = Mounts({"/old": wsgi_app("old")})
        with closing(site):
            closed = await fetch(site.asgi, self.websocket(path), {"type": "websocket.connect"})
            denial = {"websocket.http.response": {}}
            denied = await fetch(site.asgi, self.websocket(path, extensions=denial), {"type": "websocket.connect"})

        assert [{"type": "websocket.close", "code": 1000}] == closed.sent
        assert 404 == denied.status


class TestArguments:
    def test_it_wants_a_mapping(self) -> None:
        with pytest.raises(TypeError, match="expected a mapping of path prefixes to applications, got <function"):
            Mounts(wsgi_app("x"))

    def test_it_says_where_no_app_is(self) -> None:
        with pytest.raises(TypeError, match=r"at the prefix '/x': expected an application, .* got None"):
            Mounts({"/": wsgi_app("root"), "/x": None})

    def test_it_checks_the_prefixes(self) -> None:
        with pytest.raises(ValueError, match="write '/api', not '/api/'"):
            Mounts({"/api/": wsgi_app("x")})

    def test_it_may_be_empty(self) -> None:
        site = Mounts({})

        assert ["<Mounts >", "<ASGI side of Mounts >", "<WSGI side of Mounts >"] == [
            repr(side) for side in (site, site.asgi, site.wsgi)
        ]
        assert "<Mounts /, /a>" == repr(Mounts({"/": wsgi_app("root"), "/a": wsgi_app("a")}))


class TestHome:
    """Behind an adapter of the other direction, nothing is started twice."""

    async def test_wsgi_middleware_around_mounts_on_an_asgi_server(self) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                seen.append((threading.get_ident(), anyio.lowlevel.current_token()))
            await reply(send, b"home")

        site = Mounts({"/new": app, "/old": wsgi_app("old")})
        outer = WsgiToAsgi(lambda environ, start_response: site.wsgi(environ, start_response))
        try:
            async with living(outer):
                assert b"home" == (await fetch(outer, scope_for("GET", "/new/x"))).body
                assert b"old wsgi /old|/x" == (await fetch(outer, scope_for("GET", "/old/x"))).body
        finally:
            bounded(outer.close)
            bounded(site.close)

        assert [(threading.get_ident(), anyio.lowlevel.current_token())] == seen

    @asyncio_only
    async def test_asgi_middleware_around_mounts_on_a_wsgi_server(self) -> None:
        seen: list[int] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            seen.append(threading.get_ident())
            start_response("200 OK", [])
            return [b"home"]

        site = Mounts({"/new": asgi_app("new"), "/old": app})
        outer = AsgiToWsgi(lambda scope, receive, send: site.asgi(scope, receive, send))
        with closing(site):
            threads = [bounded(lambda: (ask(outer, environ_for("GET", "/old/x")), threading.get_ident()))]
            served = ask(outer, environ_for("GET", "/old/x"))
            ours = [name for name in (thread.name for thread in threading.enumerate()) if name.startswith("bridge-")]
        await anyio.to_thread.run_sync(outer.close)

        assert (b"home", ["bridge-loop"]) == (served.body, ours)
        assert served.thread.ident == seen[1]
        assert 1 == len(threads)
