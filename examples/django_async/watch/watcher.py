import asyncio
import logging
from time import monotonic

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections, transaction

from .feed import KEPT, Feed
from .models import Notification, Site

logger = logging.getLogger("lookout")


class Watcher:
    """Asks the sites how they are. Belongs to one event loop, like its client, its lock and its tasks."""

    def __init__(self, bus):
        self._bus = bus
        self._client = httpx.AsyncClient(timeout=5, headers={"User-Agent": "lookout"}, trust_env=False)
        self._asking = asyncio.Lock()
        self._tasks = set()

    async def start(self):
        latest = [one async for one in Notification.objects.select_related("site")[:KEPT]]
        self.feed = Feed(one.as_dict() for one in reversed(latest))
        self._bus.listen(self._receive)
        self.in_background(self._ask_again_and_again())

    async def stop(self):
        self.feed.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
        logger.info("watcher stopped")

    def _receive(self, event):
        if event["type"] == "site":
            self.feed.publish(event["notification"])

    def in_background(self, work):
        """Start work that goes on after the response. Keeps the task: the loop has only a weak reference to it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task):
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("work in the background failed", exc_info=task.exception())

    async def _ask_again_and_again(self):
        while True:
            try:
                await self.ask()
            except Exception:
                logger.exception("could not ask the sites; trying again")
            await asyncio.sleep(settings.WATCH_INTERVAL)

    async def ask(self):
        """Ask all sites at once, and publish the changes. One round at a time."""
        async with self._asking:
            sites = [site async for site in Site.objects.all()]
            answers = await asyncio.gather(*(self._answer(site.url) for site in sites))
            for site, (state, answer) in zip(sites, answers, strict=True):
                if notification := await record(site, state, answer):
                    await self._bus.publish({"type": "site", "notification": notification.as_dict()})
            # Django does this when a request ends, but there is no request here.
            await sync_to_async(close_old_connections)()

    async def _answer(self, url):
        began = monotonic()
        try:
            answer = await self._client.get(url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Site.State.DOWN, str(error) or type(error).__name__
        state = Site.State.UP if answer.is_success else Site.State.DOWN
        return state, f"{answer.status_code} {answer.reason_phrase} in {(monotonic() - began) * 1000:.0f} ms"


@sync_to_async
@transaction.atomic
def record(site, state, answer):
    """Save the answer. Returns a notification if the state has changed and the site is still watched."""
    answer = answer[:200]
    watched = Site.objects.filter(pk=site.pk)
    # If several processes ask at the same time, only one of them finds that the state has changed.
    if not watched.exclude(state=state).update(state=state, answer=answer):
        watched.update(answer=answer)
        return None
    return Notification.objects.create(site=site, state=state, answer=answer)
