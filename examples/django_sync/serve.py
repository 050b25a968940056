"""Serves this project with Uvicorn: migrates, seeds, says what to look at, and becomes `bridge serve`.

This is what `make run` runs in its virtual environment.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

LOOK_AT = """
A legacy Django project, all of it WSGI, on an ASGI server. Its one changed line is in
examples/django_sync/warehouse/asgi.py: from bridge.django import get_asgi_application

  {url}/                     the warehouse
  {url}/parts/BRG-6204/      a part: upload a document, download it again
  {url}/move/                a transaction
  {url}/movements.csv        an export, streamed by a generator
  {url}/reports/turnover/    a view that raises
  {url}/admin/               the admin

Log in as keeper, password bolts-and-nuts. Ctrl-C stops the server.
"""


def main() -> NoReturn:
    """Run the example on the address that the command line names."""
    parser = argparse.ArgumentParser(description="Serve examples/django_sync with Uvicorn.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default="8000", help="TCP port (default: %(default)s)")
    options = parser.parse_args()
    os.chdir(Path(__file__).parent)
    for command in ("migrate", "seed"):
        _show("manage.py", command)
        if status := subprocess.run([sys.executable, "manage.py", command], check=False).returncode:
            sys.exit(status)
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(LOOK_AT.format(url=f"http://{host}:{options.port}"))
    serve = ["-m", "bridge", "serve", "warehouse.asgi:application", "--host", options.host, "--port", options.port]
    # A browser that reads an endless response must not keep Ctrl-C waiting.
    serve += ["--", "--loop", "uvloop", "--http", "httptools", "--timeout-graceful-shutdown", "5"]
    _show(*serve)
    # Replaces this process, so that Ctrl-C and the exit status are the server's own.
    os.execv(sys.executable, [sys.executable, *serve])


def _show(*arguments: str) -> None:
    """Print a command as a user would type it."""
    print("$ " + shlex.join(["python", *arguments]), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
