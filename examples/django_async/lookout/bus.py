"""Events from one process to all others, through the Redis server of `REDIS_URL`. Without it, only to itself."""

import asyncio
import json
import logging

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

logger = logging.getLogger("lookout")

CHANNEL = "lookout"


def make_bus():
    return RedisBus(settings.REDIS_URL) if settings.REDIS_URL else Bus()


class Bus:
    """Passes each event, a dict, to all listeners of this process. Belongs to one event loop."""

    reaches_other_processes = False

    def __init__(self):
        self._listeners = []

    def listen(self, listener):
        self._listeners.append(listener)

    async def publish(self, event):
        self._deliver(event)

    def _deliver(self, event):
        for listener in self._listeners:
            listener(event)

    async def start(self):
        """Begin to receive events of other processes."""

    async def stop(self):
        """Stop receiving them."""


class RedisBus(Bus):
    """Passes each event to the listeners of all processes with the same Redis server.

    While Redis cannot be reached, events reach only this process. So listeners must not rely on the bus alone:
    everything is in the database as well.
    """

    reaches_other_processes = True

    def __init__(self, url):
        super().__init__()
        self._redis = Redis.from_url(url, socket_connect_timeout=5, health_check_interval=10)

    async def publish(self, event):
        try:
            await self._redis.publish(CHANNEL, json.dumps(event))
        except (RedisError, OSError) as error:
            logger.warning("Redis: %s; other processes are not told", error)
            self._deliver(event)

    async def start(self):
        self._task = asyncio.create_task(self._hear())

    async def stop(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    async def _hear(self):
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    logger.info("Redis: listening")
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._deliver(json.loads(message["data"]))
            except (RedisError, OSError) as error:
                logger.warning("Redis: %s; trying again", error)
            await asyncio.sleep(1)
