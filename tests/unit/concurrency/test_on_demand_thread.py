"""`OnDemandThread`: a thread that is taken when it is first needed, for work of one request."""

import threading

from bridge._concurrency.jobs import PoolClosed
from bridge._concurrency.on_demand_thread import OnDemandThread
from bridge._concurrency.pool import ThreadPool
from support.patience import PATIENCE
from support.waiting import Flag, LogWatch, until


class TestOnDemandThread:
    def test_work_is_done_in_order_in_one_thread(self) -> None:
        """From the first to the last."""
        pool = ThreadPool(10, name="on-demand-test")
        done: list[tuple[str, int]] = []
        thread = OnDemandThread(lambda: pool, lambda: done.append(("enter", threading.get_ident())))
        for name in ("one", "two"):
            assert thread.submit(lambda name=name: done.append((name, threading.get_ident())))  # type: ignore[misc]
        assert thread.end(lambda: done.append(("end", threading.get_ident())))
        until(lambda: len(done) == 4)
        assert ["enter", "one", "two", "end"] == [name for name, _ in done]
        assert 1 == len({ident for _, ident in done})
        assert not thread.submit(lambda: None)
        pool.close(None)
        assert [] == pool.join(PATIENCE)

    def test_none_was_needed(self) -> None:
        """Then none is taken for the end."""
        thread = OnDemandThread(_no_threads)
        assert not thread.taken
        assert not thread.end(lambda: None)
        assert not thread.submit(lambda: None)

    def test_no_thread_can_be_had(self) -> None:
        """The work is done elsewhere; who asks later is told, and has to find another way."""
        pool = ThreadPool(1, name="on-demand-test")
        pool.close(None)
        thread = OnDemandThread(lambda: pool)
        done = Flag()
        assert thread.submit(done.set)
        done.wait()
        assert not thread.submit(lambda: None)
        assert not thread.end(lambda: None)

    def test_work_that_comes_while_no_thread_can_be_had_is_done(self) -> None:
        """From another thread, say: who has been told that it will be done waits for that."""
        late = Flag()
        outcomes: list[bool] = []

        def refuse() -> ThreadPool:
            outcomes.append(thread.submit(late.set))
            raise PoolClosed("the threads are being stopped")

        thread = OnDemandThread(refuse)
        first = Flag()
        assert thread.submit(first.set)
        assert [True] == outcomes
        first.wait()
        late.wait()
        assert not thread.end(lambda: None)

    def test_work_is_done_though_its_preparation_fails(self, log: LogWatch) -> None:
        """Closing a database connection of the thread may."""

        def fails() -> None:
            raise LookupError("planned")

        pool = ThreadPool(1, name="on-demand-test")
        thread = OnDemandThread(lambda: pool, fails)
        ended = Flag()
        assert thread.submit(lambda: None)
        assert thread.end(ended.set)
        ended.wait()
        until(lambda: not pool.busy)
        assert "LookupError: planned" in log.wait_for("preparing", level=30)
        pool.close(None)
        assert [] == pool.join(PATIENCE)


def _no_threads() -> ThreadPool:
    raise AssertionError("no thread is needed")
