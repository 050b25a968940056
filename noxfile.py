"""The tests on each Python, with each Django and with the oldest dependencies: `make test-pythons`, or `nox` itself.

    nox                              # all: an hour and more on two processors
    nox -s tests-3.14t -- -k upload  # arguments after the dashes are pytest's
    nox --list

A Python that the machine does not have is brought by `scripts/get_python.sh`. What is made here stays in .nox, and is
used again; `nox --reuse-venv=never` makes the virtual environments anew.
"""

import os
import re
from pathlib import Path

import nox

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests", "django", "oldest"]

# "t": without a lock.
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.14t", "3.15")
# Where nox looks for interpreters, before all else.
FOUND = Path(__file__).parent / ".nox" / ".cache" / "bin"
os.environ["PATH"] = f"{FOUND}{os.pathsep}{os.environ['PATH']}"

GROUP = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test")
# What there is no wheel of, by Python, and what is installed in its place; docs/pythons.md says so too.
WITHOUT: dict[str, dict[str, str | None]] = {
    "3.14t": {"gevent": None, "psycopg": "psycopg[pool]>=3.2"},  # the latter finds libpq of the system's
}
# Tests that need what there is no wheel of.
NOT_RUN = {
    "3.14t": [
        "--ignore=tests/unit/concurrency/test_greenlets.py",
        "--deselect=tests/unit/test_gunicorn.py::test_live_streams_end_and_the_shutdown_runs[gunicorn_gevent_hooks",
    ],
}
# Django 5.2 is what all other tests are run with. 6.0 and 6.1 need Python 3.12.
DJANGOS = ("6.0", "6.1")
# What pyproject.toml allows.
OLDEST = ("asgiref==3.13.0", "anyio==4.11.0")
# What the benchmarks import of that group.
MEASURED = {
    "a2wsgi",
    "django",
    "gunicorn",
    "httptools",
    "psutil",
    "uvicorn",
    "uvloop",
    "waitress",
    "websockets",
    "wsproto",
}


def install(session: nox.Session, *others: str) -> None:
    """Install the project and the group "test", and then `others`."""
    without = WITHOUT.get(str(session.python), {})
    names = [without.get(re.split(r"[^\w.-]", each)[0], each) for each in GROUP]
    session.install("--editable", ".", *filter(None, names))
    if others:
        session.install(*others)


def run(session: nox.Session, *arguments: str) -> None:
    """Run pytest with `arguments`, or with those of the command line."""
    session.run("python", "-VV")
    session.run("python", "-m", "pip", "list", "--format=freeze", "--exclude-editable")
    left_out = NOT_RUN.get(str(session.python), [])
    session.run("python", "-m", "pytest", "-n", "2", *left_out, *(session.posargs or arguments))


@nox.session(python=False)
@nox.parametrize("version", [nox.param(version, id=version) for version in PYTHONS])
def interpreter(session: nox.Session, version: str) -> None:
    """Find an interpreter, or bring one."""
    path = session.run_install("scripts/get_python.sh", version, external=True, silent=True, stderr=None)
    FOUND.mkdir(parents=True, exist_ok=True)
    link = FOUND / f"python{version}"
    link.unlink(missing_ok=True)
    link.symlink_to(path.strip().splitlines()[-1])


@nox.session(python=PYTHONS, requires=["interpreter({python})"])
def tests(session: nox.Session) -> None:
    """The default suite."""
    install(session)
    run(session)


@nox.session(python=PYTHONS[1:], requires=["interpreter({python})"])
@nox.parametrize("version", [nox.param(version, id=version) for version in DJANGOS])
def django(session: nox.Session, version: str) -> None:
    """What is about Django, with a newer one."""
    install(session, f"django=={version}.*")
    run(session, "tests/unit/django", "tests/adapters/django")


@nox.session(python=["3.14", "3.14t"], requires=["interpreter({python})"])
def bench(session: nox.Session) -> None:
    """Nothing but what `make bench-no-lock` measures with."""
    names = [each for each in GROUP if re.split(r"[^\w.-]", each)[0] in MEASURED]
    session.install("--editable", ".", *names, "matplotlib>=3.10")


@nox.session(python=["3.11", "3.14"], requires=["interpreter({python})"])
def oldest(session: nox.Session) -> None:
    """The default suite with the oldest dependencies that are allowed."""
    install(session, *OLDEST)
    run(session)
