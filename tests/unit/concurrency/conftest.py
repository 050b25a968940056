"""Fixtures for what runs in threads."""

from collections.abc import Iterator

import pytest

from support.patience import PATIENCE
from support.pool_jobs import Pools


@pytest.fixture
def pools() -> Iterator[Pools]:
    made = Pools()
    yield made
    for threads, jobs in made.made:
        for job in jobs:
            job.go.set()
        threads.close(None)
        assert threads.join(PATIENCE) == []
