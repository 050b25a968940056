"""Serves examples/django_sync with Uvicorn: migrates, seeds, says what to look at, and becomes the server.

What `make run` does once its virtual environment is there.
"""

import argparse
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

PROJECT = Path(__file__).resolve().parent.parent / "examples" / "django_sync"

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
    """Runs the example on the address that the command line names."""
    parser = argparse.ArgumentParser(description="Serve examples/django_sync with Uvicorn.")
    options, address = address_of(parser)
    os.chdir(PROJECT)
    for command in ("migrate", "seed"):
        show_and_run("manage.py", command)
    print(LOOK_AT.format(url=f"http://{address}"))
    server = [
        *("-m", "uvicorn", "--host", options.host, "--port", str(options.port)),
        # A browser that reads an endless response must not keep Ctrl-C waiting.
        *("--loop", "uvloop", "--http", "httptools", "--timeout-graceful-shutdown", "5"),
        "warehouse.asgi:application",
    ]
    show(*server)
    # Replaces this process, so that Ctrl-C and the exit status are the server's own.
    os.execv(sys.executable, [sys.executable, *server])


def address_of(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, str]:
    """The command line, which names an address to listen on, and that address as in a URL. Ends where it is taken."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="TCP port, 1 to 65535 (default: %(default)s)")
    options = parser.parse_args()
    if problem := _cannot_listen(options.host, options.port):
        print(f"cannot listen on {options.host} port {options.port}: {problem}", file=sys.stderr)
        print("Name another address: PORT=8001, say, or HOST=...", file=sys.stderr)
        sys.exit(1)
    host = f"[{options.host}]" if ":" in options.host else options.host
    return options, f"{host}:{options.port}"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a TCP port (1 to 65535)")
    return int(text)


def _cannot_listen(host: str, port: int) -> str | None:
    """Why nobody can listen there, or None: asked first, for Uvicorn would only find out after everything else."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


def show_and_run(*arguments: str) -> None:
    """Run a script with this Python; ends where that fails."""
    show(*arguments)
    if status := subprocess.run([sys.executable, *arguments], check=False).returncode:
        sys.exit(status)


def show(*arguments: str) -> None:
    """Print a command as one would type it."""
    print("$ " + shlex.join(["python", *arguments]), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
