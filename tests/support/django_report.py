"""Runs the project `report_project`, each time in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

from support.paths import SOURCE

HERE = Path(__file__).parent  # where `report_project` is found
LIMIT = 200  # seconds, for what hangs


def _environ(**own: str) -> dict[str, str]:
    paths = os.pathsep.join(map(str, (HERE, SOURCE)))
    named = {"PYTHONPATH": paths, "PYTHONWARNINGS": "error", "DJANGO_SETTINGS_MODULE": "report_project.settings"}
    return os.environ | named | own


def _run(*command: str, stdin: str = "", **own: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *command]
    return subprocess.run(
        line, input=stdin, env=_environ(**own), cwd=HERE, capture_output=True, text=True, timeout=LIMIT
    )


def run(module: str, *arguments: str, stdin: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    """`python -m module`, with some settings of the project's overridden; "UNSET" takes one away."""
    return _run("-m", module, *arguments, stdin=stdin, REPORT_PROJECT=json.dumps(settings))


def without_settings(program: str) -> subprocess.CompletedProcess[str]:
    """A program in a process that knows of no settings."""
    return _run("-c", program, DJANGO_SETTINGS_MODULE="")


@contextmanager
def checker() -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """A function that runs the checks with some settings overridden; all calls in one process."""
    line = [sys.executable, "-m", "report_project.checking"]
    with subprocess.Popen(line, env=_environ(), cwd=HERE, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(**settings: Any) -> list[dict[str, Any]]:
            print(json.dumps(settings), file=process.stdin, flush=True)
            answer: list[dict[str, Any]] = json.loads(process.stdout.readline())
            return answer

        yield ask
        process.stdin.close()
        assert process.wait(LIMIT) == 0


def manage(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """`manage.py` with these arguments."""
    return run("django", *arguments, **settings)


def report(**settings: Any) -> Any:
    """What `bridge_report --json` says."""
    ran = manage("bridge_report", "--json", **settings)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def count(cases: list[dict[str, Any]]) -> Any:
    """What `report_project.counting` has counted for each of the cases, and what the report says of them."""
    ran = run("report_project.counting", stdin=json.dumps(cases))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
