"""One app in each framework, with the same three routes: where it is mounted, what it was sent, and its root.

`/where` answers "<the prefix>|<the path within it>" as the framework itself tells them, `/echo` the body of a POST, `/`
answers "root".
"""

import warnings
from collections.abc import Callable
from typing import Any

WSGI = ("flask", "falcon", "bottle", "pyramid")
ASGI = ("fastapi", "starlette", "litestar", "quart", "falcon-asgi")


def flask() -> Any:
    from flask import Flask, request

    app = Flask(__name__)
    app.add_url_rule("/", "root", lambda: "root")
    app.add_url_rule("/where", "where", lambda: f"{request.script_root}|{request.path}")
    app.add_url_rule("/echo", "echo", lambda: request.get_data(), methods=["POST"])
    return app


def falcon() -> Any:
    import falcon

    class Root:
        def on_get(self, request: Any, response: Any) -> None:
            response.text = "root"

    class Where:
        def on_get(self, request: Any, response: Any) -> None:
            response.text = f"{request.root_path}|{request.path}"

    class Echo:
        def on_post(self, request: Any, response: Any) -> None:
            response.data = request.bounded_stream.read()

    app = falcon.App()
    for path, resource in (("/", Root()), ("/where", Where()), ("/echo", Echo())):
        app.add_route(path, resource)
    return app


def bottle() -> Any:
    from bottle import Bottle, request

    app = Bottle()
    app.get("/")(lambda: "root")
    app.get("/where")(lambda: f"{request.script_name.rstrip('/')}|{request.path}")
    app.post("/echo")(lambda: request.body.read())
    return app


def pyramid() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports what Python has removed since
        from pyramid.config import Configurator
        from pyramid.response import Response

    config = Configurator()
    views = {
        "/": lambda request: Response("root"),
        "/where": lambda request: Response(f"{request.script_name}|{request.path_info}"),
        "/echo": lambda request: Response(request.body),
    }
    for path, view in views.items():
        config.add_route(path, path)
        config.add_view(view, route_name=path)
    return config.make_wsgi_app()


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route, get_route_path

    async def echo(request: Any) -> Response:
        return Response(await request.body())

    def where(request: Any) -> Response:
        return PlainTextResponse(f"{request.scope['root_path']}|{get_route_path(request.scope)}")

    return Starlette(
        routes=[
            Route("/", lambda request: PlainTextResponse("root")),
            Route("/where", where),
            Route("/echo", echo, methods=["POST"]),
        ]
    )


def fastapi() -> Any:
    from fastapi import FastAPI, Request
    from fastapi.responses import PlainTextResponse, Response

    app = FastAPI()

    @app.get("/", response_class=PlainTextResponse)
    async def root() -> str:
        return "root"

    async def where(request: Request) -> str:
        return f"{request.scope['root_path']}|{request.url.path.removeprefix(request.scope['root_path'])}"

    async def echo(request: Request) -> Response:
        return Response(await request.body())

    app.get("/where", response_class=PlainTextResponse)(where)
    app.post("/echo")(echo)
    return app


def litestar() -> Any:
    from litestar import Litestar, Request, get, post

    @get("/")
    async def root() -> str:
        return "root"

    @get("/where")
    async def where(request: Request[Any, Any, Any]) -> str:
        root_path = request.scope["root_path"]
        return f"{root_path}|{request.scope['path'].removeprefix(root_path)}"

    @post("/echo", media_type="text/plain", status_code=200)
    async def echo(request: Request[Any, Any, Any]) -> bytes:
        return await request.body()

    # Its own logging would keep the records of other tests, with what their tracebacks refer to.
    return Litestar([root, where, echo], logging_config=None)


def quart() -> Any:
    from quart import Quart, request

    app = Quart(__name__)

    @app.get("/")
    async def root() -> str:
        return "root"

    @app.get("/where")
    async def where() -> str:
        return f"{request.root_path}|{request.path}"

    @app.post("/echo")
    async def echo() -> Any:
        return await request.get_data()

    return app


def falcon_asgi() -> Any:
    """Falcon does not take the prefix off the path: its routes have to be declared with it."""
    import falcon.asgi

    class Root:
        async def on_get(self, request: Any, response: Any) -> None:
            response.text = "root"

    class Where:
        async def on_get(self, request: Any, response: Any) -> None:
            response.text = f"{request.root_path}|{request.path.removeprefix(request.root_path)}"

    class Echo:
        async def on_post(self, request: Any, response: Any) -> None:
            response.data = await request.stream.read()

    app = falcon.asgi.App()
    for prefix in ("", "/mounted"):
        for path, resource in (("/", Root()), ("/where", Where()), ("/echo", Echo())):
            app.add_route(prefix + path, resource)
    return app


MAKE: dict[str, Callable[[], Any]] = {
    name: globals()[name.replace("-", "_")] for name in ("flask", "falcon", "bottle", "pyramid", *ASGI)
}
