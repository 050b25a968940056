"""The script `bridge`.

It is not in the package `bridge`, because importing that is most of what a start takes, and Ctrl-C must end it quietly.
"""

import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line. Exits with 130 if Ctrl-C comes before that can say so itself."""
    try:
        from bridge.cli import run as run_command  # noqa: PLC0415 - as above

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("bridge: interrupted by Ctrl-C while it was starting\n")
        sys.exit(130)
