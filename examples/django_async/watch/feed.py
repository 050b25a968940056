import asyncio
import json
import logging
from collections import deque

from django.conf import settings

logger = logging.getLogger("lookout")

# How many notifications are kept for readers who were away for a moment.
KEPT = 200


class Feed:
    """The latest notifications, and their readers in this process. Belongs to one event loop."""

    def __init__(self, latest):
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ended = False
        self.latest = deque(latest, maxlen=KEPT)
        self.readers = set()

    def publish(self, notification):
        self.latest.append(notification)
        self._wake()

    def end(self):
        """End all streams: a server that stops waits for them, and they do not end by themselves. From any thread."""
        self._ended = True
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self):
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, after):
        """Each notification with a number above `after`, and None whenever nothing has happened for a while."""
        while not self._ended:
            news = self._news
            for notification in [one for one in self.latest if one["id"] > after]:
                yield notification
                after = notification["id"]
            try:
                await asyncio.wait_for(news.wait(), settings.FEED_HEARTBEAT)
            except TimeoutError:
                yield None


class EventStream:
    """What one reader gets: server-sent events (HTML Living Standard, section 9.2)."""

    def __init__(self, feed, after):
        self._feed = feed
        self._after = after
        # Take the place at once: requests that come together must not all find the last place free.
        feed.readers.add(self)

    async def __aiter__(self):
        logger.info("feed opened, %d open", len(self._feed.readers))
        try:
            yield "retry: 1000\n\n"
            async for notification in self._feed.follow(self._after):
                if notification is None:
                    yield ": nothing new\n\n"
                else:
                    data = json.dumps(notification)
                    yield f"id: {notification['id']}\nevent: notification\ndata: {data}\n\n"
        finally:
            self.close()
            logger.info("feed closed, %d open", len(self._feed.readers))

    def close(self):
        """Give the place back. The response calls this, even if nobody has read from it."""
        self._feed.readers.discard(self)
