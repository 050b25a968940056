"""The build of another commit as one of the peers: its sources, beside those of this checkout."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

from benchmarks import peers
from benchmarks.child import SampleError

_ROOT = Path(__file__).parent.parent
_CACHE = _ROOT / ".cache" / "against"


def check_out(ref: str) -> str:
    """Put `src` of the commit `ref` where the subject `against` finds it; returns the short name of the commit."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()
    target = _CACHE / commit
    if not target.is_dir():
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit, "src"))) as archive:
            archive.extractall(target, filter="data")
    os.environ[peers.AGAINST_SOURCES] = str(target / "src")
    return commit[:7]


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise SampleError(f"git {' '.join(arguments)}: {done.stderr.decode().strip() or 'there is no such commit'}")
    return done.stdout
