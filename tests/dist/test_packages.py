"""What is built and published: its files, its version, and what importing it costs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

import bridge
from support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FRAMEWORKS = {
    *("django", "flask", "fastapi", "starlette", "quart", "falcon", "bottle", "pyramid", "litestar"),
    *("uvicorn", "gunicorn", "hypercorn", "granian", "waitress", "uvloop", "gevent", "trio", "wsproto", "h11"),
}


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def check_dist() -> ModuleType:
    """The script `scripts/check_dist.py`."""
    return load_script("check_dist")


def imported(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True, timeout=15
    )
    return set(json.loads(ran.stdout))


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


class TestVersion:
    def test_is_in_one_place(self) -> None:
        """`bridge.__version__`, which the build reads."""
        assert "version" in PROJECT["dynamic"]
        assert "version" not in PROJECT
        assert bridge.__version__ not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    def test_is_the_newest_of_the_changelog(self) -> None:
        """Released or not yet."""
        lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
        headings = [line for line in lines if line.startswith("## ")]
        assert headings[0].startswith(f"## {bridge.__version__} (")


class TestImport:
    def test_no_framework_comes_with_it(self) -> None:
        """Nor a server, nor another event loop."""
        assert set() == FRAMEWORKS & roots(imported("import bridge"))

    def test_nothing_foreign_comes_with_it(self) -> None:
        """What is imported beyond the two dependencies is our own, or of the standard library."""
        before = imported("import asgiref.sync, asgiref.local, anyio, anyio.from_thread, anyio.to_thread")
        new = imported("import bridge") - before
        foreign = {name for name in new if name.partition(".")[0] not in {"bridge", *sys.stdlib_module_names}}
        # anyio loads what is of asyncio when it is first run, and its own modules one by one.
        assert {"anyio", "asgiref", "sniffio"} >= roots(foreign)

    def test_the_command_line_comes_only_with_the_command(self) -> None:
        """Neither argparse and the checks, nor Django's part."""
        ours = {name for name in imported("import bridge") if name.partition(".")[0] == "bridge"}
        late = ("bridge.cli", "bridge._check", "bridge.django", "bridge.gunicorn")
        assert [] == [name for name in ours if name.startswith(late)]

    def test_little_comes_with_it(self) -> None:
        """Its time beyond asgiref's and anyio's own is that of our modules, and of few of the standard library."""
        new = imported("import bridge") - imported("import asgiref.sync, asgiref.local, anyio.lowlevel")
        ours = {name for name in new if name.partition(".")[0] == "bridge"}
        # Older Pythons load array by themselves.
        assert set() == new - ours - {"array", "ipaddress", "termios", "urllib", "urllib.parse"}
        assert len(ours) < 65

    def test_what_few_requests_need_comes_with_them(self) -> None:
        """Temporary files, status lines and WebSockets: all are slow to import, and many processes never use them."""
        new = imported("import bridge") - imported("import asgiref.sync, asgiref.local, anyio.lowlevel")
        late = {"tempfile", "shutil", "pathlib", "http", "typing_extensions", "anyio.abc", "bridge._servers.takeover"}
        late |= {f"bridge._asgi_to_wsgi.websocket{part}" for part in ("", "_protocol", "_wire")}
        assert set() == new & {*late, "bridge._translate.websocket"}


class TestOtherSystems:
    """What only Linux has is not needed; `make check` reads the types for macOS, too."""

    LINUX_ONLY: ClassVar = {
        "os": ["eventfd", "memfd_create", "pidfd_open", "sched_getaffinity", "O_TMPFILE", "splice", "setns"],
        "select": ["POLLRDHUP", "epoll"],
        "signal": ["SIGRTMIN", "SIGPWR", "SIGSTKFLT", "pidfd_send_signal"],
        "socket": ["MSG_NOSIGNAL", "TCP_INFO", "SOCK_NONBLOCK", "SOCK_CLOEXEC", "AF_NETLINK", "SO_PEERCRED"],
    }

    @pytest.mark.parametrize("linux_only", [LINUX_ONLY, {}], ids=["without", "with"])
    def test_both_directions_answer_without_what_only_linux_has(
        self, check_dist: ModuleType, linux_only: dict[str, list[str]]
    ) -> None:
        """Each module can be imported, a request goes through both adapters, and a client that leaves is noticed."""
        gone = f"""
import importlib, pkgutil, select, socket, sys
for name, attributes in {linux_only!r}.items():
    module = importlib.import_module(name)
    for attribute in attributes:
        if hasattr(module, attribute):
            delattr(module, attribute)
sys.platform = {("darwin" if linux_only else sys.platform)!r}
import bridge
for each in pkgutil.walk_packages(bridge.__path__, "bridge."):
    if not each.name.startswith(("bridge.django", "bridge.__main__", "bridge.cli._served")):
        importlib.import_module(each.name)
from bridge._servers.connection import Connection
server, client = socket.socketpair()
connection = Connection({{"gunicorn.socket": server}})
assert not connection.has_left()
client.close()
assert connection.has_left()
server.close()
"""
        smoke = check_dist.SMOKE.replace("assert home.is_relative_to", "assert True or home.is_relative_to")
        smoke = smoke.replace("assert bridge.__version__ ==", "assert True or bridge.__version__ ==")
        environ = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        ran = subprocess.run(
            [sys.executable, "-c", gone + smoke], env=environ, check=False, capture_output=True, text=True, timeout=15
        )
        assert "" == ran.stderr
        assert ran.stdout.startswith("both directions answer")


class TestFiles:
    def test_one_too_many_or_missing_is_found(self, check_dist: ModuleType) -> None:
        """By name, so that it can be mended."""
        seen = list(check_dist.differences("the wheel", {"a", "left.over"}, {"a", "py.typed"}))
        assert ["the wheel has left.over, which is not in git", "the wheel lacks py.typed"] == seen

    def test_a_wheel_is_the_package_and_its_metadata(self, check_dist: ModuleType) -> None:
        """Not the tests, and not what is beside the package."""
        tracked = ["src/bridge/__init__.py", "src/bridge/py.typed", "tests/conftest.py", "pyproject.toml"]
        expected = check_dist.expected_in_wheel(tracked, Path("wsgi_asgi_bridge-1.2.3-py3-none-any.whl"))
        metadata = {name.removeprefix("wsgi_asgi_bridge-1.2.3.dist-info/") for name in expected if "dist-info" in name}
        assert {"bridge/__init__.py", "bridge/py.typed"} == {name for name in expected if "dist-info" not in name}
        assert check_dist.WHEEL_METADATA == metadata

    def test_an_sdist_is_what_is_in_git(self, check_dist: ModuleType) -> None:
        """But for what is only for the host of the repository."""
        assert {"PKG-INFO", "Makefile"} == check_dist.expected_in_sdist(["Makefile", ".ci/run", ".github/x.yml"])


class TestRelease:
    RELEASED = "# Changelog\n\n## 1.2.3 (2026-01-31)\n"
    SET = '[project.urls]\nSource = "https://example.org/"\n'

    @pytest.mark.parametrize(
        ("pyproject", "changelog", "faults"),
        [
            (SET, RELEASED, 0),
            (SET.replace("example.org", "bridge.invalid"), RELEASED, 1),
            (SET, "# Changelog\n\n## 1.2.3 (unreleased)\n", 1),
            (SET, RELEASED.replace("1.2.3", "1.2.2"), 1),
        ],
    )
    def test_what_is_missing_is_said(self, check_dist: ModuleType, pyproject: str, changelog: str, faults: int) -> None:
        """An address that leads nowhere, a changelog without a date, one of another version."""
        said: list[Any] = list(check_dist.release_faults(pyproject, changelog, "1.2.3"))
        assert faults == len(said), said

    def test_all_addresses_are_of_one_place(self) -> None:
        """There is one line to change, over and over the same."""
        hosts = {url.split("/")[2] for url in PROJECT["urls"].values()}
        assert 1 == len(hosts)
        assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} == set(PROJECT["urls"])


class TestReadme:
    """The README of a package, which is read on a package index."""

    @pytest.fixture
    def hook(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """The script `scripts/readme_hook.py`. hatchling, whose hook it is, is there only while a package is built."""
        interface = SimpleNamespace(MetadataHookInterface=object)
        monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", cast(ModuleType, interface))
        return load_script("readme_hook")

    def test_no_link_is_relative(self, hook: ModuleType, check_dist: ModuleType) -> None:
        """Each leads to the tag of the version, below the one address in `pyproject.toml`."""
        written = (ROOT / "README.md").read_text(encoding="utf-8")
        made = hook.ReadmeHook()
        made.root = str(ROOT)
        metadata = {"urls": {"Source": "https://example.org/them/bridge/"}}

        made.update(metadata)

        text = metadata["readme"]["text"]
        links = check_dist.relative_links(written)
        assert len(links) > 15
        assert all((ROOT / link.partition("#")[0]).exists() for link in links)
        assert [] == check_dist.relative_links(text)
        below = f"https://example.org/them/bridge/(?:blob|raw)/v{re.escape(bridge.__version__)}/"
        assert links == re.findall(rf'{below}([^)"]+)', text)
        assert written == re.sub(below, "", text)

    def test_pictures_are_files_and_pages_are_pages(self, hook: ModuleType) -> None:
        text = hook.absolute('[a](b.md#c) <img src="d.svg"> [e](#f) [g](https://h/) `i`', "https://x", "1.0")
        assert text == (
            '[a](https://x/blob/v1.0/b.md#c) <img src="https://x/raw/v1.0/d.svg"> [e](#f) [g](https://h/) `i`'
        )
