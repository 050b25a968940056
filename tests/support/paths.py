"""Where things are in the repository."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
TESTS = ROOT / "tests"
# For a process of our own: it finds `bridge` here, and what the tests share.
PYTHONPATH = os.pathsep.join([str(SOURCE), str(TESTS)])
