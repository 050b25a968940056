"""The real pool of worker threads on a machine that is simulated: a clock of its own, one interpreter lock, one loop.

Each worker is a greenlet, which runs the code of the pool as a thread would. What costs time in reality costs time on
the clock of the simulation: computing needs the interpreter lock, which goes to whoever has waited longest, and from
one who computes for long after five milliseconds; a thread that is woken takes a while to get up. So a load of ten
seconds takes a fraction of one, and gives the same figures each time.
"""

import heapq
import itertools
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from queue import Empty
from types import SimpleNamespace
from typing import Any, Final

import pytest
from greenlet import greenlet

from bridge._concurrency import pool, wake_policy
from bridge._concurrency.jobs import JobThread, current
from bridge._concurrency.pool import ThreadPool

SWITCH_SECONDS: Final = 0.005  # sys.getswitchinterval()
WAKE_SECONDS: Final = 40e-6  # from the call that wakes a thread until that asks for the lock
SUBMIT_SECONDS: Final = 35e-6  # what the loop computes for a request, and for its answer
ANSWER_SECONDS: Final = 20e-6
LOOK_SECONDS: Final = 0.001
CLIENT_SECONDS: Final = 50e-6  # from an answer until the client's next request is there


@dataclass
class Load:
    """Clients that each send one request after the other. Such a request computes with the lock, then without it on a
    processor of its own, and then blocks.
    """

    clients: int
    computes: float = 0.0
    computes_freely: float = 0.0
    blocks: float = 0.0
    path: Callable[[int], str] = lambda _number: "/"
    pause: float = CLIENT_SECONDS
    # Seconds that each request took, in the order of their ends.
    took: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The milliseconds that this share of the requests took at most."""
        return sorted(self.took)[int(share * (len(self.took) - 1))] * 1000


class _Inbox:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._tokens = 0
        self._sleeper: Any = None

    def put(self, _token: None) -> None:
        self._tokens += 1
        if self._sleeper is not None:
            sleeper, self._sleeper = self._sleeper, None
            self._machine.wakes += 1
            self._machine.at(WAKE_SECONDS, lambda: self._machine.resume(sleeper))

    def get(self, timeout: float) -> None:
        if not self._tokens:
            self._sleeper = me = greenlet.getcurrent()
            machine = self._machine
            machine.release()
            number = machine.at(timeout, lambda: self._expire(me))
            machine.hub.switch()
            machine.cancel(number)
        if not self._tokens:
            raise Empty
        self._tokens -= 1

    def _expire(self, sleeper: Any) -> None:
        if self._sleeper is sleeper:
            self._sleeper = None
            self._machine.resume(sleeper)


class _Thread:
    """In place of `threading.Thread`."""

    def __init__(self, machine: "Machine", target: Callable[[], None], name: str) -> None:
        self.name = name
        self.ident: int | None = None
        self._machine = machine
        self._target = target

    def start(self) -> None:
        self.ident = id(self)
        self._machine.wakes += 1
        self._machine.started += 1
        new = greenlet(self._main, parent=self._machine.hub)
        self._machine.at(WAKE_SECONDS, lambda: self._machine.resume(new))

    def _main(self) -> None:
        self._target()
        self._machine.release()


@dataclass
class _Request:
    machine: "Machine"
    load: Load
    number: int
    sent: float

    @property
    def kind(self) -> Hashable:
        return self.load.path(self.number)

    def run(self, thread: JobThread) -> None:
        if self.load.computes:
            self.machine.compute(self.load.computes)
        if self.load.computes_freely:
            self.machine.compute_freely(self.load.computes_freely)
        if self.load.blocks:
            self.machine.sleep(self.load.blocks)
        self.machine.post(lambda: self.machine.answer(self))

    def dropped(self) -> None:
        raise AssertionError("the pool is not closed")


class Machine:
    """One process with a loop and a pool of `limit` threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int = 40) -> None:
        self.now = 1000.0
        self.wakes = self.started = self.switches = 0
        self.hub = greenlet.getcurrent()
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()
        # Those that wait for the interpreter lock, and who has it.
        self._waiting: deque[Any] = deque()
        self._holder: Any = None
        self._posted: deque[Callable[[], object]] = deque()
        self._loop_sleeps = False
        self._growing = False
        self._until = 0.0
        self._computed: defaultdict[Any, float] = defaultdict(float)
        monkeypatch.setattr(wake_policy, "threads_take_turns", lambda: True)  # on this machine they do
        monkeypatch.setattr(pool, "monotonic", lambda: self.now)
        monkeypatch.setattr(current, "thread", None)  # to which each worker sets it: all are of one thread
        monkeypatch.setattr(wake_policy, "monotonic", lambda: self.now)
        monkeypatch.setattr(wake_policy, "process_time", lambda: sum(self._computed.values()))
        for module in (pool, wake_policy):
            monkeypatch.setattr(module, "thread_time", lambda: self._computed[greenlet.getcurrent()])
        monkeypatch.setattr(pool, "SimpleQueue", lambda: _Inbox(self))
        threads = SimpleNamespace(
            Thread=lambda target, name, **_: _Thread(self, target, name), Lock=threading.Lock, Event=threading.Event
        )
        monkeypatch.setattr(pool, "threading", threads)
        self.pool = ThreadPool(limit, name="simulated")
        self._loop = greenlet(self._run_loop, parent=self.hub)

    def run(self, *loads: Load, seconds: float) -> None:
        """Let all clients begin, and serve them for so long; what is then under way is served to its end."""
        self._until = self.now + seconds
        numbers = itertools.count()
        for load in loads:
            for client in range(load.clients):
                # They do not come in step.
                self.at(client * 13e-6, lambda load=load: self._send(load, next(numbers)))  # type: ignore[misc]
        self.resume(self._loop)
        while self._events:
            moment, number, function = heapq.heappop(self._events)
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            if moment > self._until and not (self.pool.busy or self.pool.waiting or self._posted):
                return
            assert moment < self._until + 60, f"stands still: {self.pool.busy} busy, {self.pool.waiting} waiting"
            self.now = max(self.now, moment)
            function()

    # -- time

    def at(self, seconds: float, function: Callable[[], object]) -> int:
        number = next(self._numbers)
        heapq.heappush(self._events, (self.now + seconds, number, function))
        return number

    def cancel(self, number: int) -> None:
        self._cancelled.add(number)

    def compute(self, seconds: float) -> None:
        """Compute with the lock, which others get in between when they have waited for long enough."""
        self._computed[greenlet.getcurrent()] += seconds
        while seconds > 0:
            part = min(seconds, SWITCH_SECONDS)
            self._pass(part)
            seconds -= part
            if seconds > 0 and self._waiting:
                self.resume(greenlet.getcurrent())
                self.release()
                self.hub.switch()

    def compute_freely(self, seconds: float) -> None:
        """Compute without the lock, as C code does that has released it; there are processors enough."""
        self._computed[greenlet.getcurrent()] += seconds
        self.sleep(seconds)

    def sleep(self, seconds: float) -> None:
        """Block without the lock."""
        me = greenlet.getcurrent()
        self.at(seconds, lambda: self.resume(me))
        self.release()
        self.hub.switch()

    def _pass(self, seconds: float) -> None:
        me = greenlet.getcurrent()
        self.at(seconds, me.switch)
        self.hub.switch()

    # -- the interpreter lock

    def resume(self, thread: Any) -> None:
        """Let a thread go on as soon as it has the lock."""
        self._waiting.append(thread)
        if self._holder is None:
            self._hand_over()

    def release(self) -> None:
        """The running thread gives the lock up."""
        self._holder = None
        self.at(0, self._hand_over)

    def _hand_over(self) -> None:
        if self._holder is None and self._waiting:
            self._holder = self._waiting.popleft()
            self.switches += 1
            self._holder.switch()

    # -- the loop

    def post(self, function: Callable[[], object]) -> None:
        """Have the loop call it."""
        self._posted.append(function)
        if self._loop_sleeps:
            self._loop_sleeps = False
            self.at(WAKE_SECONDS, lambda: self.resume(self._loop))

    def _run_loop(self) -> None:
        while True:
            while self._posted:
                self._posted.popleft()()
            self._loop_sleeps = True
            self.release()
            self.hub.switch()

    def _send(self, load: Load, number: int) -> None:
        request = _Request(self, load, number, self.now)
        self.post(lambda: self._submit(request))

    def _submit(self, request: _Request) -> None:
        self.compute(SUBMIT_SECONDS)
        if self.pool.submit(request, eager=False) and not self._growing:
            self._growing = True
            self.at(LOOK_SECONDS, lambda: self.post(self._look))

    def _look(self) -> None:
        self._growing = self.pool.grow()
        if self._growing:
            self.at(LOOK_SECONDS, lambda: self.post(self._look))

    def answer(self, request: _Request) -> None:
        self.compute(ANSWER_SECONDS)
        load = request.load
        load.took.append(self.now - request.sent)
        if self.now < self._until:
            self.at(load.pause, lambda: self._send(load, request.number + load.clients))
