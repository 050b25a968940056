"""Finds the application that a command line names."""

import difflib
import importlib
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bridge._arguments import fits
from bridge.interfaces import Interface, TwoSided, interface_of

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)


class NoSuchApp(Exception):
    """The name on the command line does not exist. The message says which part of it does not."""


class NotAName(NoSuchApp):
    """It is not written as MODULE:NAME, so the command line is wrong."""


def load(spec: str) -> tuple[Any, Interface]:
    """The application of `spec`, and its interface.

    Raises `SystemExit`, after one line that says what is wrong with the name. If the application's own code raised, its
    traceback is printed. The status is 2 if `spec` is not written as MODULE:NAME, and otherwise 1.
    """
    try:
        app = find(spec)
    except NotAName as error:
        sys.stderr.write(f"bridge: {error}\n")
        raise SystemExit(2) from None
    except NoSuchApp as error:
        raise SystemExit(f"bridge: {error}") from None
    except Exception:
        sys.stderr.write(users_traceback())
        raise SystemExit(1) from None
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            raise  # it already says what was interrupted
        raise KeyboardInterrupt(f"while {spec} was being loaded") from None
    except SystemExit as error:
        # Whatever status it wanted: a command that has done nothing must not report success.
        raise SystemExit(f"bridge: {spec} ended the process while it was being loaded: {error!r}") from None
    try:
        return app, interface_of(app)
    except TypeError as error:
        raise SystemExit(f"bridge: {spec}: {error}{_meant(spec, app)}") from None


def find(spec: str) -> Any:
    """The object that `spec` names. Raises `NoSuchApp`, or what the application's own code raises."""
    module_name, colon, name = spec.partition(":")
    call = name.endswith("()")
    path = name.removesuffix("()")
    dotted = module_name and "/" not in module_name and not module_name.startswith(".")
    if not (colon and dotted and all(part.isidentifier() for part in path.split("."))):
        raise NotAName(f"expected MODULE:NAME, as in mysite.wsgi:application, got {spec!r}")
    found: Any = _module(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise NoSuchApp(_missing(found, part))
        found = getattr(found, part)
    return found() if call else found


def describe(app: Any) -> str:
    """What kind of object an application is, in a word or two."""
    if isinstance(app, TwoSided):
        return repr(app)
    named = app if hasattr(app, "__qualname__") else type(app)
    return f"{named.__module__}.{named.__qualname__}"


def _meant(spec: str, app: Any) -> str:
    """A hint at what may have been meant, if this is not an application."""
    if inspect.iscoroutine(app):
        app.close()
        return "; a function that makes an application must not be async"
    return f"; did you mean {spec}(), what it returns?" if inspect.isroutine(app) and fits(app, 0) else ""


def users_traceback() -> str:
    """The traceback of the exception being handled, from where the user's code begins."""
    error = sys.exc_info()[1]
    assert error is not None
    shown = traceback.TracebackException.from_exception(error)
    while shown.stack and _is_ours(shown.stack[0].filename):
        del shown.stack[0]
    return "".join(shown.format())


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        hint = f"; write {name.removesuffix('.py')!r}, without .py" if name.endswith(".py") else ""
        raise NoSuchApp(f"there is no module {error.name!r} in {sys.path[0]} or on Python's path{hint}") from None


def _missing(owner: Any, name: str) -> str:
    where = f"the module {owner.__name__!r}" if isinstance(owner, ModuleType) else f"the {type(owner).__name__}"
    if isinstance(owner, ModuleType) and getattr(owner, "__file__", None):
        where += f" ({owner.__file__})"
    if isinstance(owner, ModuleType) and _is_hidden(owner):
        return f"{where} has no {name!r}; it hides the file of that name in {sys.path[0]}: rename that file"
    similar = difflib.get_close_matches(name, dir(owner), n=1)
    return f"{where} has no {name!r}" + (f"; did you mean {similar[0]!r}?" if similar else "")


def _is_hidden(module: ModuleType) -> bool:
    """Whether the current directory has a file for it, but Python had already imported another module of this name."""
    file = Path(sys.path[0], *module.__name__.split(".")).with_suffix(".py")
    return file.exists() and not (module.__file__ and file.samefile(module.__file__))


def _is_ours(filename: str) -> bool:
    return filename.startswith(_PACKAGE) or "importlib" in filename
