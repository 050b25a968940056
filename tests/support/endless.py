"""An application that is faster than its server."""

from collections import deque

CHUNK = b"x" * 1000


class EndlessItems(deque[bytes]):
    """The items of a `ByteQueue` whose writer has the next chunk there as soon as one is taken."""

    def __init__(self) -> None:
        super().__init__([CHUNK])
        self.taken = 0

    def popleft(self) -> bytes:
        self.taken += 1
        assert self.taken < 1000, "they are taken without end"
        return self[0]
