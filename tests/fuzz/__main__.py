"""Drives the targets with atheris: `make fuzz ARGS="--runs 1000000 scope environ"`.

Each target is a process of its own, which begins with its corpus. An input that breaks an invariant is left in
`.cache/fuzz`, and printed; it can be run again with `--input FILE`.
"""

import argparse
import importlib.util
import logging
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from fuzz.targets import TARGETS, keep, kept, run

FOUND = Path(".cache/fuzz")
# What one input may take in seconds before it counts as a hang.
HANG_SECONDS = 25
MEMORY_MIB = 2048
LONGEST = 512
# A corpus is for the default suite, too: so many inputs of a target are kept, the shortest first.
KEPT = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all where none is named"
    )
    parser.add_argument("--runs", type=int, default=20_000, help="inputs for each target (%(default)s)")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long for each target")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what reaches new code")
    parser.add_argument("--input", type=Path, help="run one input of one target, without atheris")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)  # this process is that of a target
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.input is not None:
        run(names[0], options.input.read_bytes(), measured=True)
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed; it is for Python 3.11 to 3.13")
    logging.disable()
    if options.drive is not None:
        return _drive(names[0], options.drive, options.runs, options.seconds)
    failed = [name for name in names if not _fuzz(name, options)]
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _fuzz(name: str, options: argparse.Namespace) -> bool:
    """One target; whether all went well."""
    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(kept(name)):
            (Path(folder) / str(number)).write_bytes(data)
        driver = [sys.executable, "-m", "fuzz", name, "--drive", folder]
        print(f"== {name}", flush=True)
        ran = subprocess.run(
            [*driver, "--runs", str(options.runs), "--seconds", str(options.seconds)],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        lines = ran.stderr.splitlines()
        if ran.returncode:
            noise = ("INFO:", "WARNING:", "#")
            print("\n".join(line[:200] for line in lines if not line.startswith(noise)), flush=True)
            return False
        print(next((line for line in reversed(lines) if line.startswith(("Done", "stat::number"))), ""), flush=True)
        if options.keep:
            keep(name, _chosen(name, [path.read_bytes() for path in Path(folder).iterdir()]))
    return True


def _chosen(name: str, inputs: list[bytes]) -> list[bytes]:
    """Of `inputs` those that between them run each line that all of them run; the short ones first."""
    seen: set[tuple[object, int]] = set()
    now: set[tuple[object, int]] = set()

    def trace(frame: Any, event: str, argument: object) -> Any:
        if event == "call" and "/bridge/" not in frame.f_code.co_filename:
            return None
        now.add((frame.f_code, frame.f_lineno))
        return trace

    chosen = []
    threading.settrace(trace)
    for data in sorted(set(inputs), key=lambda each: (len(each), each)):
        now.clear()
        sys.settrace(trace)
        try:
            run(name, data)
        finally:
            sys.settrace(None)
        if now - seen and len(chosen) < KEPT:
            seen |= now
            chosen.append(data)
    threading.settrace(lambda *_: None)
    return chosen


def _drive(name: str, folder: Path, runs: int, seconds: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["bridge", "wsproto"]):
        for module in [each for each in sys.modules if each.partition(".")[0] in ("bridge", "fuzz")]:
            del sys.modules[module]
        from fuzz import targets
    atheris.Setup(
        [
            name,
            str(folder),
            f"-runs={runs}",
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            f"-timeout={HANG_SECONDS}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={FOUND}/{name}-",
        ],
        lambda data: targets.run(name, data, measured=True),
        internal_libfuzzer=True,
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
