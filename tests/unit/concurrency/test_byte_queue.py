"""`ByteQueue`: what is counted, when it is full, and that the reader never sees more than was counted."""

from collections.abc import Iterator
from typing import Any

from bridge._concurrency.byte_queue import HIGH_WATER_BYTES, ITEM_OVERHEAD_BYTES, LOW_WATER_BYTES, ByteQueue
from support.waiting import Work


def test_a_new_one_is_empty() -> None:
    queue = ByteQueue()

    assert [] == list(queue.items)
    assert (0, 0) == (queue.written, queue.acknowledged)
    assert not queue.full
    assert not queue.in_flight


def test_items_stay_in_their_order() -> None:
    queue = ByteQueue()
    queue.put([b"1", None], 1)
    queue.put((b"2",), 1)

    assert [b"1", None, b"2"] == list(queue.items)


def test_a_put_counts_its_bytes_and_once_the_overhead() -> None:
    queue = ByteQueue()
    queue.put([b"12", b"345"], 5)
    assert ITEM_OVERHEAD_BYTES + 5 == queue.written
    queue.put([None], 0)
    assert 2 * ITEM_OVERHEAD_BYTES + 5 == queue.written


def test_a_mark_is_what_was_written_with_the_items_before_it() -> None:
    """Not with those that are counted by now."""
    queue = ByteQueue()
    queue.put_marked([b"12", None], 2)
    queue.written += 1

    assert [b"12", None, ITEM_OVERHEAD_BYTES + 2] == list(queue.items)


def test_it_is_full_above_the_mark_and_not_at_it() -> None:
    queue = ByteQueue()
    queue.put([b"x"], HIGH_WATER_BYTES - ITEM_OVERHEAD_BYTES)
    assert not queue.full
    queue.put([b""], 0)
    assert queue.full


def test_very_small_items_are_bounded_as_well() -> None:
    queue = ByteQueue()
    while not queue.full:
        queue.put([b""], 0)

    assert HIGH_WATER_BYTES // ITEM_OVERHEAD_BYTES + 1 == len(queue.items)


def test_what_is_acknowledged_makes_room_and_the_rest_stays_in_flight() -> None:
    """`acknowledge` is given what `written` was when the items were taken, not what it has become."""
    queue = ByteQueue()
    queue.put([b"x"], HIGH_WATER_BYTES)
    taken = queue.written
    queue.put([b"y"], 1)
    assert queue.full

    queue.acknowledge(taken)
    assert not queue.full
    assert queue.in_flight
    assert ITEM_OVERHEAD_BYTES + 1 == queue.written - queue.acknowledged

    queue.acknowledge(queue.written)
    assert not queue.in_flight


def test_a_writer_that_waits_is_woken_for_half_of_the_room_or_when_one_item_is_left() -> None:
    queue = ByteQueue()
    step = LOW_WATER_BYTES // 4 - ITEM_OVERHEAD_BYTES
    while not queue.full:
        queue.put([b"x"], step)
    left = []
    while queue.items:
        queue.items.popleft()
        queue.acknowledge_item(step)
        left.append((len(queue.items), queue.low))
    assert [
        (8, False),
        (7, False),
        (6, False),
        (5, False),
        (4, True),
        (3, True),
        (2, True),
        (1, True),
        (0, True),
    ] == left

    block = HIGH_WATER_BYTES - ITEM_OVERHEAD_BYTES
    queue.put([b"x"], block)
    queue.put([b"y"], block)
    queue.items.popleft()
    queue.acknowledge_item(block)
    assert queue.low

    queue.put([b"z"], block)
    queue.items.popleft()
    assert not queue.low  # what was taken is being sent, and there is no room yet


def test_who_takes_an_item_is_told_when_there_is_room_again() -> None:
    """Once; what is put at the same moment counts as there before."""
    queue = ByteQueue()
    queue.put([b"x"], HIGH_WATER_BYTES)
    queue.put([b"y"], HIGH_WATER_BYTES)
    queue.put([b"z"], 1)
    assert [False, True, False] == [queue.acknowledge_item(size) for size in (HIGH_WATER_BYTES, HIGH_WATER_BYTES, 1)]
    assert not queue.in_flight


def test_items_that_nobody_has_acknowledged_are_in_flight_though_they_were_taken() -> None:
    """Taken out of the queue is not dealt with: they are being sent."""
    queue = ByteQueue()
    queue.put([b"x"], 1)
    queue.items.clear()

    assert queue.in_flight


def test_it_counts_before_it_hands_over() -> None:
    """Else a reader could acknowledge more than was written, and the writer would have room without end."""
    queue = ByteQueue()
    counted: list[int] = []

    class Watching(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            counted.append(queue.written)
            return super().__iter__()

    queue.put(Watching([b"x"]), 1)

    assert [ITEM_OVERHEAD_BYTES + 1] == counted


def test_between_two_threads_nothing_is_lost_or_taken_before_it_is_counted() -> None:
    queue = ByteQueue()
    number = 20_000

    def write() -> None:
        for at in range(number):
            queue.put((at,), 10)

    writer = Work(write)
    taken: list[int] = []
    while len(taken) < number:
        while queue.items:
            taken.append(queue.items.popleft())
        assert len(taken) * (10 + ITEM_OVERHEAD_BYTES) <= queue.written
    writer.result()
    queue.acknowledge(queue.written)

    assert list(range(number)) == taken
    assert number * (10 + ITEM_OVERHEAD_BYTES) == queue.acknowledged
