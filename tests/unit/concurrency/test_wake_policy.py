"""How many further threads a queue needs: from one look to the next, a millisecond later; and where they compute."""

import pytest

from bridge._concurrency import wake_policy
from bridge._concurrency.pool import ThreadPool, Worker
from bridge._concurrency.wake_policy import GilUsage, WakePolicy


class ScriptedPool:
    """A pool in which jobs come and end as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, saturated: bool, long: bool = False) -> None:
        monkeypatch.setattr(GilUsage, "reached", saturated)
        monkeypatch.setattr(GilUsage, "long", long)
        self.standstill = WakePolicy(GilUsage())
        self.completed = 5
        self.awake = 1
        self.standstill.begin(self.completed)

    def look(self, *, ended: int = 0, waiting: int = 100) -> int:
        self.completed += ended
        further = self.standstill.helpful(self.completed, waiting, self.awake)
        self.awake += further
        return further


def test_a_queue_that_stands_still_gets_twice_as_many_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = ScriptedPool(monkeypatch, saturated=False)

    assert [1, 2, 4, 8] == [threads.look() for _ in range(4)]
    assert 3 == threads.look(waiting=3)
    assert 0 == threads.look(ended=1)
    assert 1 == threads.look()


def test_where_they_compute_it_has_to_stand_still_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look that finds it moving is the first of eight."""
    threads = ScriptedPool(monkeypatch, saturated=True)

    assert [0] * 8 + [1, 2] == [threads.look() for _ in range(10)]
    assert [0] * 8 + [1] == [threads.look(ended=1), *(threads.look() for _ in range(8))]


def test_a_new_queue_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long another one had stood still before is nothing to it."""
    threads = ScriptedPool(monkeypatch, saturated=True)
    for _ in range(8):
        threads.look()
    threads.standstill.begin(threads.completed)

    assert [0] * 8 + [1] == [threads.look() for _ in range(9)]


def test_before_anything_has_ended_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may be busy with its own start."""
    threads = ScriptedPool(monkeypatch, saturated=True)
    threads.completed = 0
    threads.standstill.begin(0)

    assert [1, 2] == [threads.look(), threads.look()]


def test_a_queue_that_moves_gets_one_if_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the jobs are: its threads wait for something each time, and further ones can at the same time."""
    threads = ScriptedPool(monkeypatch, saturated=False)

    assert ([0] * 49 + [1]) * 3 == [threads.look(ended=1) for _ in range(150)]


def test_a_queue_that_ends_in_between_has_not_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = ScriptedPool(monkeypatch, saturated=False)
    for _ in range(40):
        threads.look(ended=1)
    threads.standstill.end()
    threads.standstill.begin(threads.completed)

    assert [0] * 49 == [threads.look(ended=1) for _ in range(49)]


@pytest.mark.parametrize(("long", "further"), [(True, 1), (False, 0)])
def test_where_one_computes_a_second_one_tries(monkeypatch: pytest.MonkeyPatch, long: bool, further: int) -> None:
    """Long jobs may compute without the interpreter lock. If they do, they are not saturated from then on."""
    threads = ScriptedPool(monkeypatch, saturated=True, long=long)

    assert further == sum(threads.look(ended=1) for _ in range(500))


class Clocks:
    """The three clocks, each moved by hand."""

    def __init__(self) -> None:
        self.now = self.used = self.thread = 0.0
        self.asked = 0

    def thread_time(self) -> float:
        self.asked += 1
        return self.thread


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(wake_policy, "monotonic", lambda: clocks.now)
    monkeypatch.setattr(wake_policy, "process_time", lambda: clocks.used)
    monkeypatch.setattr(wake_policy, "thread_time", clocks.thread_time)
    return clocks


class TestSaturation:
    """Where the process computes all the time, another thread would only wait for the lock."""

    def test_the_process_is_looked_at(self, clock: "Clocks") -> None:
        """By what it has used since the last look, which is some milliseconds ago."""
        saturation = GilUsage()
        saturation.share = 1.0
        for now, used, reached in (
            (0.004, 0.004, False),
            (0.010, 0.009, True),
            (0.011, 0.009, True),
            (0.1, 0.02, False),
        ):
            clock.now, clock.used = now, used
            saturation.look(now)
            assert reached is saturation.reached

    @pytest.mark.parametrize(
        ("awake", "computed", "reached"),
        [
            (1, 0.010, True),  # all the time
            (1, 0.001, False),  # most of the time it waits; it is somebody else who computes
            (4, 0.0025, True),  # four take turns with the lock
            (4, 0.0002, False),
            (2, 0.010, False),  # without the lock, each on a processor of its own
        ],
    )
    def test_the_threads_are_looked_at(self, clock: "Clocks", awake: int, computed: float, reached: bool) -> None:
        """By what each has used of its time, and how many there are."""
        saturation, worker = GilUsage(), Worker(ThreadPool(1, name="none"))
        saturation.began(worker, 0.0)
        for step in range(1, 41):
            clock.now = clock.used = 0.010 * step
            clock.thread = computed * step
            saturation.ended(worker, clock.now, awake)

        assert reached is saturation.reached

    def test_short_jobs_are_not_looked_at_one_by_one(self, clock: "Clocks") -> None:
        """What they took together counts, and a thread that has slept begins anew."""
        saturation, worker = GilUsage(), Worker(ThreadPool(1, name="none"))
        saturation.began(worker, 0.0)
        for step in range(1, 401):
            clock.now = clock.used = clock.thread = 0.001 * step
            saturation.ended(worker, clock.now, 1)
        assert clock.asked < 80
        share = saturation.share
        clock.now = 1000.0
        saturation.began(worker, clock.now)
        clock.now, clock.thread = 1000.01, clock.thread + 0.01
        saturation.ended(worker, clock.now, 1)

        assert 0.9 < share < saturation.share <= 1.0
