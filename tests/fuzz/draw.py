"""Values made of the bytes that a fuzzer gives: the same bytes make the same values, with atheris or without."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# How often a piece is repeated where the fuzzer asks for a long one: what takes quadratic time shows there.
REPEATS = (16, 128, 1024)
# What numbers, lengths and ports are drawn from, beside small ones.
NUMBERS = (-1, 0, 1, 80, 443, 65535, 65536, 2**31, 2**63, 2**64, 10**30, True, 1.5, math.nan, math.inf)


class Draw:
    """Draws values from `data`; where it is used up, each byte is 0, and so each choice the first.

    `size` is how many characters and bytes the values have together.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.size = len(data)

    @property
    def left(self) -> bool:
        """Whether there are bytes to draw from."""
        return self._at < len(self._data)

    def byte(self) -> int:
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.byte() % len(choices)]

    def seldom(self) -> bool:
        """True for one byte value in eight, and not where the data is used up."""
        return self.byte() % 8 == 7

    def times(self, most: int) -> range:
        """For a loop: up to `most` rounds, and none where the data is used up."""
        return range(self.byte() % (most + 1))

    def raw(self) -> bytes:
        """Bytes: up to 63 of the data as they are, and now and then repeated."""
        head = self.byte()
        taken = self._data[self._at : self._at + head % 64]
        self._at += len(taken)
        if head >= 0xE0:
            taken *= REPEATS[head % 3]
        self.size += len(taken)
        return taken

    def native(self) -> str:
        """A native string of PEP 3333."""
        return self.raw().decode("latin-1")

    def text(self) -> str:
        """Any str: Unicode, lone surrogates too."""
        return self.raw().decode("utf-8", "surrogateescape") + self.pick(("", "", "", "\ud800", "\ufffd", "\u0131"))

    def number(self) -> Any:
        return self.pick(NUMBERS) if self.seldom() else self.byte()

    def anything(self, depth: int = 2) -> Any:
        """A value of any type that somebody might put there by mistake."""
        makers: list[Callable[[], Any]] = [
            lambda: None,
            self.number,
            self.raw,
            self.native,
            self.text,
            lambda: bytearray(self.raw()),
            lambda: memoryview(self.raw()),
            # Nothing that can be called: a function of the server's may raise what it likes.
            lambda: self.pick((object(), 1j, ..., "", b"", (), [], {})),
        ]
        if depth:
            makers += [
                lambda: [self.anything(depth - 1) for _ in self.times(4)],
                lambda: tuple(self.anything(depth - 1) for _ in self.times(4)),
                lambda: {self.native(): self.anything(depth - 1) for _ in self.times(3)},
                lambda: iter([self.anything(depth - 1) for _ in self.times(3)]),
            ]
        return self.pick(makers)()

    def mapping(self, makers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """A value for each key by its maker, but now and then no key, or any value."""
        made = {}
        for key, make in makers.items():
            how = self.byte()
            if how < 0xE8:
                made[key] = make()
            elif how < 0xF4:
                made[key] = self.anything()
        return made
