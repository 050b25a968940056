"""The settings of Django's own test suite, with the runner that knows the deviations."""

from test_sqlite import *  # noqa: F403  # of Django's tests/

TEST_RUNNER = "django_suite.runner.Runner"
