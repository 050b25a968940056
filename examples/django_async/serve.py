"""Serves this project with Uvicorn, Gunicorn or Apache: migrates, seeds, says what to look at, and serves.

This is what `make run-async`, `make run-gunicorn`, `make run-mod-wsgi` and `make run-chat` run.
"""

import argparse
import grp
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

PROJECT = Path(__file__).resolve().parent
ROOT = PROJECT.parent.parent  # the repository

LOOK_AT = """
An async Django project, {on}: the same code for each.

  http://{address}/               sites that are watched; what happens to them appears by itself
  http://{address}/feed/          the same as server-sent events; see them come with curl -N
  http://{address}/history.csv    all of it, streamed by an async generator
  http://{address}/chat/          a chat

Ctrl-C stops the server.
"""

LOOK_AT_CHAT = """
A chat, {on}: rooms, a history, who is here, and what happens elsewhere, live {how}.

  http://{address}/chat/          open it in two browsers, or in a private window as well, and talk

Stop the server and start it again meanwhile: the page connects again by itself, and nothing is lost. {processes}
Ctrl-C stops the server.
"""

HOW = {
    "uvicorn": ("on an ASGI server", "over WebSockets"),
    "gunicorn": ("on a WSGI server", "over WebSockets"),
    "mod_wsgi": ("on a WSGI server", "over server-sent events, for Apache has no WebSocket to give"),
}
ONE_PROCESS = (
    "There is one process; REDIS_URL=redis://localhost lets several, on any number of machines, talk to each other."
)
MANY_PROCESSES = "Processes talk to each other through REDIS_URL."


def main() -> NoReturn:
    """Runs the example under the server that the command line names."""
    parser = argparse.ArgumentParser(description="Serve examples/django_async.")
    parser.add_argument("server", choices=("uvicorn", "gunicorn", "mod_wsgi"))
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default="8000", help="TCP port (default: %(default)s)")
    parser.add_argument("--chat", action="store_true", help="say how to look at the chat")
    options = parser.parse_args()
    address = f"[{options.host}]:{options.port}" if ":" in options.host else f"{options.host}:{options.port}"
    if options.server == "mod_wsgi":
        sys.exit(serve_with_apache(address, chat=options.chat))
    os.chdir(PROJECT)
    for command in (["migrate", "--verbosity", "1"], *seeds(address)):
        manage = [sys.executable, "manage.py", *command]
        _show(manage)
        _run(manage)
    print(look_at(options.server, address, chat=options.chat))
    if options.server == "gunicorn":
        # gunicorn.conf.py has the rest. All Gunicorns of one user would have the same path for their control socket.
        serve = ["-m", "gunicorn", "--bind", address, "--no-control-socket"]
    else:
        serve = ["-m", "bridge", "serve", "lookout.asgi:application", "--host", options.host, "--port", options.port]
        # An open feed must not keep Ctrl-C waiting.
        serve += ["--", "--loop", "uvloop", "--http", "httptools", "--timeout-graceful-shutdown", "5"]
    _show([sys.executable, *serve])
    # Replaces this process, so that Ctrl-C and the exit status are the server's own.
    os.execv(sys.executable, [sys.executable, *serve])


def look_at(server: str, address: str, *, chat: bool) -> str:
    """The text that says what to look at."""
    on, how = HOW[server]
    processes = MANY_PROCESSES if os.environ.get("REDIS_URL") else ONE_PROCESS
    return (LOOK_AT_CHAT if chat else LOOK_AT).format(on=on, how=how, address=address, processes=processes)


def seeds(address: str) -> list[list[str]]:
    """The commands that fill an empty database."""
    return [["seed", "--url", f"http://{address}"], ["seed_chat"]]


def serve_with_apache(address: str, *, chat: bool) -> int:
    """Serve a copy of the project, which Apache's user can read, until Ctrl-C. Returns Apache's exit status.

    The copy, the database and Apache's own files are in `lookout` in Apache's virtual environment, or in the directory
    that LOOKOUT_SITE names. Apache's user must have access to it.
    """
    preparing = [ROOT / "scripts" / "apache.sh", "-r", "examples/django_async/requirements.txt"]
    venv = Path(_run(preparing, stdout=subprocess.PIPE).strip())
    site = Path(os.environ.get("LOOKOUT_SITE", venv / "lookout"))
    user, group = _apaches_user()
    copy, var, run = _lay_out(site, user, group)
    environment = os.environ | {"LOOKOUT_VAR": str(var)}
    as_user: dict[str, Any] = {"user": user, "group": group, "extra_groups": []} if user else {}
    for command in (["migrate"], *seeds(address)):
        manage = [venv / "bin" / "python", "manage.py", *command]
        _show(manage)
        _run(manage, cwd=copy, env=environment, **as_user)
    module = _run([venv / "bin" / "mod_wsgi-express", "module-location"], stdout=subprocess.PIPE).strip()
    defined = {"ADDRESS": address, "PROJECT": copy, "VENV": venv, "MOD_WSGI": module, "RUN": run}
    if user:
        defined |= {"USER": user, "GROUP": group}
    apache: list[str | Path] = ["/usr/sbin/apache2", "-f", copy / "apache.conf", "-DFOREGROUND"]
    for name, value in defined.items():
        apache += ["-C", f'Define {name} "{value}"']
    print(look_at("mod_wsgi", address, chat=chat))
    _show(apache)
    return _supervise(apache, environment)


def _lay_out(site: Path, user: str, group: str) -> tuple[Path, Path, Path]:
    """Make a new copy of the project, and directories for its database and for Apache, owned by Apache's user."""
    copy, var, run = site / "project", site / "var", site / "run"
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("var", "__pycache__"))
    for directory in (var, run):
        directory.mkdir(exist_ok=True)
        if user:
            shutil.chown(directory, user, group)
    return copy, var, run


def _show(command: Sequence[str | Path]) -> None:
    print("$ " + shlex.join(map(str, command)), flush=True)


def _run(command: Sequence[str | Path], **options: Any) -> str:
    """Run a command. Returns its output, if `stdout` is a pipe. Exits if it fails: the command has said why."""
    done = subprocess.run(command, text=True, check=False, **options)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def _apaches_user() -> tuple[str, str]:
    """The user and group that Apache runs as if root starts it. Otherwise empty: the user who starts it."""
    if os.geteuid():
        return "", ""
    user = os.environ.get("BRIDGE_APACHE_USER", "www-data")
    return user, grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def _supervise(command: Sequence[str | Path], environment: Mapping[str, str]) -> int:
    """Run Apache, and pass SIGINT and SIGTERM on to it as SIGTERM. Returns its exit status."""
    # In its own process group, because Apache stops at SIGWINCH, which a resized terminal sends. Its log goes through a
    # pipe: Apache can open that again as /dev/stderr, whoever owns our stderr. The pipe ends with Apache's last
    # process.
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
    ) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.terminate())
        assert server.stderr
        for line in server.stderr:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
    return server.returncode


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
