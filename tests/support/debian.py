"""What some tests need of Debian. They say so with `pytest.mark.debian(PACKAGE)`; it is installed if they are chosen.
Those marked `pytest.mark.apache` need Apache, and a virtual environment for it.

The verbs of the Makefile set BRIDGE_INSTALL=1. What the chosen tests need is then installed before the first of them
runs, by `scripts/install_debian.sh`. Without the variable such a test fails, and says what to type.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from support.paths import ROOT

INSTALL = ROOT / "scripts" / "install_debian.sh"
APACHE = ROOT / "scripts" / "apache.sh"
# What the examples that Apache serves need in its virtual environment, as their `serve.py` names it.
FOR_APACHE = ("-r", "examples/django_async/requirements.txt")
# The program of each package that tests run: its name, or where it is; the newest where there are several.
PLACES = {
    "chromium-headless-shell": "chromium-headless-shell",
    "postgresql": "/usr/lib/postgresql/*/bin/initdb",
    "redis-server": "redis-server",
}
# Those that the running test is marked with; None where no test runs.
marked: set[str] | None = None


def find(package: str) -> Path:
    """The program of the package; fails where there is none, and where the running test does not say it needs it."""
    assert marked is None or package in marked, (
        f"a test that needs {package} is marked: pytest.mark.debian({package!r})"
    )
    found = look_for(package)
    assert found, f"there is no {package}; scripts/install_debian.sh {package} installs it, as `make test` does"
    return found


def look_for(package: str) -> Path | None:
    place = PLACES[package]
    if "/" in place:
        return max(Path("/").glob(place.removeprefix("/")), default=None)
    found = shutil.which(place)
    return Path(found) if found else None


def install(packages: Iterable[str]) -> None:
    """Install those that are missing. Processes that do so at the same time wait for each other."""
    packages = set(packages)
    if not os.environ.get("BRIDGE_INSTALL") or all(map(look_for, packages)):
        return
    with INSTALL.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = sorted(package for package in packages if not look_for(package))
        if missing:
            # Where it cannot, it has said why, and the tests that need it fail.
            subprocess.run([INSTALL, *missing], check=False)


def make_apache_ready() -> None:
    """Install Apache, and build mod_wsgi, which takes minutes on a busy machine: longer than a test may."""
    if os.environ.get("BRIDGE_INSTALL"):
        # Where it cannot, it has said why, and the tests that need it fail.
        subprocess.run([APACHE, *FOR_APACHE], stdout=subprocess.DEVNULL, check=False)
