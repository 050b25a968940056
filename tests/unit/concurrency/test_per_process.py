"""`PerProcess`: made once in a process, by who first asks; and anew after a fork."""

import ast
import os
import threading

import pytest

from bridge._concurrency.per_process import PerProcess
from support.python_process import run_script
from support.source import MODULES
from support.waiting import PATIENCE, Work


def test_it_is_made_at_the_first_call_and_once() -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    state = PerProcess(make)
    assert [] == made
    assert state.here() is state.here()
    assert [state.here()] == made


def test_known_makes_nothing() -> None:
    state: PerProcess[list[int]] = PerProcess(list)

    assert state.known() is None
    assert state.here() is state.known()


def test_what_is_false_is_made_once_too() -> None:
    """An empty dict is a state as any other."""
    made: list[dict[str, int]] = []

    def make() -> dict[str, int]:
        made.append({})
        return made[-1]

    state = PerProcess(make)
    state.here()
    state.here()

    assert 1 == len(made)


def test_each_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by process id: a server may fork without telling Python."""
    state: PerProcess[list[int]] = PerProcess(list)
    ours = state.here()
    with monkeypatch.context() as patch:
        pid = os.getpid()
        patch.setattr(os, "getpid", lambda: pid + 1)
        assert state.known() is None
        theirs = state.here()
        theirs.append(1)

    assert theirs is not ours
    assert state.here() is ours
    assert [] == ours


def test_threads_that_come_at_once_get_the_same() -> None:
    """Both have found none and made one; one of the two counts."""
    both = threading.Barrier(2)

    def make() -> object:
        both.wait(PATIENCE)
        return object()

    state = PerProcess(make)
    finders = [Work(state.here) for _ in range(2)]

    assert 1 == len({finder.result() for finder in finders})


def test_after_a_fork_a_lock_of_the_parent_is_not_waited_for() -> None:
    """The state of the child is its own, also where a thread of the parent held the lock of the parent's."""
    script = """
import os, signal, threading, warnings
from bridge._concurrency.per_process import PerProcess
warnings.simplefilter("ignore", DeprecationWarning)  # there is another thread: that is what it is about
state = PerProcess(threading.Lock)
ours = state.here()
ours.acquire()
held, over = threading.Event(), threading.Event()
holder = threading.Thread(target=lambda: (held.set(), over.wait(60)))
holder.start()
held.wait(60)
child = os.fork()
if not child:
    signal.alarm(10)
    found = state.known()
    os._exit(0 if found is None and state.here() is not ours and state.here().acquire(timeout=60) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), state.here() is ours)
over.set()
holder.join()
"""
    assert ["0 True"] == run_script(script)


def test_no_module_has_a_lock_of_its_own() -> None:
    """After a fork it would be the parent's, whose threads are not there to release it."""
    shared = {
        f"{name}: {ast.unparse(statement)}"
        for name, tree in MODULES.items()
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Call)
        if ast.unparse(statement.value.func).rpartition(".")[2] in ("Lock", "RLock", "Condition", "new_lock")
    }
    assert set() == shared
