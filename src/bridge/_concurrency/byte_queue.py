"""Counts, in bytes, what one side of a hand-over has written and the other side has not dealt with yet."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

# What an item counts in addition to its bytes, so that very small items are limited too.
ITEM_OVERHEAD_BYTES: Final = 64
# Bytes that may be in flight before the writer has to wait: 64 KiB, as in uvicorn's flow control and asyncio's
# transports. An item of that size, such as a block of a file, leaves room for the next, which is made meanwhile.
HIGH_WATER_BYTES: Final = 64 * 1024 + ITEM_OVERHEAD_BYTES
# A writer that waits is woken when so few are left. If each item that is taken woke it, it would write one, and wait.
LOW_WATER_BYTES: Final = HIGH_WATER_BYTES // 2


class ByteQueue:
    """Items on their way from one writer to one reader, in different threads. It never waits.

    `written` belongs to the writer and `acknowledged` to the reader: each is changed by its own side only, and both
    only grow. The writer counts before it hands the items over. So what the reader finds is never more than what was
    counted, and what it acknowledges never more than what was written.
    """

    __slots__ = ("acknowledged", "items", "written")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.written = self.acknowledged = 0

    @property
    def full(self) -> bool:
        """Whether more than `HIGH_WATER_BYTES` are in flight, so that the writer has to wait."""
        return self.written - self.acknowledged > HIGH_WATER_BYTES

    @property
    def low(self) -> bool:
        """Whether it is time to wake a writer that waits for room. The last item leaves time to make the next."""
        in_flight = self.written - self.acknowledged
        return in_flight <= LOW_WATER_BYTES or (len(self.items) == 1 and in_flight <= HIGH_WATER_BYTES)

    @property
    def in_flight(self) -> bool:
        """Whether anything that was written has not been dealt with yet."""
        return self.written != self.acknowledged

    def put(self, items: Sequence[object], size: int) -> None:
        """Hand over `items`, of `size` bytes together. The writer's side."""
        self.written += size + ITEM_OVERHEAD_BYTES
        self.items.extend(items)

    def put_marked(self, items: Sequence[object], size: int) -> None:
        """Like `put`, and then adds the new value of `written` as the last item.

        The reader that has taken this number may acknowledge it. To look at `written` instead would acknowledge what
        the writer has counted and not handed over yet.
        """
        self.written = written = self.written + size + ITEM_OVERHEAD_BYTES
        self.items.extend((*items, written))

    def acknowledge_item(self, size: int) -> bool:
        """Note that one item has been dealt with. Returns whether there was no room before that, and is now.

        What the writer puts meanwhile counts as put before: it may have seen that there is no room.
        """
        before = self.acknowledged
        self.acknowledged = before + size + ITEM_OVERHEAD_BYTES
        return self.written - before > HIGH_WATER_BYTES and not self.full

    def acknowledge(self, written: int) -> None:
        """Note that everything put until `written` had this value has been dealt with. The reader's side."""
        self.acknowledged = written
