"""Builds the wheel and the sdist into dist/, and tries them as a user gets them; exits 1 where something is wrong.

They hold the files that are in git and no other, `twine check --strict` has nothing to say, a wheel made from the sdist
is the same, and each is installed into an empty environment, away from the checkout, where a request goes through both
adapters. `--release`: and what a release needs is there, as RELEASING.md says.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SOURCE = "src/"
# What the build adds to what is in git.
WHEEL_METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
SDIST_METADATA = {"PKG-INFO"}
# What is in git and is for those who work on the project, or for its host.
NOT_IN_SDIST = (".ci/", ".github/", ".readthedocs.yaml", "findings/")

SMOKE = """
import asyncio, importlib.metadata, io, sys
from pathlib import Path

import bridge
from bridge import AsgiToWsgi, WsgiToAsgi

home = Path(bridge.__file__).parent
assert home.is_relative_to(sys.prefix), f"{home} is not of this environment"
assert (home / "py.typed").exists(), "py.typed is missing"
assert bridge.__version__ == importlib.metadata.version("wsgi-asgi-bridge")
import bridge.cli, bridge.errors, bridge.gunicorn, bridge.interfaces, bridge.mounts


def wsgi_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_METHOD"].encode(), environ["wsgi.input"].read()]


async def asgi_app(scope, receive, send):
    body = (await receive())["body"] if scope["type"] == "http" else b""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": scope["method"].encode() + body})


async def ask(app):
    sent = []
    headers = [(b"content-length", b"3")]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/", "raw_path": b"/", "query_string": b"", "root_path": "", "headers": headers}
    scope |= {"client": ("192.0.2.1", 1), "server": ("127.0.0.1", 8000)}

    async def receive():
        return {"type": "http.request", "body": b"abc", "more_body": False}

    async def send(event):
        sent.append(event)

    await app(scope, receive, send)
    return b"".join(event.get("body", b"") for event in sent)


with WsgiToAsgi(wsgi_app) as app:
    assert asyncio.run(ask(app)) == b"POSTabc"
environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}
environ |= {"SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": "3", "wsgi.input": io.BytesIO(b"abc")}
environ |= {"wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": False}
with AsgiToWsgi(asgi_app, lifespan="off") as app:
    result = app(environ | {"wsgi.version": (1, 0), "wsgi.run_once": False}, lambda *_: None)
    assert b"".join(result) == b"POSTabc"
    result.close() if hasattr(result, "close") else None
print("both directions answer, from", home)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", action="store_true", help="also check what a release needs")
    release = parser.parse_args().release
    faults = list(
        release_faults((ROOT / "pyproject.toml").read_text(), (ROOT / "CHANGELOG.md").read_text(), _version())
    )
    for fault in faults:
        print(f"{'' if release else 'before a release: '}{fault}")
    with tempfile.TemporaryDirectory() as folder:
        wrong = list(_check(Path(folder)))
    for fault in wrong:
        print(fault)
    failed = bool(wrong or (release and faults))
    print("dist/ is not as it should be" if failed else f"dist/ is as it should be: {', '.join(os.listdir(DIST))}")
    return 1 if failed else 0


def _check(away: Path) -> Iterator[str]:
    shutil.rmtree(DIST, ignore_errors=True)
    _run("build", "--outdir", str(DIST), str(ROOT))  # the wheel is made from the sdist
    _run("build", "--wheel", "--outdir", str(away), str(ROOT))  # and here from the checkout
    (sdist,), (wheel,), (direct,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl"), away.glob("*.whl")
    _run("twine", "check", "--strict", str(sdist), str(wheel))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    yield from differences("the wheel", names_in_wheel(wheel), expected_in_wheel(tracked, wheel))
    yield from differences("the sdist", names_in_sdist(sdist), expected_in_sdist(tracked))
    yield from (f"the README of the package links to {link}" for link in relative_links(_metadata(wheel)))
    if direct.read_bytes() != wheel.read_bytes():
        yield "the wheel made from the sdist is not that made from the checkout"
    for number, package in enumerate((wheel, sdist)):
        _try(package, away / str(number))


def _try(package: Path, home: Path) -> None:
    """Install one package into an empty environment, and use it there."""
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    for command in (
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(package)],
        ["-m", "pip", "check"],
        ["-I", "-c", SMOKE],
        ["-I", "-m", "bridge", "--help"],
        ["-I", home / "venv" / "bin" / "bridge", "--version"],
    ):
        ran = subprocess.run([python, *command], cwd=home, env=clean, text=True, stdout=subprocess.PIPE, check=True)
        if "--help" not in command:
            print(f"{package.name}: {ran.stdout.strip()}", flush=True)


def names_in_wheel(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def relative_links(text: str) -> list[str]:
    """Links and pictures that lead nowhere on a package index, which has none of our files."""
    found = re.findall(r'(?:\]\(|(?:src|srcset|href)=")([^)"\s]+)', text)
    return [link for link in found if not re.match(r"[a-z]+:|#", link)]


def names_in_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive if not member.isdir()}


def expected_in_wheel(tracked: Iterable[str], wheel: Path) -> set[str]:
    """The package as it is in git, and what describes it."""
    name, version = wheel.name.split("-")[:2]
    package = {path.removeprefix(SOURCE) for path in tracked if path.startswith(SOURCE)}
    return package | {f"{name}-{version}.dist-info/{each}" for each in WHEEL_METADATA}


def expected_in_sdist(tracked: Iterable[str]) -> set[str]:
    return {path for path in tracked if not path.startswith(NOT_IN_SDIST)} | SDIST_METADATA


def differences(what: str, seen: set[str], expected: set[str]) -> Iterator[str]:
    """A sentence for each file that is too many or missing."""
    yield from (f"{what} has {name}, which is not in git" for name in sorted(seen - expected))
    yield from (f"{what} lacks {name}" for name in sorted(expected - seen))


def release_faults(pyproject: str, changelog: str, version: str) -> Iterator[str]:
    """What is still to be done before a release, by RELEASING.md."""
    urls = tomllib.loads(pyproject)["project"].get("urls", {})
    if unset := [name for name, url in urls.items() if ".invalid" in url]:
        yield f"[project.urls] of pyproject.toml leads nowhere yet: {', '.join(unset)}"
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE):
        yield f'CHANGELOG.md has no "## {version} (YYYY-MM-DD)"'


def _version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / SOURCE / "bridge" / "__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _run(*command: str) -> None:
    print(f"== {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
