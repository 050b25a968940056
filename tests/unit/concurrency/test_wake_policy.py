"""How many further threads a queue needs, from one look to the next, a millisecond later; and how long jobs are."""

import pytest

from bridge._concurrency import wake_policy
from bridge._concurrency.wake_policy import JobLengths, LockUsage, WakePolicy


class ScriptedPool:
    """A pool in which jobs come and end as the test says."""

    def __init__(self) -> None:
        self.policy = WakePolicy()
        self.completed = 5
        self.policy.begin(self.completed)

    def look(self, *, ended: int = 0, waiting: int = 100, used_up: bool = False, tries: bool = False) -> int:
        self.completed += ended
        return self.policy.helpful(self.completed, waiting, used_up=used_up, tries=tries)


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


def test_where_the_lock_is_used_up_a_queue_has_to_stand_still_for_longer() -> None:
    """No job may end for some milliseconds though none blocks. But one that blocks all threads is found in the end."""
    threads = ScriptedPool()

    assert [0] * 8 + [1, 2, 4] == [threads.look(used_up=True) for _ in range(11)]
    assert [0] * 100 == [threads.look(ended=1, used_up=True) for _ in range(100)]


def test_where_the_lock_seems_to_be_used_up_one_thread_is_tried() -> None:
    """What computes without the lock, alone, looks the same from outside."""
    threads = ScriptedPool()

    assert [0] * 49 + [1] == [threads.look(ended=1, used_up=True, tries=True) for _ in range(50)]


class Clocks:
    """The clocks of a process and of one of its threads, as the test sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.process = self.thread = 100.0
        monkeypatch.setattr(wake_policy, "monotonic", lambda: self.now)
        monkeypatch.setattr(wake_policy, "process_time", lambda: self.process)
        monkeypatch.setattr(wake_policy, "thread_time", lambda: self.thread)
        self.usage = LockUsage()
        self.looked = self.looked_computed = 0.0
        self.usage.began(self, self.now)

    def pass_time(self, *, thread: float, process: float, awake: int, seconds: float = 0.5) -> bool:
        """Let jobs of ten milliseconds end for so long; the shares are those of a processor. Whether it is used up."""
        for _ in range(int(seconds / 0.01)):
            self.now += 0.01
            self.thread += thread * 0.01
            self.process += process * 0.01
            self.usage.ended(self, self.now, awake)
        return self.usage.used_up


@pytest.mark.usefixtures("threads_share_a_lock")
class TestLockUsage:
    @pytest.mark.parametrize(
        ("thread", "process", "awake", "used_up"),
        [
            pytest.param(0.1, 1.0, 10, True, id="ten threads that take turns"),
            pytest.param(0.9, 1.0, 1, True, id="one that computes"),
            pytest.param(0.02, 0.2, 10, False, id="ten that wait"),
            pytest.param(0.02, 1.0, 10, False, id="ten that wait while the loop computes"),
            pytest.param(0.9, 1.9, 2, False, id="two that compute without the lock"),
        ],
    )
    def test_it_is_used_up(
        self, thread: float, process: float, awake: int, used_up: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clocks = Clocks(monkeypatch)

        assert used_up == clocks.pass_time(thread=thread, process=process, awake=awake)

    def test_it_is_known_at_once_that_the_process_has_stopped_computing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever its threads did before: they may all be blocked now."""
        clocks = Clocks(monkeypatch)
        assert clocks.pass_time(thread=0.9, process=1.0, awake=1)
        clocks.now += 0.01
        clocks.usage.look(clocks.now)

        assert not clocks.usage.used_up

    def test_without_a_lock_it_is_never_used_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wake_policy, "threads_take_turns", lambda: False)
        clocks = Clocks(monkeypatch)

        assert not clocks.pass_time(thread=0.9, process=1.0, awake=1)


@pytest.mark.usefixtures("threads_share_a_lock")
class TestJobLengths:
    def test_most_of_the_last_ones_count(self) -> None:
        lengths = JobLengths()
        lengths.add(0.002, None, 0.0, 1)
        assert not lengths.long
        for _ in range(9):
            lengths.add(0.002, None, 0.0, 1)
        assert lengths.long
        for _ in range(9):
            lengths.add(0.0001, None, 0.0, 1)
        assert not lengths.long

    def test_without_a_lock_all_are_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread is woken for each: it can run."""
        monkeypatch.setattr(wake_policy, "threads_take_turns", lambda: False)
        lengths = JobLengths()
        for _ in range(20):
            lengths.add(0.0001, "/", 0.0, 1)

        assert lengths.long

    def test_a_kind_that_was_long_three_times_is_foreseen(self) -> None:
        lengths = JobLengths()
        seen = []
        for _ in range(4):
            lengths.add(0.1, "/slow", 0.0, 1)
            lengths.add(0.0001, "/quick", 0.0, 1)
            seen.append(lengths.blocks("/slow"))

        assert seen == [False, False, True, True]
        assert not lengths.blocks("/quick")
        assert not lengths.blocks("/other")

    def test_a_kind_that_is_short_again_is_no_longer_foreseen(self) -> None:
        """However long it was long: soon."""
        lengths = JobLengths()
        for _ in range(100):
            lengths.add(0.1, "/slow", 0.0, 1)
        seen = []
        for _ in range(3):
            lengths.add(0.0001, "/slow", 0.0, 1)
            seen.append(lengths.blocks("/slow"))

        assert seen == [True, False, False]
        assert not lengths.known

    def test_jobs_without_a_kind_are_not_foreseen(self) -> None:
        lengths = JobLengths()
        for _ in range(9):
            lengths.add(0.1, None, 0.0, 1)

        assert not lengths.blocks(None)

    def test_kinds_are_bounded_and_those_of_late_are_kept(self) -> None:
        """A site may have any number of paths, and a client may make some up."""
        lengths = JobLengths()
        for number in range(5000):
            lengths.add(0.1, f"/reports/{number}", 0.0, 1)
            if number % 100 == 0:
                lengths.add(0.1, "/slow", 0.0, 1)

        assert len(lengths.known) == 1000
        assert lengths.blocks("/slow")

    def test_a_kind_that_computes_is_not_one_that_blocks(self) -> None:
        """That it computes is known from the second time on, because from then on it is measured."""
        lengths = JobLengths()
        lengths.add(0.1, "/report", 0.0, 1)
        for _ in range(9):
            lengths.add(0.1, "/report", 0.03, 1)

        assert "/report" in lengths.known
        assert not lengths.blocks("/report")
        assert lengths.long

    def test_a_kind_that_waits_for_its_turn_is_not_one_that_blocks(self) -> None:
        """Thirty at once that compute half a millisecond each wait for each other, not for something else."""
        lengths = JobLengths()
        lengths.add(0.015, "/", 0.0, 30)
        for _ in range(9):
            lengths.add(0.015, "/", 0.0005, 30)
        assert not lengths.blocks("/")

        for _ in range(9):
            lengths.add(0.1, "/", 0.0005, 30)
        assert lengths.blocks("/")

    def test_a_kind_that_takes_some_milliseconds_is_not_one_that_blocks(self) -> None:
        """The loop may have held the lock for so long."""
        lengths = JobLengths()
        for _ in range(9):
            lengths.add(0.008, "/", 0.0, 1)

        assert not lengths.blocks("/")
        assert lengths.long

    def test_a_kind_that_blocks_in_place_of_computing_is_one_that_blocks(self) -> None:
        lengths = JobLengths()
        for computed in (0.1, 0.1, 0.001, 0.001):
            lengths.add(0.1, "/report", computed, 1)

        assert lengths.blocks("/report")

    def test_a_kind_that_computes_in_place_of_blocking_is_none(self) -> None:
        lengths = JobLengths()
        for computed in (0.001, 0.001, 0.001, 0.1):
            lengths.add(0.1, "/report", computed, 1)

        assert not lengths.blocks("/report")
