"""How many further threads a queue needs, from one look to the next, a millisecond later; and how long jobs are."""

import pytest

from bridge._concurrency import wake_policy
from bridge._concurrency.wake_policy import JobLengths, WakePolicy


class ScriptedPool:
    """A pool in which jobs come and end as the test says."""

    def __init__(self) -> None:
        self.policy = WakePolicy()
        self.completed = 5
        self.policy.begin(self.completed)

    def look(self, *, ended: int = 0, waiting: int = 100) -> int:
        self.completed += ended
        return self.policy.helpful(self.completed, waiting)


def test_a_queue_that_stands_still_gets_twice_as_many_each_time() -> None:
    threads = ScriptedPool()

    assert [1, 2, 4, 8] == [threads.look() for _ in range(4)]
    assert 3 == threads.look(waiting=3)
    assert 0 == threads.look(ended=1)
    assert 1 == threads.look()


def test_what_had_ended_before_is_no_progress_of_a_new_queue() -> None:
    threads = ScriptedPool()
    threads.completed = 9
    threads.policy.begin(9)

    assert [1, 2] == [threads.look(), threads.look()]


def test_a_queue_that_moves_gets_one_if_it_lasts() -> None:
    """However short the jobs are: its threads wait for something each time, and further ones can at the same time."""
    threads = ScriptedPool()

    assert ([0] * 49 + [1]) * 3 == [threads.look(ended=1) for _ in range(150)]


def test_a_queue_that_ends_in_between_has_not_lasted() -> None:
    threads = ScriptedPool()
    for _ in range(40):
        threads.look(ended=1)
    threads.policy.end()
    threads.policy.begin(threads.completed)

    assert [0] * 49 == [threads.look(ended=1) for _ in range(49)]


@pytest.mark.usefixtures("threads_share_a_lock")
class TestJobLengths:
    def test_most_of_the_last_ones_count(self) -> None:
        lengths = JobLengths()
        lengths.add(0.002, None, 0.0)
        assert not lengths.long
        for _ in range(9):
            lengths.add(0.002, None, 0.0)
        assert lengths.long
        for _ in range(9):
            lengths.add(0.0001, None, 0.0)
        assert not lengths.long

    def test_without_a_lock_all_are_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread is woken for each: it can run."""
        monkeypatch.setattr(wake_policy, "threads_take_turns", lambda: False)
        lengths = JobLengths()
        for _ in range(20):
            lengths.add(0.0001, "/", 0.0)

        assert lengths.long

    def test_a_kind_that_was_long_three_times_is_foreseen(self) -> None:
        lengths = JobLengths()
        seen = []
        for _ in range(4):
            lengths.add(0.1, "/slow", 0.0)
            lengths.add(0.0001, "/quick", 0.0)
            seen.append(lengths.blocks("/slow"))

        assert seen == [False, False, True, True]
        assert not lengths.blocks("/quick")
        assert not lengths.blocks("/other")

    def test_a_kind_that_is_short_again_is_no_longer_foreseen(self) -> None:
        """However long it was long: soon."""
        lengths = JobLengths()
        for _ in range(100):
            lengths.add(0.1, "/slow", 0.0)
        seen = []
        for _ in range(3):
            lengths.add(0.0001, "/slow", 0.0)
            seen.append(lengths.blocks("/slow"))

        assert seen == [True, False, False]
        assert not lengths.known

    def test_jobs_without_a_kind_are_not_foreseen(self) -> None:
        lengths = JobLengths()
        for _ in range(9):
            lengths.add(0.1, None, 0.0)

        assert not lengths.blocks(None)

    def test_kinds_are_bounded_and_those_of_late_are_kept(self) -> None:
        """A site may have any number of paths, and a client may make some up."""
        lengths = JobLengths()
        for number in range(5000):
            lengths.add(0.1, f"/reports/{number}", 0.0)
            if number % 100 == 0:
                lengths.add(0.1, "/slow", 0.0)

        assert len(lengths.known) == 1000
        assert lengths.blocks("/slow")

    def test_a_kind_that_computes_is_not_one_that_blocks(self) -> None:
        """That it computes is known from the second time on, because from then on it is measured."""
        lengths = JobLengths()
        lengths.add(0.1, "/report", 0.0)
        for _ in range(9):
            lengths.add(0.1, "/report", 0.03)

        assert "/report" in lengths.known
        assert not lengths.blocks("/report")
        assert lengths.long

    def test_a_kind_that_blocks_in_place_of_computing_is_one_that_blocks(self) -> None:
        lengths = JobLengths()
        for computed in (0.1, 0.1, 0.001, 0.001):
            lengths.add(0.1, "/report", computed)

        assert lengths.blocks("/report")

    def test_a_kind_that_computes_in_place_of_blocking_is_none(self) -> None:
        lengths = JobLengths()
        for computed in (0.001, 0.001, 0.001, 0.1):
            lengths.add(0.1, "/report", computed)

        assert not lengths.blocks("/report")
