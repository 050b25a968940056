"""Django's test runner, with the deviations as expected failures."""

import faulthandler
import os
import re
import traceback
import unittest
from collections.abc import Iterator
from typing import Any

import django
from django.test.runner import DiscoverRunner

from django_suite import handlers
from django_suite.deviations import NOT_AS_ROOT, Deviation, expected

# A test that takes longer hangs: the stacks of all threads are shown, and the run ends.
PATIENCE = 120.0
# The views of Django's tests take a tenth of a second, after which bridge only begins to look for their clients.
SOON = 0.01


class Result(unittest.TextTestResult):
    """Takes a failure for an expected one only where it says what it has to."""

    deviations: dict[str, Deviation]

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        deviation = self.deviations.get(test.id())
        handlers.watch_after(PATIENCE if deviation is not None and deviation.unwatched else SOON)
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        deviation = self.deviations.get(test.id())
        said = "".join(traceback.format_exception(*err))
        if deviation is None or re.search(deviation.says, said):
            super().addExpectedFailure(test, err)
        else:
            wrong = AssertionError(f"this test is expected to fail, but with {deviation.says!r}")
            self.addFailure(test, (AssertionError, wrong.with_traceback(err[2]), err[2]))


class Runner(DiscoverRunner):
    """Marks the tests that deviate. `mode` is one of `deviations.MODES`."""

    mode = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deviations = expected(self.mode, django.VERSION[:2])

    def get_resultclass(self) -> type[Result]:
        return type("Result", (Result,), {"deviations": self.deviations})

    def build_suite(self, test_labels: Any = None, **kwargs: Any) -> Any:
        suite = super().build_suite(test_labels, **kwargs)
        missing = {name for name in self.deviations if name.split(".")[0] in test_labels}
        for test in _tests(suite):
            missing.discard(test.id())
            _mark(test, self.deviations)
        if missing:
            raise SystemExit(f"Django {django.__version__} has no such tests as {', '.join(sorted(missing))}")
        return suite


def _tests(suite: Any) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestCase):
            yield test
        else:
            yield from _tests(test)


def _mark(test: Any, deviations: dict[str, Deviation]) -> None:
    name = test.id()
    if name in deviations:
        test.__unittest_expecting_failure__ = True
    elif name in NOT_AS_ROOT and os.geteuid() == 0:
        method = test._testMethodName
        setattr(test, method, unittest.skip(NOT_AS_ROOT[name])(getattr(test, method)))
