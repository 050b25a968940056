"""A module may be looked for while another thread imports it: then it is in `sys.modules`, and has nothing in it yet.

The first requests of a process are served in several threads while one of them imports what its view needs.
"""

import ast
import sys
from types import ModuleType

import pytest

from bridge import WsgiToAsgi
from bridge._servers.connection import _class_ends
from support.asgi_apps import hello
from support.plain_servers import PiecemealInput, environ_for
from support.scripted_asgi_server import get, serve
from support.scripted_wsgi_server import adapted, ask
from support.source import MODULES
from support.wsgi_apps import hello as wsgi_hello


def is_sys_modules(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.modules"


def looked_for() -> set[str]:
    """The modules that the package uses only if somebody else has imported them."""
    return {
        str(ast.literal_eval(node.args[0]))
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and is_sys_modules(node.func.value)
        and isinstance(node.args[0], ast.Constant)
    }


# uWSGI makes its module itself, before it imports the application.
each_module = pytest.mark.parametrize("name", sorted(looked_for() - {"uwsgi"}))


@each_module
def test_requests_are_served_meanwhile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input is of a kind whose end the adapter has to find out."""
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    _class_ends.cache_clear()

    with adapted(hello) as adapter:
        assert b"hello" in b"".join(ask(adapter, environ_for("GET", "/", wsgi__input=PiecemealInput([]))).chunks)


@pytest.mark.anyio
@each_module
async def test_requests_of_an_asgi_server_are_served_meanwhile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, ModuleType(name))

    served = await serve(WsgiToAsgi(wsgi_hello), *get())

    assert 200 == served.status


def test_nothing_is_taken_for_granted() -> None:
    """What is looked for in such a module has a default: `getattr(sys.modules.get("module"), "name", default)`."""
    careful = {
        id(node.args[0])
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and len(node.args) == 3
    }
    bare = {
        f"{module}: {ast.unparse(node)}"
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and is_sys_modules(node.func.value)
        and id(node) not in careful
    }
    assert set() == bare
