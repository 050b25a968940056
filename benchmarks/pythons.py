"""`bridge` on another Python as one of the peers: its interpreter, with the same packages, beside this one."""

import importlib
import platform
import subprocess
import sys
import sysconfig

from benchmarks import peers
from benchmarks.child import SampleError

WITHOUT_A_LOCK = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def name() -> str:
    """The version of this Python as its command has it: 3.14, or 3.14t if it was built without a lock."""
    return f"{sys.version_info.major}.{sys.version_info.minor}{'t' if WITHOUT_A_LOCK else ''}"


def description() -> str:
    """This Python in words, with its patch version."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{version} without a lock" if WITHOUT_A_LOCK else version


def add(path: str) -> str:
    """Have the subject `peers.on(its name)` run on the interpreter at `path`; returns its description."""
    try:
        done = subprocess.run([path, "-m", "benchmarks.pythons"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SampleError(f"--also-on: {path} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise SampleError(f"--also-on: {path} lacks something that the benchmarks need:\n{done.stderr.strip()}")
    its_name, its_description = done.stdout.splitlines()
    peers.PYTHONS[its_name] = path
    return its_description


if __name__ == "__main__":
    # It fails where a package is missing that the benchmarks serve with.
    importlib.import_module("benchmarks.serve")

    print(name())
    print(description())
