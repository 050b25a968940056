"""The command `bridge`."""

import sys
from typing import Final, NoReturn

__all__ = ["run"]

# The exit status that a shell gives to a command that Ctrl-C has ended.
_CTRL_C_STATUS: Final = 130


def run() -> NoReturn:
    """Run the command line, and exit."""
    try:
        from bridge.cli._main import main  # noqa: PLC0415 - Ctrl-C during this import ends quietly as well

        sys.exit(main())
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f"bridge: interrupted by Ctrl-C {str(interrupt) or 'while it was starting'}\n")
        sys.exit(_CTRL_C_STATUS)
