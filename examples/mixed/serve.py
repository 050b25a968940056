"""Serves this application with Uvicorn or another server: says what to look at, and becomes `bridge serve`.

This is what `make run-mixed` runs in its virtual environment.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

PROJECT = Path(__file__).resolve().parent

LOOK_AT = """
An old Flask application and a new FastAPI application in one process, with one database and one session. What puts them
together is in examples/mixed/shed.py: site = Mounts({{"/api": api.app, "/": legacy.app}})

  {url}/               the old pages: say who you are, and borrow a tool
  {url}/api/docs       the new interface; it knows you by the cookie of the old one
  {url}/api/watch      a stream of all changes, from either side

The same again on a WSGI server: make run-mixed UNDER=gunicorn. Ctrl-C stops the server.
"""


def main() -> NoReturn:
    """Become the server, on the address that the command line names."""
    parser = argparse.ArgumentParser(description="Serve examples/mixed.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default="8000", help="TCP port (default: %(default)s)")
    parser.add_argument("--under", default="uvicorn", help="uvicorn or gunicorn (default: %(default)s)")
    options = parser.parse_args()
    os.chdir(PROJECT)
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(LOOK_AT.format(url=f"http://{host}:{options.port}"), flush=True)
    serve = ["serve", "shed:site", "--under", options.under, "--host", options.host, "--port", options.port]
    if options.under == "uvicorn":
        # A browser that watches must not keep Ctrl-C waiting.
        serve += ["--", "--timeout-graceful-shutdown", "5"]
    # Replaces this process, so that Ctrl-C and the exit status are the server's own.
    os.execv(sys.executable, [sys.executable, "-m", "bridge", *serve])


if __name__ == "__main__":
    main()
