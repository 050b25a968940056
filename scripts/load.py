"""Runs a command while this machine is busy with other work, as the tests have to bear it.

    scripts/load.py [--workers N] COMMAND...

N processes (two for each processor, unless it is said) compute at normal priority until the command ends; its exit
status is that of this script. A worker also ends by itself when this script has gone, however it went.
"""

import argparse
import os
import signal
import subprocess
import sys

# Ends once nobody is left who could write to its stdin; looks a hundred times a second, and computes in between.
BUSY = """
import select, sys, time
while not select.select([sys.stdin], [], [], 0)[0]:
    until = time.monotonic() + 0.01
    while time.monotonic() < until:
        sum(range(1000))
"""


def main(arguments: list[str]) -> int:
    """Parse `arguments` and run the command; returns its exit status, as a shell gives it."""
    parser = argparse.ArgumentParser(description="Run a command on a machine that is busy.")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1), metavar="N")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("a command is missing")
    reading, writing = os.pipe()
    workers: list[subprocess.Popen[bytes]] = []
    try:
        busy = [sys.executable, "-S", "-c", BUSY]
        workers.extend(subprocess.Popen(busy, stdin=reading, start_new_session=True) for _ in range(options.workers))
        os.close(reading)
        print(f"== under the load of {options.workers} busy processes", flush=True)
        with subprocess.Popen(options.command) as command:
            # Ctrl-C is the command's; this one waits for its end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            status = command.wait()
    finally:
        os.close(writing)
        for worker in workers:
            worker.wait()
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
