"""Which kind of stream a view returns, if its source says so without being run."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from django.http import FileResponse, StreamingHttpResponse

from bridge.django import _modes

Kind = Literal["sync", "async"]


def streams(view: Callable[..., Any]) -> set[Kind]:
    """The kinds of iterators that the view gives to a `StreamingHttpResponse` or `FileResponse`.

    Only what its own source shows: a generator expression, a list, or the call of a generator function that is defined
    in the view or known in its module. Nothing if there is no source.
    """
    return {kind for function in _modes.own_functions(view) for kind in _kinds(function)}


def _kinds(function: Any) -> Iterator[Kind]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return  # made by exec(), for example, or part of a line
    own = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    names = {**function.__globals__, **_modes.enclosed(function)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        kind = _value(node.func, names)
        if isinstance(kind, type) and issubclass(kind, FileResponse):
            yield "sync"
        elif isinstance(kind, type) and issubclass(kind, StreamingHttpResponse):
            yield from _content(node, own, names)


def _content(call: ast.Call, own: Mapping[str, ast.AST], names: Mapping[str, Any]) -> Iterator[Kind]:
    given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "streaming_content")]
    for content in given:
        kind = _kind(content, own, names)
        if kind is not None:
            yield kind


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What a dotted name stands for in the module of the view, or None if that is not known."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return inspect.getattr_static(_value(node.value, names), node.attr, None)
    return None


def _kind(content: ast.expr, own: Mapping[str, ast.AST], names: Mapping[str, Any]) -> Kind | None:
    if isinstance(content, ast.GeneratorExp):
        is_async = any(one.is_async for one in content.generators) or _has(ast.Expr(content.elt), ast.Await)
        return "async" if is_async else "sync"
    if isinstance(content, ast.List | ast.Tuple | ast.ListComp):
        return "sync"
    if not isinstance(content, ast.Call):
        return None
    if isinstance(content.func, ast.Name) and content.func.id in own:
        defined = own[content.func.id]
        if not _has(defined, ast.Yield | ast.YieldFrom):
            return None
        return "async" if isinstance(defined, ast.AsyncFunctionDef) else "sync"
    called = _value(content.func, names)
    if inspect.isasyncgenfunction(called):
        return "async"
    return "sync" if inspect.isgeneratorfunction(called) else None


def _has(node: ast.AST, kind: Any) -> bool:
    """Whether it contains such a node, outside of the functions that it defines."""
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    return any(
        isinstance(child, kind) or (not isinstance(child, inner) and _has(child, kind))
        for child in ast.iter_child_nodes(node)
    )
