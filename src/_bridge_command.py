"""The script `bridge`.

It is not in the package `bridge`, because most of a start is the import of that package, and Ctrl-C ends that quietly.
"""

import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line, and exit. The status is 130 if Ctrl-C comes while the package is being imported."""
    try:
        from bridge.cli import run as run_command  # noqa: PLC0415 - as above

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("bridge: interrupted by Ctrl-C while it was starting\n")
        sys.exit(130)
