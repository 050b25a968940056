"""`python -m bridge`: the command line."""

from bridge.cli import run

if __name__ == "__main__":
    run()
