"""What lives as long as the server's process, on the event loop that all its requests share."""

_watchers = []


async def startup(state):
    # Models can be imported only once Django is set up, and the entry points import this module before.
    from watch.watcher import Watcher

    state["watcher"] = watcher = Watcher()
    await watcher.start()
    _watchers.append(watcher)


async def shutdown(state):
    _watchers.remove(state["watcher"])
    await state["watcher"].stop()


def end_feeds():
    """For a server's hook, from any thread: some servers run the shutdown only when all responses have ended."""
    for watcher in _watchers:
        watcher.feed.end()
