"""The run of Django's own tests: what it takes for a success, and what not. `make test-django` is the run itself."""

import importlib
import io
import os
import unittest
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(name="suite")
def suite_fixture() -> ModuleType:
    """The module with the table of the deviations."""
    return importlib.import_module("django_suite.deviations")


class Sample(unittest.TestCase):
    """What Django's tests may do."""

    __test__ = False  # it is not one of ours

    def test_passes(self) -> None:
        """As Django has it."""

    def test_deviates(self) -> None:
        """As Django does not have it."""
        raise AssertionError("1 != 2")

    def test_writes(self) -> None:
        """Expects that it may not."""
        assert os.geteuid() != 0


def outcome(suite: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, says: str | None) -> Any:
    """The result of one test, which is expected to say something, or (None) to pass."""
    runner = importlib.import_module("django_suite.runner")
    test = Sample(name)
    deviations = {} if says is None else {test.id(): suite.Deviation("title", "reason", says, (test.id(),))}
    monkeypatch.setattr(runner, "NOT_AS_ROOT", {Sample("test_writes").id(): "planned"})
    runner._mark(test, deviations)
    result = type("Result", (runner.Result,), {"deviations": deviations})(
        unittest.runner._WritelnDecorator(io.StringIO()), True, 0
    )
    test.run(result)
    return result


@pytest.mark.parametrize(
    ("name", "says", "fine"),
    [
        ("test_passes", None, True),
        ("test_passes", "1 != 2", False),
        ("test_deviates", None, False),
        ("test_deviates", "1 != 2", True),
        ("test_deviates", "1 != 3", False),
        ("test_writes", None, True),
    ],
)
def test_only_what_is_expected_is_a_success(
    suite: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, says: str | None, fine: bool
) -> None:
    """A failure that is not expected, or for another reason, and a success that is not expected fail the run."""
    result = outcome(suite, monkeypatch, name, says)

    assert fine == result.wasSuccessful()
    # Python 3.12.1 does not count a test that was skipped, as others do.
    assert 1 in (result.testsRun, len(result.skipped))


def test_each_deviation_is_in_a_package_that_is_run(suite: ModuleType) -> None:
    """And in a mode that there is; no test deviates twice."""
    for mode in suite.MODES:
        for version in ((5, 2), (6, 0), (6, 1)):
            expected = suite.expected(mode, version)
            assert {name.partition(".")[0] for name in expected} <= set(suite.PACKAGES)
    names = [(test, mode) for each in suite.DEVIATIONS for test in each.tests for mode in each.modes]
    assert len(names) == len(set(names))
    assert {mode for _, mode in names} == set(suite.MODES)
