"""What lives as long as the server's process, on the event loop that all its requests share."""

import signal
import threading

# What has streams that have no end of their own.
_streaming = []


async def startup(state):
    # Models can be imported only once Django is set up, and the entry points import this module before.
    from chat.hub import Hub
    from watch.watcher import Watcher

    from lookout.bus import make_bus

    state["bus"] = bus = make_bus()
    state["hub"] = hub = Hub(bus)
    state["watcher"] = watcher = Watcher(bus)
    await bus.start()
    await hub.start()
    await watcher.start()
    _streaming.extend((hub, watcher.feed))
    # An ASGI server runs this where its signals arrive. The others have hooks for it: gunicorn.conf.py, apache.wsgi.
    if threading.current_thread() is threading.main_thread():
        end_streams_at(signal.SIGINT, signal.SIGTERM)


async def shutdown(state):
    _streaming.remove(state["hub"])
    _streaming.remove(state["watcher"].feed)
    await state["watcher"].stop()
    await state["hub"].stop()
    await state["bus"].stop()


def end_streams(*_, **__):
    """End the streams, from any thread: a server that stops waits for all responses, and theirs have no end."""
    for one in _streaming:
        one.end()


def end_streams_at(*signals):
    """Do so first when a signal arrives that the server handles; in the main thread."""

    def chain(handler):
        def handle(number, frame):
            end_streams()
            handler(number, frame)

        return handle

    for number in signals:
        if callable(handler := signal.getsignal(number)):
            signal.signal(number, chain(handler))
