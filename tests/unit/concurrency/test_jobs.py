"""What jobs and their threads know of each other: which thread this is, and where it is now."""

import contextvars
import threading

from bridge._concurrency import jobs
from bridge._concurrency.jobs import current, describe, request_executor, thread_name
from support.waiting import Flag, OneThread, bounded


def test_no_thread_is_a_job_thread_unless_it_says_so() -> None:
    """`current` is each thread's own."""
    here = object()
    thread = OneThread()
    thread.run(lambda: setattr(current, "thread", here))

    assert thread.run(lambda: current.thread) is here
    assert bounded(lambda: current.thread) is None
    assert current.thread is None
    thread.end()


def test_no_executor_serves_a_request_unless_one_is_set() -> None:
    """And then in that context only."""
    executor = object()
    context = contextvars.copy_context()
    context.run(request_executor.set, executor)  # type: ignore[arg-type]

    assert context.run(request_executor.get) is executor
    assert request_executor.get() is None


def test_a_description_names_the_thread_and_where_it_is() -> None:
    thread = OneThread()
    at_work, go_on = Flag(), Flag()

    def busy_with_this() -> None:
        at_work.set()
        go_on.wait()

    ended = thread.begin(busy_with_this)
    at_work.wait()
    description = describe("its-name", thread.ident)
    go_on.set()
    ended()
    thread.end()

    assert description.startswith("thread its-name is at\n")
    assert "busy_with_this" in description


def test_a_thread_that_has_ended_or_not_begun_is_no_error() -> None:
    thread = threading.Thread(target=lambda: None)
    assert "it has ended" in describe("early", thread.ident)
    thread.start()
    thread.join()
    assert "it has ended" in describe("late", thread.ident)


def test_the_name_of_a_thread() -> None:
    """Its number where there is no such thread."""
    thread = OneThread()

    assert "server-thread" == thread_name(thread.ident)
    assert "-1" == thread_name(-1)
    thread.end()


def test_a_closed_pool_is_a_runtime_error() -> None:
    """As `threading` raises where it can start no thread: who submits catches both at once."""
    assert issubclass(jobs.PoolClosed, RuntimeError)
