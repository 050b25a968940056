"""What the table of the clauses is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Clause:
    """One clause in our own words, the tests that check it, and where we deviate or choose, how and why.

    A note on a clause that we do not deviate from says what we chose, or what the server does.
    """

    id: str
    text: str
    tests: tuple[str, ...] = ()
    note: str = ""
    deviates: bool = False


@dataclass(frozen=True)
class Section:
    """A section of a specification, or several, and the files with its tests."""

    title: str
    files: tuple[str, ...]
    clauses: tuple[Clause, ...]


def c(id: str, text: str, tests: str = "", *, note: str = "", deviates: bool = False) -> Clause:  # of the table
    """A clause; `tests` is class names, each followed by the tests in it that are meant."""
    names: list[str] = []
    group = ""
    for word in tests.split():
        if word.startswith("Test"):
            group = word
        else:
            names.append(f"{group}::test_{word}")
    return Clause(id, text, tuple(names), note, deviates)
