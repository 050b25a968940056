"""The source of the package, parsed."""

import ast
from pathlib import Path

from support.paths import SOURCE


def _modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted((SOURCE / "bridge").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


MODULES = _modules()


def path_of(name: str) -> Path:
    path = SOURCE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
