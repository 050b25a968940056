"""What lives as long as the server's process, on the event loop that all its requests share."""

import signal
import threading

_watchers = []


async def startup(state):
    # Models can be imported only once Django is set up, and the entry points import this module before.
    from watch.watcher import Watcher

    state["watcher"] = watcher = Watcher()
    await watcher.start()
    _watchers.append(watcher)
    # An ASGI server runs this where its signals arrive. The others have hooks for it: gunicorn.conf.py, apache.wsgi.
    if threading.current_thread() is threading.main_thread():
        end_feeds_at(signal.SIGINT, signal.SIGTERM)


async def shutdown(state):
    _watchers.remove(state["watcher"])
    await state["watcher"].stop()


def end_feeds(*_, **__):
    """End the feeds, from any thread: a server that stops waits for all responses, and theirs have no end."""
    for watcher in _watchers:
        watcher.feed.end()


def end_feeds_at(*signals):
    """Do so first when a signal arrives that the server handles; in the main thread."""

    def chain(handler):
        def handle(number, frame):
            end_feeds()
            handler(number, frame)

        return handle

    for number in signals:
        if callable(handler := signal.getsignal(number)):
            signal.signal(number, chain(handler))
