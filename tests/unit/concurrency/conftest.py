"""Fixtures for what runs in threads."""

from collections.abc import Iterator

import pytest

from bridge._concurrency import wake_policy
from support.pool_jobs import Pools


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pools]:
    # What is tested is the policy for threads that share a lock; without one it is not asked.
    monkeypatch.setattr(wake_policy, "GIL", True)
    made = Pools()
    yield made
    for threads, jobs in made.made:
        for job in jobs:
            job.go.set()
        threads.close(None)
        assert threads.join(5) == []
