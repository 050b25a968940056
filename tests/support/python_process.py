"""Code in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from support.paths import PYTHONPATH
from support.patience import PROCESS_PATIENCE


def run_script(script: str, *, code: int = 0, quiet: bool = True, options: Sequence[str] = ()) -> list[str]:
    """Run Python code in a process of its own, with warnings as errors; returns the lines that it printed.

    `options` are those of the interpreter.

    Fails unless it exits with `code`, in time, and (with `quiet`) says nothing on stderr.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    process = subprocess.Popen(
        [sys.executable, *options, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, complaints = process.communicate(timeout=PROCESS_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # it says where its threads are, and so do its children
        printed, complaints = process.communicate()
    assert process.returncode == code, f"{printed}\n{complaints}"
    assert not (quiet and complaints), f"{printed}\n{complaints}"
    return printed.splitlines()
