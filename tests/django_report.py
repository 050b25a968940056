"""Runs the project `django/report_project`, each time in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMIT = 60


def run(*command: str, stdin: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    """`python -m` something, with some settings of the project's overridden; "UNSET" takes one away."""
    environ = os.environ | {
        "DJANGO_SETTINGS_MODULE": "report_project.settings",
        "REPORT_PROJECT": json.dumps(settings),
        "PYTHONPATH": os.pathsep.join(map(str, (HERE / "django", HERE.parent / "src"))),
        "PYTHONWARNINGS": "error",
    }
    line = [sys.executable, "-m", *command]
    return subprocess.run(line, input=stdin, env=environ, cwd=HERE, capture_output=True, text=True, timeout=LIMIT)


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
