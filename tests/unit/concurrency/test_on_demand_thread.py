"""A lease: a thread that is taken when it is first needed, for work of one request."""

import threading

from bridge._concurrency.jobs import PoolClosed
from bridge._concurrency.on_demand_thread import OnDemandThread
from bridge._concurrency.pool import ThreadPool
from support.waiting import Flag, LogWatch, until


class TestLease:
    def test_work_is_done_in_order_in_one_thread(self) -> None:
        """From the first to the last."""
        threads = ThreadPool(10, name="lease-test")
        done: list[tuple[str, int]] = []
        lease = OnDemandThread(lambda: threads, lambda: done.append(("enter", threading.get_ident())))
        for name in ("one", "two"):
            assert lease.run_here(lambda name=name: done.append((name, threading.get_ident())))  # type: ignore[misc]
        assert lease.end(lambda: done.append(("end", threading.get_ident())))
        until(lambda: len(done) == 4)
        assert ["enter", "one", "two", "end"] == [name for name, _ in done]
        assert 1 == len({ident for _, ident in done})
        assert not lease.run_here(lambda: None)
        threads.close(None)
        assert [] == threads.join(5)

    def test_none_was_needed(self) -> None:
        """Then none is taken for the end."""
        lease = OnDemandThread(_no_threads)
        assert not lease.taken
        assert not lease.end(lambda: None)
        assert not lease.run_here(lambda: None)

    def test_no_thread_can_be_had(self) -> None:
        """The work is done elsewhere; who asks later is told, and has to find another way."""
        threads = ThreadPool(1, name="lease-test")
        threads.close(None)
        lease = OnDemandThread(lambda: threads)
        done = Flag()
        assert lease.run_here(done.set)
        done.wait()
        assert not lease.run_here(lambda: None)
        assert not lease.end(lambda: None)

    def test_work_that_comes_while_no_thread_can_be_had_is_done(self) -> None:
        """From another thread, say: who has been told that it will be done waits for that."""
        late = Flag()
        outcomes: list[bool] = []

        def refuse() -> ThreadPool:
            outcomes.append(lease.run_here(late.set))
            raise PoolClosed("the threads are being stopped")

        lease = OnDemandThread(refuse)
        first = Flag()
        assert lease.run_here(first.set)
        assert [True] == outcomes
        first.wait()
        late.wait()
        assert not lease.end(lambda: None)

    def test_work_is_done_though_its_preparation_fails(self, log: LogWatch) -> None:
        """Closing a database connection of the thread may."""

        def fails() -> None:
            raise LookupError("planned")

        threads = ThreadPool(1, name="lease-test")
        lease = OnDemandThread(lambda: threads, fails)
        ended = Flag()
        assert lease.run_here(lambda: None)
        assert lease.end(ended.set)
        ended.wait()
        until(lambda: not threads.busy)
        assert "LookupError: planned" in log.wait_for("preparing", level=30)
        threads.close(None)
        assert [] == threads.join(5)


def _no_threads() -> ThreadPool:
    raise AssertionError("no thread is needed")
