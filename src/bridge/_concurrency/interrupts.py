"""For a raised object that is not an `Exception`: is it for the server, because a signal told it to end? May the caller
see it?
"""

import functools
import signal
import threading
from typing import Any, Final

# Packages whose exceptions end tests. These are not `Exception`s, so that code under test lets them pass.
_TEST_TOOLS: Final = frozenset(("_pytest", "hypothesis"))


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal handler has raised `error` in this thread, to end the process, for example at Ctrl-C.

    A `SystemExit` of the application itself does not count. Python runs signal handlers only in the main thread.
    """
    if isinstance(error, Exception) or threading.current_thread() is not threading.main_thread():
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers:
        return True  # this handler is written in C, and leaves no frame
    codes = {_code_of(handler) for handler in handlers if callable(handler)} - {None}
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code not in codes:
        step = step.tb_next
    return step is not None


def _code_of(handler: Any) -> object:
    """The code that runs first when `handler` is called. None if that is not written in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    # Functions and methods have it; of other objects the method is called.
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


def may_pass(error: BaseException) -> bool:
    """Whether `error`, which an application has raised, may be raised to its caller as it is.

    It may be an `Exception`, or the outcome of a test (`pytest.fail`, `skip`), which is for the test that the
    application is part of. Anything else would end the thread, the task or the process of a server, and the application
    must not end these.
    """
    return isinstance(error, Exception) or _is_outcome(error)


def _is_outcome(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] in _TEST_TOOLS for kind in type(error).__mro__)
