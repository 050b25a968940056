"""Each block of docs/testing.md is a test module: it is run with pytest, in a directory with the page's own files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.patience import PROCESS_PATIENCE

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "testing.md"
TEXT = PAGE.read_text(encoding="utf-8")
_HEADING, _CODE = r"#{2,3} (?P<heading>[^\n]+)", r"```python(?: file=(?P<file>\S+))?\n(?P<code>.*?)^```"
_BLOCK = re.compile(f"^(?:{_HEADING}|{_CODE})$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.hosts


def _blocks() -> dict[str, str]:
    """The test modules, by heading and number."""
    found: dict[str, str] = {}
    heading = ""
    for match in _BLOCK.finditer(TEXT):
        if match["heading"]:
            heading = match["heading"]
        elif not match["file"]:
            number = sum(name.startswith(heading) for name in found)
            found[f"{heading}{number + 1 if number else ''}"] = match["code"]
    return found


def _files() -> dict[str, str]:
    return {match["file"]: match["code"] for match in _BLOCK.finditer(TEXT) if match["file"]}


BLOCKS = _blocks()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block(name: str, tmp_path: Path) -> None:
    """All of its tests pass, and nothing warns; it ends by itself."""
    for file, code in _files().items():
        (tmp_path / file).write_text(code)
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    (tmp_path / "test_block.py").write_text(BLOCKS[name])
    settings = "DJANGO_SETTINGS_MODULE = mysite\n" if "django" in BLOCKS[name] or "live_server" in BLOCKS[name] else ""
    # WebOb imports what Python 3.11 deprecates.
    ini = f"[pytest]\npythonpath = .\nfilterwarnings =\n    error\n    ignore:'cgi' is deprecated\n{settings}"
    (tmp_path / "pytest.ini").write_text(ini)
    own = {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | own,
        capture_output=True,
        text=True,
        timeout=2 * PROCESS_PATIENCE,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"^[1-9]\d* passed", done.stdout.splitlines()[-1]), done.stdout


def test_each_client_has_a_block() -> None:
    """Those that the page is for."""
    clients = {
        "Starlette's and FastAPI's TestClient",
        "httpx",
        "httpx2",
        "asgi-lifespan",
        "WebTest",
        "Werkzeug's and Flask's Client",
        "schemathesis",
        "Client and AsyncClient",
        "TestCase with an ASGI client",
        "LiveServerTestCase",
        "pytest-django's live server",
        "Real servers",
    }
    assert clients == BLOCKS.keys()
