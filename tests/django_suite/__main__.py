"""Runs Django's own tests of its request handling through `bridge.django`: `make test-django`.

They come from the source distribution of the Django that is installed, which pip downloads into `.cache/` once. What is
expected to fail, and why, is in `deviations.py`; any other failure, and any of these that succeeds, fails
the run. Exit code: 0 where all is as expected.

    PYTHONPATH=tests python -m django_suite [--mode handlers|on_loop|middleware] [LABEL ...]
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from django_suite.deviations import MODES, PACKAGES

TESTS = Path(__file__).resolve().parents[1]
CACHE = TESTS.parent / ".cache"
# Seconds that one mode may take; it takes about one minute.
PATIENCE = 540


def sources() -> Path:
    """The `tests/` of the Django that is installed."""
    import django

    name = f"django-{django.__version__}"
    tests = CACHE / name / "tests"
    if not tests.is_dir():
        CACHE.mkdir(exist_ok=True)
        print(f"== downloading the source distribution of Django {django.__version__} into {CACHE.name}/", flush=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            # A wheel has no tests.
            pip = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder]
            subprocess.run([sys.executable, "-m", *pip, f"django=={django.__version__}"], check=True)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            Path(folder, name).rename(CACHE / name)
    return tests


def run(mode: str, tests: Path, labels: list[str]) -> tuple[str, float, int, str]:
    """One mode, in a process of its own: its name, the seconds it took, its exit code and what it printed."""
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "django_suite.mode", mode, str(tests / "runtests.py"), *labels]
    began = monotonic()
    ran = subprocess.run(
        command,
        cwd=tests,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )
    return mode, monotonic() - began, ran.returncode, ran.stdout


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=MODES, action="append", help="by default all of them")
    parser.add_argument("labels", nargs="*", metavar="LABEL", help="a package, class or test instead of all packages")
    arguments = parser.parse_args()
    tests = sources()
    codes = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [pool.submit(run, mode, tests, arguments.labels or list(PACKAGES)) for mode in arguments.mode or MODES]
        for future in runs:
            mode, seconds, code, printed = future.result()
            codes.append(code)
            print(f"== {mode}: {'as expected' if code == 0 else 'FAILED'}, in {seconds:.0f} seconds\n{printed}")
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
