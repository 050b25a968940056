"""Fixtures that every test gets, and the event loops that a test can ask for."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio  # noqa: F401 - imported here, and so not first by a test: it registers with Hypothesis
import uvloop
from hypothesis import given
from hypothesis.strategies import none

from bridge import WsgiToAsgi
from support import debian
from support.patience import PATIENCE
from support.waiting import FOREVER, LogWatch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it starts in the background ignore Ctrl-C, and the servers of the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("real_servers.cases", "real_servers.hard_cases")


def pytest_collection_finish(session: pytest.Session) -> None:
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        debian.install(name for item in session.items for name in packages_of(item))
        if any(item.get_closest_marker("apache") for item in session.items):
            debian.make_apache_ready()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    debian.marked = packages_of(item)


def packages_of(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers("debian") for name in mark.args}


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"debug": True}), id="asyncio-debug"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run a test marked `anyio` on each kind of event loop; a test that is for one kind only parametrizes this."""
    return request.param


@pytest.fixture
def adapt() -> Iterator[Callable[..., WsgiToAsgi]]:
    """Makes adapters, which are closed after the test."""
    with contextlib.ExitStack() as adapters:

        def adapt(app: Any, **options: Any) -> WsgiToAsgi:
            options.setdefault("shutdown_timeout", 2.0)
            return adapters.enter_context(WsgiToAsgi(app, **options))

        yield adapt


@pytest.fixture
def log() -> Iterator[LogWatch]:
    """What the package logs while the test runs."""
    watch, logger = LogWatch(), logging.getLogger("bridge")
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    yield watch
    logger.setLevel(level)
    logger.removeHandler(watch)


@pytest.fixture
def nothing_waits_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads look around now and then; here they must not need to: a wake-up that is lost is a test that hangs."""
    monkeypatch.setattr("bridge._asgi_to_wsgi.task.POLL_SECONDS", FOREVER)
    monkeypatch.setattr("bridge._concurrency.calls._LOOP_CHECK_SECONDS", FOREVER)


@pytest.fixture
def heads_wait_for_bodies(monkeypatch: pytest.MonkeyPatch, nothing_waits_by_the_clock: None) -> None:
    """The head of a response does not leave alone because its body is late, for what a small response looks like."""
    monkeypatch.setattr("bridge._asgi_to_wsgi.task._HEAD_DELAY_SECONDS", FOREVER)


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch, nothing_waits_by_the_clock: None) -> None:
    """Threads look around all the time: for what no signal can tell."""
    monkeypatch.setattr("bridge._asgi_to_wsgi.task.POLL_SECONDS", 0.02)


@pytest.fixture(scope="session", autouse=True)
def temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Temporary files of this process go where nobody else's are, so that one left over is seen to be ours."""
    directory = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(directory))
        yield directory


@pytest.fixture(scope="session", autouse=True)
def made_once_a_process() -> None:
    """What libraries make at their first use and keep is not left over by the test that happens to be first."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))  # pipes for signals
    given(none())(lambda _: None)()  # its random numbers, which it looks for with gc.get_referrers()


@pytest.fixture(autouse=True)
def nothing_left_over(temporary_directory: Path, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that leaves threads of ours, open files, temporary files or pending asyncio tasks behind."""
    gc.collect()
    gc.freeze()  # what is tracked by the collector from here on is the test's own
    before = _seen_from_outside(temporary_directory)
    yield
    deadline = time.monotonic() + PATIENCE
    while left := _left_over(temporary_directory, before):
        # Daemon threads end after the call that stops them has returned.
        if time.monotonic() > deadline:
            pytest.fail(f"left over after the test: {', '.join(sorted(left))}")
        time.sleep(0.005)
    logged = [*caplog.get_records("call"), *caplog.records]  # `records` is what was logged since the test ended
    lost = [record.getMessage() for record in logged if _tells_of_a_lost_task(record)]
    assert not lost, f"asyncio complained during the test: {lost}"


def _left_over(temporary_directory: Path, before: set[str]) -> set[str]:
    gc.collect()
    # type() and not isinstance(): some objects compute their __class__, and do work for that.
    tasks = {repr(thing) for thing in gc.get_objects() if issubclass(type(thing), asyncio.Task) and not thing.done()}
    return tasks | (_seen_from_outside(temporary_directory) - before)


def _seen_from_outside(temporary_directory: Path) -> set[str]:
    threads = (f"thread {thread.name} {thread.native_id}" for thread in threading.enumerate())
    files = (f"file {path}" for path in temporary_directory.rglob("*"))
    return {*filter(lambda thread: thread.startswith("thread bridge-"), threads), *files, *_open_files()}


def _open_files() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            yield f"file descriptor {descriptor} {os.readlink(f'/proc/self/fd/{descriptor}')}"
        except FileNotFoundError:
            continue  # that of the listing itself


def _tells_of_a_lost_task(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return record.name == "asyncio" and ("was destroyed but it is pending" in message or "never retrieved" in message)
