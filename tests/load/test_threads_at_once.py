"""Eight threads through everything at once, with open, close and fork among them; `make stress` does so for a minute.

What only a Python without a lock shows, or one with it in one of a million times: an answer that belongs to another
request, a request that falls between two lives of an adapter, a count that is lost.
"""

import json
import os
import signal
import subprocess
import sys

import pytest

from support.paths import PYTHONPATH

SECONDS = float(os.environ.get("BRIDGE_STRESS_SECONDS", "1"))
# The last batches, the closes and a child that hangs.
END_SECONDS = 60.0


@pytest.mark.timeout(SECONDS + 2 * END_SECONDS)
def test_each_answer_and_each_count_is_right() -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "support.threads_at_once", str(SECONDS)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONWARNINGS": "error"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, complaints = process.communicate(timeout=SECONDS + END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # it says where its threads are
        printed, complaints = process.communicate()
    assert process.returncode == 0, f"{printed}\n{complaints}"
    report = json.loads(printed)
    print(report["closes"], "closes,", report["forks"], "forks,", report["counts"])
    assert report["wrong"] == [], complaints
    assert min(report["closes"], report["forks"], *report["counts"].values()) > 0
    assert len(report["counts"]) >= 11
