"""Which command line becomes of which server, and what is refused before. That they serve: test_cli.py."""

import argparse
import json
import os
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi
from bridge.cli import _serve as module_of_serve
from bridge.cli._serve import serve
from bridge.cli._servers import KEY, SERVERS


def old(environ: Any, start_response: Any) -> Any:
    return []


async def new(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.fixture(name="became")
def became_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The command lines that this process would have become."""
    module: Any = types.ModuleType("serveshop")
    module.old, module.new = old, new
    module.site = Mounts({"/": old})
    module.adapter = WsgiToAsgi(old)
    monkeypatch.setitem(sys.modules, "serveshop", module)
    monkeypatch.setattr(module_of_serve, "_cannot_listen", lambda host, port, uds: None)
    monkeypatch.setenv(KEY, "")
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: commands.append(words))
    yield commands
    monkeypatch.undo()


def options(app: str = "serveshop:old", **changed: Any) -> argparse.Namespace:
    defaults = {
        "under": "uvicorn", "host": "127.0.0.1", "port": 8000, "uds": None, "workers": None, "reload": False,
        "threads": None, "log_level": None, "grace": None,
    }  # fmt: skip
    return argparse.Namespace(app=app, **{**defaults, **changed})


UDS = {"uds": "/tmp/s.sock"}
ALL = {"workers": 2, "reload": True, "log_level": "debug"}
GRACE = {"grace": 3}
IPV6 = {"host": "::1", "port": 1}
COMMANDS = [
    ("uvicorn", {}, "uvicorn --interface asgi3 --host 127.0.0.1 --port 8000 --timeout-graceful-shutdown 10"),
    ("uvicorn", UDS | GRACE, "uvicorn --interface asgi3 --uds /tmp/s.sock --timeout-graceful-shutdown 3"),
    ("uvicorn", ALL | {"threads": 3}, "uvicorn --interface asgi3 --host 127.0.0.1 --port 8000 --timeout-graceful-shutdown 1 --workers 2 --reload --log-level debug"),  # noqa: E501
    ("uvicorn", ALL | GRACE, "uvicorn --interface asgi3 --host 127.0.0.1 --port 8000 --timeout-graceful-shutdown 3 --workers 2 --reload --log-level debug"),  # noqa: E501
    ("gunicorn", {}, "gunicorn --bind 127.0.0.1:8000 --worker-class gthread --threads 40 --graceful-timeout 10"),
    ("gunicorn", IPV6 | {"threads": 3}, "gunicorn --bind [::1]:1 --worker-class gthread --threads 3 --graceful-timeout 10"),  # noqa: E501
    ("gunicorn", UDS | ALL, "gunicorn --bind unix:/tmp/s.sock --worker-class gthread --threads 40 --graceful-timeout 1 --workers 2 --reload --log-level debug"),  # noqa: E501
    ("waitress", {}, "waitress --listen=127.0.0.1:8000 --threads=40"),
    ("waitress", UDS | {"threads": 3}, "waitress --unix-socket=/tmp/s.sock --threads=3"),
    ("hypercorn", IPV6, "hypercorn --bind [::1]:1 --graceful-timeout 10"),
    ("hypercorn", UDS | ALL, "hypercorn --bind unix:/tmp/s.sock --graceful-timeout 1 --workers 2 --reload --log-level debug"),  # noqa: E501
    ("granian", {}, "granian --interface wsgi --host 127.0.0.1 --port 8000 --blocking-threads 40 --workers-kill-timeout 10"),  # noqa: E501
    ("granian", UDS | GRACE | {"app": "serveshop:new"}, "granian --interface asgi --uds /tmp/s.sock --workers-kill-timeout 3"),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize(("under", "changed", "command"), COMMANDS)
def test_the_command_line_of_each_server(
    under: str, changed: dict[str, Any], command: str, became: list[list[str]]
) -> None:
    serve(options(**{"under": under, **changed}), ["--further", "x"])

    assert [[sys.executable, "-m", *command.split(), "--further", "x", "bridge.cli._served:app"]] == became


WAYS = [
    ("uvicorn", "serveshop:old", "asgi", "speaks WSGI; Uvicorn runs it in WsgiToAsgi, with 40 threads"),
    ("uvicorn", "serveshop:new", "asgi", "speaks ASGI; Uvicorn runs it as ASGI, natively"),
    ("uvicorn", "serveshop:site", "asgi", "speaks ASGI and WSGI; Uvicorn runs it as ASGI, natively"),
    ("gunicorn", "serveshop:old", "wsgi", "speaks WSGI; Gunicorn runs it as WSGI, natively"),
    ("gunicorn", "serveshop:new", "wsgi", "speaks ASGI; Gunicorn runs it in AsgiToWsgi"),
    ("gunicorn", "serveshop:site", "wsgi", "speaks ASGI and WSGI; Gunicorn runs it as WSGI, natively"),
    ("gunicorn", "serveshop:adapter", "wsgi", "speaks ASGI; Gunicorn runs it as WSGI, natively"),
    ("granian", "serveshop:old", "wsgi", "speaks WSGI; Granian runs it as WSGI, natively"),
    ("granian", "serveshop:new", "asgi", "speaks ASGI; Granian runs it as ASGI, natively"),
    ("granian", "serveshop:site", "asgi", "speaks ASGI and WSGI; Granian runs it as ASGI, natively"),
]


@pytest.mark.parametrize(("under", "app", "wanted", "words"), WAYS)
def test_it_says_what_it_found_and_adapts_what_it_must(
    under: str, app: str, wanted: str, words: str, became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(options(app, under=under), [])

    assert capsys.readouterr().err.startswith(f"bridge: {app} (")
    told = {"app": app, "under": under, "wanted": wanted, "threads": 40, "grace": 10, "reload": False}
    assert told == json.loads(os.environ[KEY])
    assert 1 == len(became)


@pytest.mark.parametrize(("under", "app", "wanted", "words"), WAYS)
def test_its_words(
    under: str, app: str, wanted: str, words: str, became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(options(app, under=under), [])

    assert capsys.readouterr().err.endswith(f") {words}\n")


@pytest.mark.parametrize(
    ("wanted", "app", "kind"),
    [("asgi", "old", WsgiToAsgi), ("asgi", "new", None), ("wsgi", "new", AsgiToWsgi), ("wsgi", "old", None)],
)
def test_what_the_server_imports(
    wanted: str, app: str, kind: type | None, became: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"app": f"serveshop:{app}", "under": "uvicorn", "wanted": wanted, "threads": 3, "grace": 5, "reload": False}
    monkeypatch.setenv(KEY, json.dumps(told))
    monkeypatch.delitem(sys.modules, "bridge.cli._served", raising=False)

    from bridge.cli._served import app as served

    monkeypatch.delitem(sys.modules, "bridge.cli._served")
    assert served is globals()[app] if kind is None else type(served) is kind
    if kind is WsgiToAsgi:
        assert 3 == served._dispatchers._limit


def test_what_the_server_imports_is_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.delitem(sys.modules, "bridge.cli._served", raising=False)

    with pytest.raises(RuntimeError, match="is for the servers that `bridge serve` starts"):
        import bridge.cli._served  # noqa: F401


def refused(*arguments: Any, **changed: Any) -> int:
    with pytest.raises(SystemExit) as raised:
        serve(options(*arguments, **changed), [])
    assert isinstance(raised.value.code, int)
    return raised.value.code


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("workers", 2, "--workers"),
        ("reload", True, "--reload"),
        ("log_level", "info", "--log-level"),
        ("grace", 1, "--grace"),
    ],
)
def test_what_a_server_has_not_is_refused(
    name: str, value: Any, words: str, became: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == refused(under="waitress", **{name: value})
    assert f"bridge: Waitress has no {words}\n" == capsys.readouterr().err
    assert [] == became


def test_threads_are_for_wsgi_code(became: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == refused("serveshop:new", threads=3)
    assert "bridge: serveshop:new runs on the loop of Uvicorn: --threads is for WSGI code\n" == capsys.readouterr().err


@pytest.mark.parametrize("under", SERVERS)
def test_a_missing_server_names_the_package_to_install(
    under: str, became: list[list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert 1 == refused(under=under)
    told = f"bridge: {SERVERS[under].title} is not installed: pip install '{SERVERS[under].install}'\n"
    assert told == capsys.readouterr().err


class TestListening:
    def test_a_port_in_use(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert "Address already in use" == module_of_serve._cannot_listen("127.0.0.1", port, None)

    def test_a_port_that_is_free(self) -> None:
        assert module_of_serve._cannot_listen("127.0.0.1", 0, None) is None

    @pytest.mark.parametrize("host", ["not a host", "a..b", "a" * 64])
    def test_a_host_that_is_none(self, host: str) -> None:
        assert module_of_serve._cannot_listen(host, 0, None)

    def test_a_unix_socket(self, tmp_path: Path) -> None:
        assert module_of_serve._cannot_listen("", 0, str(tmp_path / "s")) is None
        assert "there is no such directory" == module_of_serve._cannot_listen("", 0, str(tmp_path / "a" / "s"))
