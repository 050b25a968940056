"""The nouns of the two specifications; and that types/public_api.py, which uses them, is read by both type checkers."""

import ast
import sys
import tomllib
from collections.abc import Awaitable, Iterable, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, get_args, get_origin
from wsgiref.types import WSGIApplication, WSGIEnvironment

import pytest

import bridge
from bridge import _types
from support.paths import ROOT

PUBLIC_API = ROOT / "tests" / "types" / "public_api.py"


class TestNouns:
    def test_an_environ_is_a_builtin_dict(self) -> None:
        """PEP 3333, Specification Details: no subclass and no other mapping; as the standard library says it."""
        assert dict is get_origin(_types.Environ)
        assert WSGIEnvironment == _types.Environ

    @pytest.mark.parametrize("noun", [_types.Scope, _types.Event])
    def test_scopes_and_events_are_mappings_that_may_be_changed(self, noun: Any) -> None:
        """ASGI, Middleware: a copy of a scope is changed and passed on."""
        assert MutableMapping[str, Any] == noun

    @pytest.mark.parametrize(
        ("noun", "arguments", "result"),
        [
            (_types.WSGIApp, 2, Iterable[bytes]),
            (_types.Write, 1, object),
            (_types.ASGIApp, 3, Awaitable[Any]),
            (_types.Receive, 0, Awaitable[Any]),
            (_types.Send, 1, Awaitable[Any]),
        ],
    )
    def test_callables_have_the_arguments_of_the_specification(self, noun: Any, arguments: int, result: Any) -> None:
        """PEP 3333, The Application/Framework Side; ASGI, Applications: what they are given, and what comes back."""
        parameters, returned = get_args(noun)
        assert (arguments, result) == (len(parameters), returned)

    def test_a_wsgi_application_is_what_the_standard_library_says(self) -> None:
        """The first argument and the result; `start_response` is left open, since frameworks type it in many ways."""
        (environ, _), returned = get_args(WSGIApplication)
        (our_environ, _), our_returned = get_args(_types.WSGIApp)
        assert (environ, returned) == (our_environ, our_returned)

    def test_headers_are_lists_of_pairs(self) -> None:
        """Of native strings in WSGI, of byte strings in ASGI."""
        assert list[tuple[str, str]] == _types.WSGIHeaders
        assert list[tuple[bytes, bytes]] == _types.ASGIHeaders

    def test_exc_info_is_what_sys_gives(self) -> None:
        """PEP 3333, The start_response() Callable: with an exception, and without."""
        something, nothing = get_args(_types.ExcInfo)
        assert (type[BaseException], BaseException, TracebackType | None) == get_args(something)
        assert sys.exc_info() == get_args(nothing)


class TestPublicApi:
    def test_both_type_checkers_read_it(self) -> None:
        """`make check` runs them on what the configuration names."""
        tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
        read = [any(PUBLIC_API.is_relative_to(ROOT / path) for path in paths) for paths in _paths(tools)]
        assert [True, True] == read
        assert tools["mypy"]["strict"]

    def test_it_uses_each_public_name(self) -> None:
        """And each option of the two adapters, and each number of their statistics."""
        tree = ast.parse(PUBLIC_API.read_text(encoding="utf-8"))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert set() == set(bridge.__all__) - used
        for adapter in (bridge.WsgiToAsgi, bridge.AsgiToWsgi):
            options = set(adapter.__init__.__annotations__) - {"app", "return"}
            assert set() == options - keywords
            assert set() == set(adapter.stats.__annotations__["return"].__dataclass_fields__) - attributes

    def test_it_is_never_executed(self) -> None:
        """No test imports it, and pytest does not collect it."""
        assert not PUBLIC_API.name.startswith("test_")
        importing = [path.name for path in PUBLIC_API.parents[1].rglob("*.py") if _imports(path, "public_api")]
        assert [] == importing


def _paths(tools: dict[str, Any]) -> tuple[list[str], list[str]]:
    return tools["mypy"]["files"], tools["pyright"]["include"]


def _imports(path: Path, module: str) -> bool:
    imports = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return any(
        module in (alias.name for alias in node.names) or (isinstance(node, ast.ImportFrom) and node.module == module)
        for node in imports
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
