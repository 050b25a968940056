"""`python -m bridge`: the command line."""

import sys

if __name__ == "__main__":
    try:
        from bridge.cli._main import run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("bridge: interrupted by Ctrl-C while it was starting\n")
        sys.exit(130)
