"""How many further threads a queue needs: from one look to the next, a millisecond later."""

import pytest

from bridge._concurrency.wake_policy import GilUsage, WakePolicy


class Threads:
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
    threads = Threads(monkeypatch, saturated=False)

    assert [1, 2, 4, 8] == [threads.look() for _ in range(4)]
    assert 3 == threads.look(waiting=3)
    assert 0 == threads.look(ended=1)
    assert 1 == threads.look()


def test_where_they_compute_it_has_to_stand_still_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look that finds it moving is the first of eight."""
    threads = Threads(monkeypatch, saturated=True)

    assert [0] * 8 + [1, 2] == [threads.look() for _ in range(10)]
    assert [0] * 8 + [1] == [threads.look(ended=1), *(threads.look() for _ in range(8))]


def test_a_new_queue_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long another one had stood still before is nothing to it."""
    threads = Threads(monkeypatch, saturated=True)
    for _ in range(8):
        threads.look()
    threads.standstill.begin(threads.completed)

    assert [0] * 8 + [1] == [threads.look() for _ in range(9)]


def test_before_anything_has_ended_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may be busy with its own start."""
    threads = Threads(monkeypatch, saturated=True)
    threads.completed = 0
    threads.standstill.begin(0)

    assert [1, 2] == [threads.look(), threads.look()]


def test_a_queue_that_moves_gets_one_if_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the jobs are: its threads wait for something each time, and further ones can at the same time."""
    threads = Threads(monkeypatch, saturated=False)

    assert ([0] * 49 + [1]) * 3 == [threads.look(ended=1) for _ in range(150)]


def test_a_queue_that_ends_in_between_has_not_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(monkeypatch, saturated=False)
    for _ in range(40):
        threads.look(ended=1)
    threads.standstill.end()
    threads.standstill.begin(threads.completed)

    assert [0] * 49 == [threads.look(ended=1) for _ in range(49)]


@pytest.mark.parametrize(("long", "further"), [(True, 1), (False, 0)])
def test_where_one_computes_a_second_one_tries(monkeypatch: pytest.MonkeyPatch, long: bool, further: int) -> None:
    """Long jobs may compute without the interpreter lock. If they do, they are not saturated from then on."""
    threads = Threads(monkeypatch, saturated=True, long=long)

    assert further == sum(threads.look(ended=1) for _ in range(500))
