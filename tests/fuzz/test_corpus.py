"""The corpus of each fuzz target, run again; and the driver's own parts."""

import logging
from collections.abc import Iterator

import pytest

from fuzz import adapters
from fuzz.draw import Draw
from fuzz.targets import CORPUS, TARGETS, Slow, kept, run


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the targets do is worth many a line in the log; and the adapters end with the test."""
    logging.disable()
    yield
    adapters.close()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_still_holds(name: str) -> None:
    """Each input of the corpus is answered, or raises one of our errors."""
    inputs = kept(name)
    assert len(inputs) > 2
    for data in inputs:
        run(name, data)


def test_no_corpus_is_left_over() -> None:
    """Of a target that has another name now."""
    assert {f"{name}.txt" for name in TARGETS} == {path.name for path in CORPUS.iterdir()}


class TestDraw:
    def test_the_same_bytes_make_the_same_values(self) -> None:
        """So that an input can be run again."""
        data = bytes(range(256))
        assert Draw(data).anything() == Draw(data).anything()
        assert Draw(data).raw() == Draw(data).raw()

    def test_ends(self) -> None:
        """Where the data is used up, there are values all the same, and `left` says so."""
        draw = Draw(b"\1")
        assert draw.left
        assert [draw.byte(), draw.byte()] == [1, 0]
        assert not draw.left
        assert b"" == draw.raw()

    def test_counts_what_is_repeated(self) -> None:
        """By which the time that an input may take is measured."""
        draw = Draw(b"\xe1a")
        assert len(draw.raw()) > 1
        assert draw.size > len(b"\xe1a")


def test_an_input_that_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the processor's time, for its size."""
    monkeypatch.setitem(TARGETS, "endless", lambda draw: None)
    monkeypatch.setattr("fuzz.targets.CPU_BASE", -1.0)
    with pytest.raises(Slow, match="0 bytes"):
        run("endless", b"", measured=True)


def test_a_broken_invariant_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The targets do look: a stream that answers otherwise than BytesIO is noticed."""
    monkeypatch.setattr("fuzz.bodies._outcome", lambda stream, name, arguments: type(stream))
    with pytest.raises(AssertionError):
        run("body-input", b"\x01\x03abc\x00\x00\x01\x00\x00\x01")
