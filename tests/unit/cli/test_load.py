"""What a command line may name, and what it is told where it names nothing."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import Mounts
from bridge.cli._load import describe, find, load

SHOP = """\
def app(environ, start_response):
    return []

async def new(scope, receive, send):
    pass

class Holder:
    inner = staticmethod(app)

def create_app():
    return app

def broken():
    raise LookupError("of the factory")

def leaves():
    raise SystemExit(3)

async def makes():
    return new

number = 1
"""


@pytest.fixture(name="shop", autouse=True)
def shop_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with modules, which is the current one."""
    before = set(sys.modules)
    (tmp_path / "loadshop.py").write_text(SHOP)
    (tmp_path / "loadpackage").mkdir()
    (tmp_path / "loadpackage" / "__init__.py").write_text("")
    (tmp_path / "loadpackage" / "web.py").write_text("from loadshop import app as application\n")
    (tmp_path / "loadraises.py").write_text("def deep():\n    return 1 / 0\n\n\ndeep()\n")
    (tmp_path / "loadimports.py").write_text("import load_is_not_there\n")
    (tmp_path / "loadsyntax.py").write_text("def (:\n")
    (tmp_path / "string.py").write_text("app = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("load"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("spec", "name", "interface"),
    [
        ("loadshop:app", "app", "wsgi"),
        ("loadshop:new", "new", "asgi"),
        ("loadshop:Holder.inner", "app", "wsgi"),
        ("loadshop:create_app()", "app", "wsgi"),
        ("loadpackage.web:application", "app", "wsgi"),
    ],
)
def test_it_finds_applications(spec: str, name: str, interface: str) -> None:
    app, found = load(spec)

    assert (name, interface) == (app.__name__, found)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere:app", "there is no module 'nowhere' in "),
        ("loadpackage.nowhere:app", "there is no module 'loadpackage.nowhere' in "),
        ("loadshop.py:app", "there is no module 'loadshop.py' in"),
        ("loadshop.py:app", "; write 'loadshop', without .py"),
        ("loadshop:ap", "loadshop.py) has no 'ap'; did you mean 'app'?"),
        ("loadshop:Holder.outer", "the type has no 'outer'"),
        ("string:app", "has no 'app'; it hides the file of that name in "),
    ],
)
def test_a_wrong_name_is_told_in_one_line(spec: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        load(spec)

    assert str(raised.value).startswith("bridge: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert ("", "") == capsys.readouterr()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("number", "got 1, which cannot be called$"),
        ("create_app", "got function create_app.*; did you mean loadshop:create_app.., what it returns\\?$"),
        ("makes()", "; a function that makes an application must not be async$"),
        ("Holder", "got the class Holder; did you mean an instance of it\\?$"),
    ],
)
def test_what_is_no_application_is_told_in_one_line(spec: str, words: str) -> None:
    with pytest.raises(SystemExit, match=f"bridge: loadshop:.*: expected an application, .*{words}"):
        load(f"loadshop:{spec}")


def test_code_that_ends_the_process_does_not_do_so_in_silence() -> None:
    """A script that was not written to be imported may, even with status 0; the command has failed all the same."""
    with pytest.raises(SystemExit) as raised:
        load("loadshop:leaves()")

    assert "bridge: loadshop:leaves() ended the process while it was being loaded: SystemExit(3)" == raised.value.code


@pytest.mark.parametrize(
    "spec",
    ["loadshop", ":app", "./loadshop:app", ".loadshop:app", "shops/loadshop:app", "loadshop:", "loadshop:app(1)"],
)
def test_what_is_no_name_is_a_wrong_command_line(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, as for each other wrong word; a name that leads nowhere is a problem with the application."""
    with pytest.raises(SystemExit) as raised:
        load(spec)

    assert 2 == raised.value.code
    told = f"bridge: expected MODULE:NAME, as in mysite.wsgi:application, got {spec!r}\n"
    assert told == capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        ("loadraises:app", ["loadraises.py", "loadraises.py", "ZeroDivisionError: division by zero"]),
        ("loadimports:app", ["loadimports.py", "ModuleNotFoundError: No module named 'load_is_not_there'"]),
        ("loadsyntax:app", ["loadsyntax.py", "SyntaxError"]),
        ("loadshop:broken()", ["loadshop.py", "LookupError: of the factory"]),
    ],
)
def test_an_error_of_the_users_code_has_their_traceback_alone(
    spec: str, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        load(spec)

    told = capsys.readouterr().err
    assert 1 == raised.value.code
    assert len(lines) - 1 == told.count('  File "')
    assert all(line in told for line in lines)
    assert not [word for word in ("bridge/_cli", "importlib", "load.py", "\nbridge:") if word in told]


def test_find_raises_what_the_users_code_raises() -> None:
    """A server's own process has its own way to say so."""
    with pytest.raises(ZeroDivisionError):
        find("loadraises:app")


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (test_it_finds_applications, "test_it_finds_applications"),
        (Mounts({}), "<Mounts >"),
        (object(), "builtins.object"),
    ],
)
def test_it_describes_what_it_found(app: Any, words: str) -> None:
    assert describe(app).endswith(words)
