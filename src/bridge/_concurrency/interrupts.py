"""Whether what was raised in a server's thread is for the server: a signal has interrupted whatever was done there."""

import signal
import threading


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal handler has raised `error` in this thread, to end the process: Ctrl-C, say.

    A `SystemExit` of the application itself is none. Python runs signal handlers in the main thread only.
    """
    if isinstance(error, Exception) or threading.current_thread() is not threading.main_thread():
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers:
        return True  # that one is not of Python, and leaves no frame
    codes = {getattr(handler, "__code__", None) for handler in handlers} - {None}
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code not in codes:
        step = step.tb_next
    return step is not None
