"""Which entry points a project has, and whose application they export."""

import ast
import importlib.util
from pathlib import Path
from typing import Literal

from django.conf import settings

# Whose application it is, or None if there is no such module.
Entry = Literal["django", "bridge", "other"] | None


def wsgi_path() -> str | None:
    """The dotted path of the WSGI application, as `runserver` takes it."""
    return getattr(settings, "WSGI_APPLICATION", None)


def asgi_path() -> str | None:
    """The dotted path of the ASGI application: the setting of Channels and Daphne, or else `asgi.py`.

    That is the `asgi.py` beside `wsgi.py`, or beside the URLconf. There may be nothing at that path.
    """
    given: str | None = getattr(settings, "ASGI_APPLICATION", None)
    wsgi = wsgi_path()
    module = wsgi.rpartition(".")[0] if wsgi else getattr(settings, "ROOT_URLCONF", None) or ""
    package = module.rpartition(".")[0]
    return given or (f"{package}.asgi.application" if package else None)


def entry(path: str | None) -> Entry:
    """Whose application is exported there, judged by what its module imports. The module is read and not run."""
    source = _source((path or "").rpartition(".")[0])
    if source is None:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return "other"  # importing it will show the error
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    if any(name.startswith("bridge.django") for name in imported):
        return "bridge"
    own = ("django.core.asgi", "django.core.wsgi", "django.core.handlers")
    return "django" if any(name.startswith(own) for name in imported) and "bridge" not in imported else "other"


def _source(module: str) -> bytes | None:
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).read_bytes()
