"""What lets tests run beside each other, and beside other work."""

import re
import tomllib
from pathlib import Path

from support.patience import PROCESS_PATIENCE

TESTS = Path(__file__).parent
ROOT = TESTS.parent

# Programs that keep nothing for a user, or that are given a directory of their own for it.
STARTS_PROCESSES = {
    "support/processes.py",
    "support/browser.py",
    "support/django_report.py",
    "support/postgres.py",
    "support/python_process.py",
    "support/redis_server.py",
    "docs/test_readme.py",
    "load/test_threads_at_once.py",
    "unit/concurrency/test_greenlets.py",
    "test_scripts.py",
    "unit/cli/test_main.py",
}


class TestBusyMachines:
    """What lets tests run beside each other, and beside other work."""

    def test_servers_are_started_in_one_place(self) -> None:
        """There each gets folders of its own."""
        starting = re.compile(r"\bPopen\(|\bcreate_subprocess_")
        texts = {str(path.relative_to(TESTS)): path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")}
        assert STARTS_PROCESSES == {name for name, text in texts.items() if starting.search(text)} - {
            Path(__file__).name
        }

    def test_no_test_has_less_time_than_the_others(self) -> None:
        """The limit of one test ends what hangs, and nothing else."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        least = project["tool"]["pytest"]["ini_options"]["timeout"]
        assert least > 2 * PROCESS_PATIENCE
        found = [
            int(seconds)
            for path in TESTS.rglob("*.py")
            for seconds in re.findall(r"mark\.timeout\((\d+)\)", path.read_text(encoding="utf-8"))
        ]
        assert [] == [seconds for seconds in found if seconds < least]
