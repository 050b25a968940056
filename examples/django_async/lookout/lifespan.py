"""What lives as long as the server's process, on the event loop that all requests share."""

import signal
import threading

# The objects with streams that do not end by themselves.
_streaming = []


async def startup(state):
    # Models can be imported only after Django is set up, and the entry points import this module before that.
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
    # ASGI servers run this in the thread that gets signals. Other servers need hooks: gunicorn.conf.py, apache.wsgi.
    if threading.current_thread() is threading.main_thread():
        end_streams_at(signal.SIGINT, signal.SIGTERM)


async def shutdown(state):
    _streaming.remove(state["hub"])
    _streaming.remove(state["watcher"].feed)
    await state["watcher"].stop()
    await state["hub"].stop()
    await state["bus"].stop()


def end_streams(*_, **__):
    """End the streams: a server that stops waits for all responses, and these have no end. From any thread."""
    for one in _streaming:
        one.end()


def end_streams_at(*signals):
    """End the streams before the server handles one of these signals. Called in the main thread."""

    def chain(handler):
        def handle(number, frame):
            end_streams()
            handler(number, frame)

        return handle

    for number in signals:
        if callable(handler := signal.getsignal(number)):
            signal.signal(number, chain(handler))
