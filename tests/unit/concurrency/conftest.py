"""Fixtures for what runs in threads."""

from collections.abc import Iterator

import pytest

from bridge._concurrency import wake_policy
from support.patience import PATIENCE
from support.pool_jobs import Pools


@pytest.fixture
def threads_share_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is the policy for threads that share a lock; without one it is not asked."""
    monkeypatch.setattr(wake_policy, "threads_take_turns", lambda: True)


@pytest.fixture
def pools(threads_share_a_lock: None) -> Iterator[Pools]:
    made = Pools()
    yield made
    for threads, jobs in made.made:
        for job in jobs:
            job.go.set()
        threads.close(None)
        assert threads.join(PATIENCE) == []
