"""The command line as a process: what it serves under each server, how it stops, what it says when it cannot."""

import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import bridge
from bridge.cli._main import main
from bridge.cli._servers import SERVERS
from support.paths import ROOT, SOURCE
from support.patience import PROCESS_PATIENCE
from support.processes import free_port, start_logging

SCRIPT = Path(sys.executable).with_name("bridge")
SHOP = """\
import threading

from bridge import Mounts


def old(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"old in a thread" if threading.current_thread() is not threading.main_thread() else b"old"]


async def new(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"new"})


site = Mounts({"/": old, "/new": new})
number = 1


def create_app():
    return old
"""


@pytest.fixture(name="shop")
def shop_fixture(tmp_path: Path) -> Path:
    """A directory with a project."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "raises.py").write_text("def deep():\n    return 1 / 0\n\n\ndeep()\n")
    return tmp_path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}


def ran(
    directory: Path, *words: str, command: Sequence[str] = (sys.executable, "-m", "bridge")
) -> tuple[int, str, str]:
    """Exit status, output and errors of one command."""
    done = subprocess.run(
        [*command, *words], cwd=directory, env=environment(), capture_output=True, text=True, timeout=PROCESS_PATIENCE
    )
    return done.returncode, done.stdout, done.stderr


class Serving:
    """A `bridge serve` that runs, in a session of its own."""

    def __init__(self, directory: Path, words: Sequence[str], port: int) -> None:
        self.port = port
        self.log_path = directory / "serve.log"
        # Without warnings as errors: servers warn of their own accord.
        own = {"PYTHONDONTWRITEBYTECODE": "1"}
        self.process = start_logging([str(SCRIPT), "serve", *words], directory, own, log=self.log_path)

    def log(self) -> str:
        return self.log_path.read_text()

    def get(self, path: str = "/") -> bytes:
        """The body, once the server answers."""
        deadline = time.monotonic() + PROCESS_PATIENCE
        while True:
            assert self.process.poll() is None, self.log()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROCESS_PATIENCE)
                connection.request("GET", path)
                response = connection.getresponse()
                with contextlib.closing(connection):
                    assert 200 == response.status, self.log()
                    return response.read()
            except ConnectionError:
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)

    def stop(self, how: signal.Signals) -> int:
        """The exit status after the signal."""
        self.process.send_signal(how)
        return self.process.wait(PROCESS_PATIENCE)


@contextlib.contextmanager
def serving(directory: Path, *words: str) -> Iterator[Serving]:
    port = free_port()
    server = Serving(directory, [*words, "--port", str(port)], port)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@pytest.mark.parametrize("under", SERVERS)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
class TestServe:
    def test_an_app_of_each_interface(self, shop: Path, under: str, how: signal.Signals) -> None:
        """Ctrl-C and SIGTERM end the server as they do without us."""
        app, body = ("shop:old", b"old") if how == signal.SIGINT else ("shop:new", b"new")
        with serving(shop, app, "--under", under) as server:
            assert body == server.get()[:3]
            status = server.stop(how)

        assert status in (0, 130, 143, -how), server.log()
        assert server.log().startswith(f"bridge: {app} (shop.{app[5:]}) speaks ")
        assert "bridge/_cli" not in server.log()


class TestServing:
    @pytest.mark.parametrize("under", ["uvicorn", "gunicorn", "granian"])
    def test_mounts(self, shop: Path, under: str) -> None:
        with serving(shop, "shop:site", "--under", under) as server:
            assert (b"old", b"new") == (server.get("/x")[:3], server.get("/new/x"))
            assert "speaks ASGI and WSGI" in server.log()
            server.stop(signal.SIGTERM)

    def test_a_factory_with_workers(self, shop: Path) -> None:
        with serving(shop, "shop:create_app()", "--under", "gunicorn", "--workers", "2", "--threads", "3") as server:
            assert b"old" == server.get()[:3]
            server.stop(signal.SIGTERM)

        assert 2 == server.log().count("Booting worker")

    def test_reload(self, shop: Path) -> None:
        with serving(shop, "shop:old", "--reload", "--log-level", "warning") as server:
            assert b"old" == server.get()[:3]
            changed = shop / "shop.py"
            changed.write_text(SHOP.replace('b"old in a thread"', 'b"changed"'))
            deadline = time.monotonic() + PROCESS_PATIENCE
            again = time.monotonic() + 3
            while server.get() != b"changed":
                assert time.monotonic() < deadline, server.log()
                time.sleep(0.05)  # there is no signal for it
                if time.monotonic() > again:
                    # A server that looked at the files only now has taken it for what was there before.
                    changed.touch()
                    again += 3
            server.stop(signal.SIGTERM)

    @pytest.mark.parametrize("under", SERVERS)
    def test_an_app_that_changes_the_directory(self, shop: Path, under: str) -> None:
        """Its server finds it from where the command was given."""
        (shop / "there").mkdir()
        (shop / "goes.py").write_text("import os\n\nfrom shop import old\n\nos.chdir('there')\n")
        with serving(shop, "goes:old", "--under", under) as server:
            server.get()

    def test_options_of_the_server_go_behind_two_dashes(self, shop: Path) -> None:
        with serving(shop, "shop:old", "--port", "1") as server:  # the last one counts
            assert b"old" == server.get()[:3]
            server.stop(signal.SIGTERM)
        assert "Traceback" not in server.log()
        status, _, told = ran(shop, "serve", "shop:old", "--port", "0", "--", "--no-such-option")
        assert (2, True) == (status, "No such option" in told), "it is Uvicorn that says so"

    def test_a_port_in_use(self, shop: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            told = ran(shop, "serve", "shop:old", "--port", port)

        assert (1, "", f"bridge: cannot listen on 127.0.0.1 port {port}: Address already in use\n") == told


STUCK = """\
import asyncio, threading, time


def waits(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        time.sleep(3600)
    start_response("200", [])
    return [b"old"]


async def stubborn(scope, receive, send):
    if scope["type"] != "http":
        raise LookupError
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass


async def blocks(scope, receive, send):
    if scope["type"] != "http":
        raise LookupError
    time.sleep(3600)


async def leaves_a_thread(scope, receive, send):
    if scope["type"] != "http":
        raise LookupError
    threading.Thread(target=time.sleep, args=(3600,)).start()
    await asyncio.sleep(3600)


def slow_to_load():
    time.sleep(3600)
"""


class TestInterruptedChecks:
    """`bridge check` ends, whatever the application does, and says what was being asked."""

    @pytest.fixture(autouse=True)
    def stuck(self, shop: Path) -> None:
        (shop / "stuck.py").write_text(STUCK)

    @pytest.mark.parametrize(
        ("app", "asked"),
        [
            ("waits", "POST /, Content-Length, one piece"),
            ("stubborn", "GET /"),
            ("blocks", "GET /"),
            ("leaves_a_thread", "GET /"),
            ("slow_to_load()", "loading stuck:slow_to_load()"),
        ],
    )
    def test_timeout(self, shop: Path, app: str, asked: str) -> None:
        status, out, told = ran(shop, "check", f"stuck:{app}", "--timeout", "2")

        assert 1 == status, out
        assert told.startswith("bridge: interrupted after 2 seconds (--timeout); ")
        words = [" ".join(line.split()) for line in out.splitlines()]
        assert f"ENDED {asked} interrupted after " in next(line for line in words if line.startswith("ENDED"))
        assert words[-1].startswith("interrupted after 2 seconds (--timeout), with ")

    def test_what_was_found_before_is_reported(self, shop: Path) -> None:
        status, out, _ = ran(shop, "check", "stuck:waits", "--timeout", "2", "--json")

        told = json.loads(out)
        assert (1, 1, "wsgi") == (status, told["broken"], told["interface"])
        assert ["GET /", "HEAD /"] == [each["asked"] for each in told["asked"]][:2]
        assert "after 2 seconds (--timeout)" == told["interrupted"]["reason"]
        assert "POST /, Content-Length, one piece" == told["interrupted"]["asking"]

    def test_one_that_is_through_in_time(self, shop: Path) -> None:
        status, out, _ = ran(shop, "check", "shop:old", "--safe", "--timeout", "15")

        assert (0, "nothing is broken") == (status, out.splitlines()[-1])

    @pytest.mark.parametrize("times", [1, 2])
    def test_ctrl_c(self, shop: Path, times: int) -> None:
        """The first one ends the application, the second one does not wait for that."""
        command = [sys.executable, "-m", "bridge", "check", "stuck:stubborn"]
        process = subprocess.Popen(
            command, cwd=shop, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith("stuck:stubborn (")  # told at once, before any answer
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline().startswith("bridge: interrupted by Ctrl-C; ")
            if times == 2:
                process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PROCESS_PATIENCE)

        # The second may find Python about to end, and without handlers. To a shell this is 130 as well.
        assert process.returncode in {1: (130,), 2: (130, -signal.SIGINT)}[times]
        assert out.splitlines()[-1].startswith("interrupted by Ctrl-C, with ")


LEFT = """\
import atexit, os, subprocess, sys, threading

from shop import old

threading.Thread(target=threading.Event().wait, name="poller").start()
atexit.register(print, "printed at exit")
subprocess.run([sys.executable, "-c", "print('printed by a child')"])
"""


class TestWhatIsLeft:
    """A command ends, whatever the application leaves behind, and its output is its own."""

    @pytest.fixture(autouse=True)
    def left(self, shop: Path) -> None:
        (shop / "left.py").write_text(LEFT)

    def test_after_a_check(self, shop: Path) -> None:
        status, out, told = ran(shop, "check", "left:old", "--safe", "--json")

        assert (0, "left:old") == (status, json.loads(out)["app"])
        assert "printed by a child\n" in told
        assert told.endswith("bridge: ended after 5 seconds without waiting for the application's threads poller\n")

    def test_after_a_refusal(self, shop: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            status, _, told = ran(shop, "serve", "left:old", "--port", str(taken.getsockname()[1]))

        assert (1, True) == (status, "Address already in use" in told), told

    def test_what_it_prints_at_exit(self, shop: Path) -> None:
        (shop / "left.py").write_text(LEFT.replace("threading.Thread", "# "))
        status, out, told = ran(shop, "check", "left:old", "--safe", "--json")

        assert (0, "left:old", True) == (status, json.loads(out)["app"], told.endswith("printed at exit\n"))

    def test_a_child_that_gets_ctrl_c_reports_nothing(self, shop: Path) -> None:
        """It is a worker process, which a terminal interrupts together with its parent."""
        (shop / "left.py").write_text(
            "import os, signal\n\nfrom shop import old\n\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    try:\n"
            "        signal.raise_signal(signal.SIGINT)\n"
            "    finally:\n"
            "        os._exit(3)\n"
            "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3\n"
        )
        status, out, told = ran(shop, "check", "left:old", "--safe")

        assert (0, "nothing is broken", "") == (status, out.splitlines()[-1], told)

    @pytest.mark.parametrize("comes_back", ["raise SystemExit", "pass"])
    def test_a_child_of_a_request_that_comes_back_reports_nothing(self, shop: Path, comes_back: str) -> None:
        """It does not make the rest of the check a second time, on a copy of the loop."""
        (shop / "left.py").write_text(
            "import os\n\nimport shop\n\n\n"
            "async def new(scope, receive, send):\n"
            "    assert scope['type'] == 'http'\n"
            "    child = os.fork()\n"
            "    if not child:\n"
            f"        {comes_back}\n"
            "        return\n"
            "    os.waitpid(child, 0)\n"
            "    await shop.new(scope, receive, send)\n"
        )
        status, out, _ = ran(shop, "check", "left:new", "--safe")

        assert (0, 1, "nothing is broken") == (status, out.count("lifespan"), out.splitlines()[-1])


FULL = "cannot write to standard output: No space left on device"


class TestOutput:
    """What nobody reads is one line on standard error, and a status that is not 0."""

    @pytest.mark.parametrize(
        ("to", "words", "problem"),
        [
            (">&-", ("check", "shop:old", "--safe"), "standard output is closed"),
            (">&-", ("mounts", "shop:site"), "standard output is closed"),
            (">/dev/full", ("check", "shop:old", "--safe"), FULL),
            (">/dev/full", ("mounts", "shop:site"), FULL),
            (">/dev/full", ("--help",), FULL),
        ],
    )
    def test_that_cannot_be_written(self, shop: Path, to: str, words: Sequence[str], problem: str) -> None:
        shell = ("sh", "-c", f'exec "$0" -m bridge "$@" {to}', sys.executable)

        assert (1, "", f"bridge: {problem}\n") == ran(shop, *words, command=shell)

    def test_whose_reader_has_gone(self, shop: Path) -> None:
        reads, writes = os.pipe()
        os.close(reads)
        command = [sys.executable, "-m", "bridge", "check", "shop:old", "--safe"]
        try:
            done = subprocess.run(
                command, cwd=shop, env=environment(), stdout=writes, stderr=subprocess.PIPE, timeout=PROCESS_PATIENCE
            )
        finally:
            os.close(writes)
        assert (1, b"bridge: cannot write to standard output: Broken pipe\n") == (done.returncode, done.stderr)

    def test_whose_reader_does_not_read(self, shop: Path) -> None:
        """--timeout ends it all the same."""
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writes, bytes(2**16))
        os.set_blocking(writes, True)
        command = [sys.executable, "-m", "bridge", "check", "shop:old", "--safe", "--timeout", "1"]
        try:
            done = subprocess.run(
                command, cwd=shop, env=environment(), stdout=writes, stderr=subprocess.PIPE, timeout=PROCESS_PATIENCE
            )
        finally:
            os.close(reads)
            os.close(writes)
        assert 1 == done.returncode
        assert done.stderr.startswith(b"bridge: interrupted after 1 seconds (--timeout); ")


# A module that is still being imported when Ctrl-C comes: it says that its import has begun, and then waits.
WAITS = """\
import sys

sys.stderr.write("begun\\n")
sys.stderr.flush()
sys.stdin.read()
"""
SCRIPT_CODE = ("-c", "from _bridge_command import run; run()")


class TestInterruptedImports:
    """Ctrl-C ends a command quietly before it has come to its work: 130, what was interrupted, and no traceback."""

    @pytest.fixture(autouse=True)
    def waits(self, tmp_path: Path) -> None:
        (tmp_path / "waits.py").write_text(WAITS)

    def interrupted(self, directory: Path, start: Sequence[str], command: str) -> tuple[int, str, str]:
        """Exit status, output and errors of a command that is interrupted as soon as a module waits."""
        process = subprocess.Popen(
            [sys.executable, *start, command, "waits:app"], cwd=directory, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**environment(), "PYTHONPATH": os.pathsep.join((str(directory / "first"), str(SOURCE)))},
        )  # fmt: skip
        with process:
            try:
                assert process.stderr is not None
                assert "begun\n" == process.stderr.readline()
                process.send_signal(signal.SIGINT)
                out, told = process.communicate(timeout=PROCESS_PATIENCE)
            finally:
                process.kill()
        return process.returncode, out, told

    @pytest.mark.parametrize("command", ["serve", "mounts"])
    def test_of_the_application(self, tmp_path: Path, command: str) -> None:
        seen = self.interrupted(tmp_path, ("-m", "bridge"), command)

        assert (130, "", "bridge: interrupted by Ctrl-C while waits:app was being loaded\n") == seen

    def test_of_the_application_that_is_checked(self, tmp_path: Path) -> None:
        status, out, told = self.interrupted(tmp_path, ("-m", "bridge"), "check")

        assert (130, 1) == (status, told.count("\n"))
        assert told.startswith("bridge: interrupted by Ctrl-C; ")
        assert "ENDED loading waits:app interrupted after " in " ".join(out.split())

    @pytest.mark.parametrize("command", ["serve", "check", "mounts"])
    @pytest.mark.parametrize(
        ("start", "module"),
        [(SCRIPT_CODE, "anyio"), (SCRIPT_CODE, "argparse"), (("-m", "bridge"), "argparse")],
        ids=["the package", "the command line", "the command line as a module"],
    )
    def test_of_our_own(self, tmp_path: Path, start: Sequence[str], module: str, command: str) -> None:
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / f"{module}.py").write_text(WAITS)

        seen = self.interrupted(tmp_path, start, command)

        assert (130, "", "bridge: interrupted by Ctrl-C while it was starting\n") == seen

    def test_the_script_runs_the_code_that_is_interrupted_here(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        module, name = project["scripts"]["bridge"].split(":")

        assert SCRIPT_CODE[1] == f"from {module} import {name}; {name}()"


@pytest.mark.parametrize("command", ["serve", "check", "mounts"])
class TestNames:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("nowhere:app", "bridge: there is no module 'nowhere' in "),
            ("shop:ol", "has no 'ol'; did you mean 'old'?"),
            ("shop:number", "bridge: shop:number: expected an application, either WSGI"),
        ],
    )
    def test_what_is_wrong_is_told_in_one_line(self, shop: Path, command: str, name: str, words: str) -> None:
        status, out, told = ran(shop, command, name)

        assert (1, "", 1) == (status, out, told.count("\n"))
        assert words in told

    def test_an_error_of_the_users_code_has_their_traceback_and_no_noise(self, shop: Path, command: str) -> None:
        status, out, told = ran(shop, command, "raises:app")

        assert (1, "") == (status, out)
        assert told.startswith("Traceback (most recent call last):\n")
        assert told.endswith("ZeroDivisionError: division by zero\n")
        assert 2 == told.count('  File "') == told.count("raises.py")


class TestCommands:
    def test_check(self, shop: Path) -> None:
        (shop / "sin.py").write_text(
            "def app(environ, start_response):\n    start_response('204 No Content', [])\n    return [b'x']\n"
        )
        good, bad = ran(shop, "check", "shop:site"), ran(shop, "check", "sin:app", "--json")

        assert (0, "") == (good[0], good[2])
        assert "nothing is broken" in good[1]
        assert (1, "", "RFC 9110 6.4.1") == (bad[0], bad[2], json.loads(bad[1])["asked"][0]["findings"][0]["clause"])

    def test_version(self, shop: Path) -> None:
        told = f"bridge {bridge.__version__}, Python {platform.python_version()}\n"

        assert (0, told, "") == ran(shop, "--version")

    def test_mounts(self, shop: Path) -> None:
        status, out, told = ran(shop, "mounts", "shop:site")

        assert (0, "") == (status, told)
        assert ["/new", "shop.new", "asgi", "natively", "adapted"] == out.splitlines()[2].split()

    def test_the_script_is_the_module(self, shop: Path) -> None:
        assert ran(shop, "--help") == ran(shop, "--help", command=[str(SCRIPT)])

    @pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["check", "--help"], ["mounts", "--help"]])
    def test_help_teaches(self, words: list[str], shop: Path) -> None:
        status, out, told = ran(shop, *words)

        assert (0, "") == (status, told)
        assert "exit status: 0 success, 1 a problem" in out

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            ([], "the following arguments are required"),
            (["fly"], "invalid choice: 'fly'"),
            (["serve", "a:b", "--port", "x"], "'x' is not a TCP port (0 to 65535)"),
            (["serve", "a:b", "--port", "65536"], "'65536' is not a TCP port (0 to 65535)"),
            (["serve", "a:b", "--workers", "0"], "'0' is not a whole number of 1 or more"),
            (["serve", "a:b", "--under", "apache"], "invalid choice: 'apache'"),
            (["check", "a:b", "--path", "x"], "a path starts with a slash, got 'x'"),
            (["check", "a:b", "--path", "/\udcff"], r"'/\udcff' has characters that are not printable"),
            (["check", "a:b", "--timeout", "0"], "'0' is not a number of seconds above 0"),
            (["check", "a:b", "--timeout", "nan"], "'nan' is not a number of seconds above 0"),
            (["check", "a:b", "--timeout", "soon"], "'soon' is not a number of seconds above 0"),
            (["check", "a:b", "--", "--x"], 'only "serve" takes options of a server'),
            (["check", "--nope", "a:b"], "bridge check: error: unrecognized arguments: --nope"),
            (["--nope", "check", "a:b"], "bridge: error: unrecognized arguments: --nope"),
            (["mounts", "a:b", "c:d"], "bridge mounts: error: unrecognized arguments: c:d"),
        ],
    )
    def test_a_wrong_command_line(self, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as raised:
            main(words)

        assert 2 == raised.value.code
        told = capsys.readouterr().err
        assert problem in told
        prog = f"bridge {words[0]}" if words and words[0] in ("serve", "check", "mounts") else "bridge"
        assert told.startswith(f"usage: {prog} [-h]"), "the usage is that of the command"
        assert told.endswith(f"; see {prog} --help\n")
