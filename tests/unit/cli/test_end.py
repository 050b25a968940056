"""What a command prints, and what becomes of what the application prints. At its end: test_main.py."""

import os
import sys
from pathlib import Path

import pytest

from bridge.cli._end import _Unbuffered, kept_apart, put


def test_what_the_application_prints_is_not_output(capsys: pytest.CaptureFixture[str]) -> None:
    with kept_apart() as out:
        sys.stdout.write("noise\n")
        put(out, "report\n")
    sys.stdout.write("after\n")

    assert ("report\nafter\n", "noise\n") == capsys.readouterr()


def test_what_its_child_processes_print_is_not_either(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, os.fdopen(os.dup(1), "w") as out, os.fdopen(os.dup(2), "w") as errors:
        for name, file in (("stdout", out), ("stderr", errors)):
            patch.setattr(sys, name, file)
            patch.setattr(sys, f"__{name}__", file)
        with kept_apart() as kept:
            os.write(1, b"noise\n")
            put(kept, "report\n")
        os.write(1, b"after\n")

    assert ("report\nafter\n", "noise\n") == capfd.readouterr()


def test_output_that_is_closed() -> None:
    with pytest.raises(SystemExit, match="standard output is closed"):
        put(None, "report\n")


def test_output_that_is_full() -> None:
    """Said once: closing the file does not raise for what is still in its buffer."""
    with Path("/dev/full").open("w") as full, pytest.raises(SystemExit, match="No space left on device"):
        put(full, "report\n")


def test_text_that_is_not_in_the_encoding_of_the_terminal() -> None:
    reads, writes = os.pipe()
    put(_Unbuffered(writes, "ascii"), "/ü\n")
    os.close(writes)
    with os.fdopen(reads) as written:
        assert "/\\xfc\n" == written.read()
