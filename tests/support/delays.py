"""A pytest plugin that makes threads late: what a test or the package expects of a quick thread fails with it.

    PYTHONPATH=tests python -m pytest -p support.delays --delays job,finish tests/adapters

Each delay holds up one step between a thread and a loop, as a busy machine does now and then, but every time.
"""

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from unittest import mock

import pytest

from bridge._asgi_to_wsgi.app_runner import AppRunner
from bridge._asgi_to_wsgi.request_events import RequestEvents
from bridge._asgi_to_wsgi.task import Task
from bridge._concurrency.calls import Call
from bridge._concurrency.loops import AsyncioLoop, TrioLoop
from bridge._concurrency.pool import ThreadPool, Worker
from bridge._concurrency.private_loop import PrivateLoop
from bridge._concurrency.server_thread import ServerThread
from support.waiting import Flag

_SLEEP: Final = (time.sleep,)  # within a tuple, where freezegun does not replace it
_TIMERS_LATE_SECONDS: Final = 0.05


class Step(NamedTuple):
    """A method that is late: before it begins, or with `after` once it has done its work."""

    owner: type
    method: str
    seconds: float
    after: bool = False


DELAYS: Final[Mapping[str, tuple[Step, ...]]] = MappingProxyType(
    {
        # A worker's thread has been started, and does not begin yet.
        "start": (Step(Worker, "main", 0.03),),
        # A worker has taken a call, and does not begin with it yet.
        "job": (Step(Call, "start_in", 0.02),),
        # The application has done its part, and the call has not ended yet.
        "finish": (Step(Call, "_finish", 0.02),),
        # A call has ended, and its worker still counts as busy.
        "return": (Step(ThreadPool, "next_job", 0.02),),
        # A worker, or a server's thread, has been woken, and does not get on yet.
        "wake": (
            Step(Worker, "wait", 0.01, after=True),
            Step(ServerThread, "await_wake", 0.005, after=True),
            Step(ServerThread, "await_readable", 0.005, after=True),
        ),
        # A thread is about to wake another one.
        "waker": (Step(Worker, "wake", 0.01), Step(ServerThread, "wake", 0.005)),
        # A thread has changed something, and has not told the loop yet.
        "post": (Step(AsyncioLoop, "post", 0.01), Step(TrioLoop, "post", 0.01)),
        # The loop has been told, and does not look yet.
        "deliver": (Step(AsyncioLoop, "deliver", 0.01), Step(Call, "run_on_loop", 0.005)),
        # The thread of the private loop has been started, and does not begin yet.
        "private-loop": (Step(PrivateLoop, "_main", 0.05),),
        # The task of a request begins late, takes each event late, and is late with its end.
        "task": (
            Step(Task, "run_on_loop", 0.03),
            Step(RequestEvents, "take", 0.005),
            Step(Task, "finish_response", 0.01),
            Step(AppRunner, "task_ended", 0.01),
        ),
        # A thread has taken from the other side, and looks late at what it has; the other side has gone on.
        "taken": (Step(Task, "next", 0.005, after=True), Step(Call, "read", 0.005, after=True)),
        # What has been written is on its way, and the writer does not get on yet; or its arrival is told late.
        "written": (
            Step(Call, "write", 0.005, after=True),
            Step(Task, "write", 0.005, after=True),
            Step(Call, "acknowledge", 0.005),
        ),
        # The thread of a server looks late at what the task has for it.
        "inbox": (Step(ServerThread, "expect_notice", 0.005), Step(ServerThread, "run_job", 0.005)),
        # Code of a test has said that it is there, and does not get on yet.
        "said": (Step(Flag, "set", 0.02, after=True),),
        # A test has been told, and looks late.
        "told": (Step(Flag, "wait", 0.02, after=True),),
    }
)
# Timers of the package are late.
TIMERS: Final = "timers"
NAMES: Final = (*DELAYS, TIMERS)


# Their subject is time: a simulated machine counts what each step takes.
EXEMPT: Final = ("test_simulated_loads.py",)


@contextmanager
def delayed(names: Iterable[str]) -> Iterator[Counter[str]]:
    """Make these steps late. What is yielded counts how often each has been."""
    met: Counter[str] = Counter()
    with ExitStack() as stack:
        for name in names:
            if name == TIMERS:
                stack.enter_context(_timers_late(met))
            for step in DELAYS.get(name, ()):
                late = _late(getattr(step.owner, step.method), step, met)
                stack.enter_context(mock.patch.object(step.owner, step.method, late))
        yield met


def label(step: Step) -> str:
    """What it is called where it is counted."""
    return f"{step.owner.__name__}.{step.method}"


def named(text: str) -> list[str]:
    """The names in `text`, with commas between. Raises `pytest.UsageError` for one that is none of `NAMES`."""
    names = [name for name in text.split(",") if name]
    if unknown := sorted(set(names) - set(NAMES)):
        raise pytest.UsageError(f"--delays knows {', '.join(NAMES)}; not {', '.join(unknown)}")
    return names


def _late(method: Callable[..., Any], step: Step, met: Counter[str]) -> Callable[..., Any]:
    name = label(step)

    @functools.wraps(method)
    def late(*args: Any, **kwargs: Any) -> Any:
        met[name] += 1
        if step.after:
            result = method(*args, **kwargs)
            _SLEEP[0](step.seconds)
            return result
        _SLEEP[0](step.seconds)
        return method(*args, **kwargs)

    return late


@contextmanager
def _timers_late(met: Counter[str]) -> Iterator[None]:
    begin = AsyncioLoop.__init__

    def late_loop(self: AsyncioLoop, loop: Any) -> None:
        begin(self, loop)
        in_time = self.call_later

        def call_later(seconds: float, function: Callable[..., object]) -> Any:
            met["AsyncioLoop.call_later"] += 1
            return in_time(seconds + _TIMERS_LATE_SECONDS, function)

        self.call_later = call_later

    def late_wait(kind: Any) -> Any:
        in_time = kind.wait_at_most

        async def wait_at_most(self: Any, seconds: float, waiter: Any) -> None:
            met[f"{kind.__name__}.wait_at_most"] += 1
            await in_time(self, seconds + _TIMERS_LATE_SECONDS, waiter)

        return mock.patch.object(kind, "wait_at_most", wait_at_most)

    with mock.patch.object(AsyncioLoop, "__init__", late_loop), late_wait(AsyncioLoop), late_wait(TrioLoop):
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--delays", default="", help=f"what is late, with commas between: {', '.join(NAMES)}")


def pytest_configure(config: pytest.Config) -> None:
    stack = ExitStack()
    stack.enter_context(delayed(named(config.getoption("delays"))))
    config.add_cleanup(stack.close)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    exempt = [item for item in items if config.getoption("delays") and item.path.name in EXEMPT]
    config.hook.pytest_deselected(items=exempt)
    items[:] = [item for item in items if item not in exempt]
