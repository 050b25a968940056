"""The tests on each Python, with each Django and with the oldest dependencies: `make test-pythons`, or `nox` itself.

    nox                              # all
    nox -s tests-3.14t -- -k upload  # arguments after the dashes are pytest's
    nox --list

A Python that the machine does not have is brought by `scripts/get_python.sh`. What is made here stays in .nox, and is
used again; `nox --reuse-venv=never` makes the virtual environments anew.
"""

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

# "t": without a lock.
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.14t", "3.15")
# Where nox looks for interpreters, before all else.
FOUND = Path(__file__).parent / ".nox" / ".cache" / "bin"
os.environ["PATH"] = f"{FOUND}{os.pathsep}{os.environ['PATH']}"

PROJECT = nox.project.load_toml("pyproject.toml")
# What cannot be had for a Python, since there is neither a wheel nor a way to build one; tests that need it are not run
# there. docs/pythons.md says so too.
WITHOUT: dict[str, tuple[str, ...]] = {}
# Django 5.2 is what all other tests are run with. 6.0 and 6.1 need Python 3.12.
DJANGOS = ("6.0", "6.1")
# What pyproject.toml allows, so that the oldest is what a project may have.
OLDEST = ("asgiref==3.13.0", "anyio==4.11.0")


def install(session: nox.Session, *others: str) -> None:
    """Install the project and the group "test", with `others` beside it."""
    without = WITHOUT.get(str(session.python), ())
    group = nox.project.dependency_groups(PROJECT, "test")
    names = [each for each in group if not each.startswith(without)] if without else list(group)
    session.install("--editable", ".", *names, *others)


def run(session: nox.Session, *arguments: str) -> None:
    """Run pytest with `arguments`, or with those of the command line."""
    session.run("python", "-VV")
    session.run("python", "-m", "pip", "list", "--format=freeze", "--exclude-editable", silent=True)
    session.run("python", "-m", "pytest", "-n", "2", *(session.posargs or arguments))


@nox.session(python=False)
@nox.parametrize("version", [nox.param(version, id=version) for version in PYTHONS])
def interpreter(session: nox.Session, version: str) -> None:
    """Find an interpreter, or bring one."""
    path = session.run("scripts/get_python.sh", version, external=True, silent=True)
    FOUND.mkdir(parents=True, exist_ok=True)
    link = FOUND / f"python{version}"
    link.unlink(missing_ok=True)
    link.symlink_to(path.strip().splitlines()[-1])


@nox.session(python=PYTHONS, requires=["interpreter({python})"])
def tests(session: nox.Session) -> None:
    """The default suite."""
    install(session)
    run(session)
