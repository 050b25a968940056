"""`bridge serve` with an open stream: a stop has a bound on every server, a reload does not wait for the client."""

import contextlib
import http.client
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge._concurrency.wake_policy import threads_take_turns
from bridge.cli._servers import SERVERS
from support.patience import PROCESS_PATIENCE
from support.processes import free_port, kill, start_logging

SCRIPT = Path(sys.executable).with_name("bridge")
SHOP = """\
import asyncio
import threading
import time

TICK = b"data: tick\\n\\n"


def old(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    if environ["PATH_INFO"] == "/quick":
        return [b"old"]
    return silent() if environ["PATH_INFO"] == "/silent" else ticking()


def ticking():
    while True:
        yield TICK
        time.sleep(0.05)


def silent():
    # As an app that waits for news of which there are none: nothing can end it but the end of the process.
    yield TICK
    threading.Event().wait()


async def new(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    while scope["path"] != "/quick":
        await send({"type": "http.response.body", "body": TICK, "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"new"})
"""
IMPORT = """\
try:
    import shelf
except Exception as error:
    raise LookupError("there is no shelf") from error
"""
THREAD = """\
import threading

threading.Thread(target=threading.Event().wait).start()

"""
LIFESPAN = """\
fails = []
exits = ""


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            if phase == exits:
                raise SystemExit(f"no {phase} here")
            if phase in fails:
                await send({"type": f"lifespan.{phase}.failed", "message": f"no {phase} here"})
                raise SystemExit(phase) if exits else RuntimeError(phase)
            await send({"type": f"lifespan.{phase}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


"""
# As in the example of the specification: it goes on after a failure, and waits for the shutdown.
GOES_ON = LIFESPAN.replace(
    "                raise SystemExit(phase) if exits else RuntimeError(phase)\n", "                continue\n"
)
AT_ONCE = LIFESPAN.replace("        for phase", "        raise SystemExit('at once')\n        for phase")
STAYS = LIFESPAN.replace("        return\n", "        await receive()\n")


class Serving:
    """A `bridge serve` that runs, in a session of its own."""

    def __init__(self, directory: Path, words: list[str]) -> None:
        self.port = free_port()
        self.log_path = directory / "serve.log"
        command = [str(SCRIPT), "serve", *words, "--port", str(self.port)]
        self.process = start_logging(command, directory, {"PYTHONDONTWRITEBYTECODE": "1"}, log=self.log_path)

    def log(self) -> str:
        return self.log_path.read_text()

    def get(self, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The response to a request, its body unread, once the server answers."""
        deadline = time.monotonic() + PROCESS_PATIENCE
        while True:
            assert self.process.poll() is None, self.log()
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROCESS_PATIENCE)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException):
                connection.close()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)  # there is no signal for it
            else:
                assert 200 == response.status, self.log()
                return connection, response

    def quick(self) -> bytes:
        connection, response = self.get("/quick")
        with contextlib.closing(connection):
            return response.read()

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[http.client.HTTPResponse]:
        """A response that has begun, and whose client stays."""
        connection, response = self.get(path)
        with contextlib.closing(connection), response:
            assert response.read(1)
            yield response


@contextlib.contextmanager
def serving(directory: Path, *words: str) -> Iterator[Serving]:
    server = Serving(directory, list(words))
    try:
        yield server
    finally:
        kill(server.process)


@pytest.fixture(name="shop")
def shop_fixture(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def grace(under: str) -> list[str]:
    return [] if "grace" in SERVERS[under].lacks else ["--grace", "1"]


class TestStop:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("under", SERVERS)
    def test_a_stream_that_ticks(self, shop: Path, under: str, how: signal.Signals) -> None:
        """Its client stays, and the server ends all the same."""
        with (
            serving(shop, "shop:old", "--under", under, *grace(under)) as server,
            server.stream("/"),
        ):
            server.process.send_signal(how)

            # Without a lock, Granian's worker is a thread, and only a signal of our own ends it.
            own = () if threads_take_turns() or under != "granian" else (-signal.SIGALRM,)
            assert server.process.wait(PROCESS_PATIENCE) in (0, 130, 143, -how, *own), server.log()

    @pytest.mark.parametrize("app", ["old", "new"])
    @pytest.mark.parametrize("under", SERVERS)
    def test_a_stream_that_is_silent(self, shop: Path, under: str, app: str) -> None:
        """Nor does a thread of the app's hold the process that waits for what does not come."""
        with (
            serving(shop, f"shop:{app}", "--under", under, *grace(under)) as server,
            server.stream("/silent"),
        ):
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(PROCESS_PATIENCE)

    @pytest.mark.parametrize("under", SERVERS)
    def test_without_an_option_it_has_a_bound_too(self, shop: Path, under: str) -> None:
        """So that a terminal is not held up by a browser."""
        with serving(shop, "shop:old", "--under", under) as server, server.stream("/"):
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(PROCESS_PATIENCE)


class TestReload:
    @pytest.mark.parametrize(("app", "path"), [("old", "/"), ("old", "/silent"), ("new", "/")])
    @pytest.mark.parametrize("under", ["uvicorn", "hypercorn", "gunicorn"])
    def test_with_an_open_stream(self, shop: Path, under: str, app: str, path: str) -> None:
        """A browser that listens to events does not keep the code of before."""
        with serving(shop, f"shop:{app}", "--under", under, "--reload") as server:
            assert app.encode() == server.quick()
            with server.stream(path):
                changed = shop / "shop.py"
                changed.write_text(SHOP.replace(f'b"{app}"', 'b"changed"'))
                deadline = time.monotonic() + PROCESS_PATIENCE
                again = time.monotonic() + 3
                while server.quick() != b"changed":
                    assert time.monotonic() < deadline, server.log()
                    time.sleep(0.05)  # there is no signal for it
                    if time.monotonic() > again:
                        # A server that looked at the files only now has taken it for what was there before.
                        changed.touch()
                        again += 3
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(PROCESS_PATIENCE)

    @pytest.mark.parametrize(
        "mistake", ["def broken(:", "not_a_name", "raise SystemExit(0)", "del old, new", "old = None"]
    )
    @pytest.mark.parametrize("under", ["uvicorn", "hypercorn", "gunicorn"])
    def test_with_a_mistake_that_is_then_mended(self, shop: Path, under: str, mistake: str) -> None:
        """The server stays, says what is wrong, and serves what comes next."""
        with serving(shop, "shop:old", "--under", under, "--reload") as server:
            assert server.quick() == b"old"
            save_until(server, shop / "shop.py", f"{SHOP}\n\n{mistake}\n", 500, b"shop:old cannot be loaded")
            save_until(server, shop / "shop.py", SHOP.replace('b"old"', 'b"mended"'), 200, b"mended")

    @pytest.mark.parametrize("under", ["uvicorn", "hypercorn", "gunicorn"])
    def test_with_a_mistake_in_a_module_whose_error_the_app_raises_as_its_own(self, shop: Path, under: str) -> None:
        """The file that is to be mended is not the one that has raised last."""
        (shop / "shelf.py").write_text("")
        (shop / "shop.py").write_text(f"{IMPORT}\n\n{SHOP}")
        with serving(shop, "shop:old", "--under", under, "--reload") as server:
            assert server.quick() == b"old"
            save_until(server, shop / "shelf.py", "not_a_name\n", 500, b"shop:old cannot be loaded")
            save_until(server, shop / "shelf.py", "# mended\n", 200, b"old")

    @pytest.mark.parametrize("under", ["uvicorn", "hypercorn", "gunicorn"])
    def test_of_an_app_whose_thread_does_not_end(self, shop: Path, under: str) -> None:
        """It holds up the old process, which is then ended. The server is not."""
        with serving(shop, "shop:old", "--under", under, "--reload") as server:
            assert server.quick() == b"old"
            save_until(server, shop / "shop.py", THREAD + SHOP.replace('b"old"', 'b"with a thread"'), 200, b"with")
            save_until(server, shop / "shop.py", SHOP.replace('b"old"', 'b"without"'), 200, b"without")

    @pytest.mark.parametrize("under", ["uvicorn", "hypercorn"])
    def test_of_a_lifespan_that_fails(self, shop: Path, under: str) -> None:
        """In its startup and in its shutdown, perhaps with `sys.exit()`: the server stays, says what is wrong, and
        serves what comes next.
        """
        (shop / "shop.py").write_text(LIFESPAN)
        with serving(shop, "shop:app", "--under", under, "--reload") as server:
            assert server.quick() == b"served"
            save_until(server, shop / "shop.py", f"{LIFESPAN}fails = ['startup']\n", 500, b"shop:app has not started")
            save_until(server, shop / "shop.py", f"{LIFESPAN}fails = ['shutdown']\n", 200, b"served")
            save_until(server, shop / "shop.py", LIFESPAN.replace('b"served"', 'b"mended"'), 200, b"mended")
            save_until(
                server, shop / "shop.py", f"{LIFESPAN}fails = ['startup']\nexits = 'later'\n", 500, b"shop:app has"
            )
            save_until(server, shop / "shop.py", LIFESPAN.replace('b"served"', 'b"again"'), 200, b"again")
            save_until(server, shop / "shop.py", f"{LIFESPAN}exits = 'startup'\n", 500, b"shop:app has not started")
            save_until(server, shop / "shop.py", LIFESPAN, 200, b"served")
            save_until(server, shop / "shop.py", f"{GOES_ON}fails = ['startup']\n", 500, b"shop:app has not started")
            save_until(server, shop / "shop.py", STAYS, 200, b"served")
            save_until(server, shop / "shop.py", AT_ONCE, 500, b"shop:app has not started")
            save_until(server, shop / "shop.py", LIFESPAN.replace('b"served"', 'b"last"'), 200, b"last")
            log = server.log()
        assert "its startup failed: SystemExit('no startup here')\n" in log
        assert "Traceback" not in log
        for phase in ("startup", "shutdown"):
            assert f"bridge: shop:app: its {phase} failed: no {phase} here\n" in log


def save_until(server: Serving, file: Path, text: str, status: int, begins: bytes) -> None:
    """Save the file, and wait until the server answers so."""
    file.write_text(text)
    deadline = time.monotonic() + PROCESS_PATIENCE
    again = time.monotonic() + 3
    while True:
        assert server.process.poll() is None, server.log()
        assert time.monotonic() < deadline, server.log()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PROCESS_PATIENCE)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/quick")
            response = connection.getresponse()
            if status == response.status and response.read().startswith(begins):
                return
        time.sleep(0.05)  # there is no signal for it
        if time.monotonic() > again:
            # A server that looked at the files only now has taken it for what was there before.
            file.touch()
            again += 3
