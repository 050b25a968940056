import asyncio
import logging
from contextlib import suppress
from uuid import uuid4

from django.conf import settings

from . import services
from .forms import HereForm, MessageForm

logger = logging.getLogger("lookout")

# How many events may wait for a page. A page that is too slow is sent away. It connects again, and says which message
# it has seen last.
WAITING = 200


class Hub:
    """The open pages of this process. Belongs to one event loop.

    Messages come over the bus, at once. Everything else is looked up in the database whenever the bus gives a hint, and
    every `FEED_HEARTBEAT` seconds: a bus may lose events, and without Redis it hears nothing from other processes.
    """

    def __init__(self, bus):
        self.visits = set()
        self._bus = bus
        self._id = uuid4()
        self._loop = asyncio.get_running_loop()
        self._hint = asyncio.Event()
        self._heard = set()
        self._here = {}
        self._last = {}
        self._began = self._loop.time()
        self._warned = False

    async def start(self):
        self._bus.listen(self._receive)
        self._task = asyncio.create_task(self._look_again_and_again())

    async def stop(self):
        self._end()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        # The server may not wait until every page has left.
        await services.leave_all(self._id)
        await self._bus.publish({"type": "hint"})

    def end(self):
        """Send all pages away: a server that stops waits for them, and they have no end. From any thread."""
        self._loop.call_soon_threadsafe(self._end)

    def _end(self):
        for visit in list(self.visits):
            visit.end()

    # -- what pages ask for

    async def visit(self, session, room, after, *, limited):
        """The visit of a page that connects, or a refusal. Raises `Room.DoesNotExist`.

        `limited`: the visit holds one of the server's threads, and some threads have to stay free.
        """
        visitor = await services.arrive(session, room)
        if visitor is None:
            return Refusal("stranger")
        if limited and len(self.visits) >= settings.CHAT_LIMIT:
            return Refusal("full")
        return Visit(self, room, visitor, after)

    async def enter(self, visit):
        seen = await services.enter(visit.id, visit.room, visit.visitor, self._id)
        visit.entered = True
        await self._bus.publish({"type": "hint"})
        return seen

    async def leave(self, visit):
        await services.leave(visit.id)
        await self._bus.publish({"type": "hint"})

    async def say(self, room, visitor, fields):
        """Take a message from a page. Returns None, or an event that says why it was refused."""
        form = MessageForm(fields)
        if not form.is_valid():
            why = " ".join(error for errors in form.errors.values() for error in errors)
            return {"type": "refused", "key": fields.get("key", ""), "why": why}
        await self._bus.publish(await services.say(room, visitor, **form.cleaned_data))
        return None

    async def here(self, room, visitor, fields):
        """Note that a page is still open. If pages ask by POST, another process may be serving the page."""
        form = HereForm(fields)
        if form.is_valid():
            self._heard.add(form.cleaned_data["page"])

    # -- what pages are told

    def _receive(self, event):
        if event["type"] == "hint":
            self._hint.set()
        else:
            self._tell(event)

    def _tell(self, event, room=None):
        for visit in list(self.visits):
            if room is None or visit.room == room:
                visit.tell(event)

    async def _look_again_and_again(self):
        tick_at = self._loop.time()
        while True:
            try:
                await self._look()
            except Exception:
                logger.exception("could not look into the database; trying again")
            with suppress(TimeoutError):
                async with asyncio.timeout_at(tick_at):
                    await self._hint.wait()
            self._hint.clear()
            if self._loop.time() >= tick_at:
                tick_at = self._loop.time() + settings.FEED_HEARTBEAT
                self._tell({"type": "tick"})

    async def _look(self):
        """Tell the pages what has changed."""
        # Before the query, because pages that enter during it may not be in its result.
        entered = [visit for visit in self.visits if visit.entered]
        heard, self._heard = self._heard, set()
        seen = await services.look(heard)
        for visit in entered:
            if visit.id not in seen.pages:
                visit.end()
        for room in {visit.room for visit in self.visits}:
            if (here := seen.here.get(room, [])) != self._here.get(room):
                self._here[room] = here
                self._tell({"type": "here", "here": here}, room)
        if seen.last != self._last:
            self._last = seen.last
            self._tell({"type": "numbers", "last": seen.last})
        self._warn_of(seen.processes)

    def _warn_of(self, processes):
        """Warn once if several processes serve the chat without Redis."""
        if self._bus.reaches_other_processes or self._warned or processes <= {self._id}:
            return
        # After this time, no presence is left over from a process that was killed before this one started.
        if self._loop.time() > self._began + settings.PRESENCE_SECONDS:
            self._warned = True
            logger.warning(
                "several processes serve the chat, and nothing connects them: messages between "
                "them take up to %g seconds. Set REDIS_URL to the URL of a Redis server, or run one process.",
                settings.FEED_HEARTBEAT,
            )


class Refusal:
    """What a page gets instead of a visit: one event, which says why."""

    visitor = None

    def __init__(self, why):
        self._why = why

    def close(self):
        """Do nothing: there is no place to give back."""

    async def leave(self):
        """Do nothing: the page has not entered."""

    async def events(self):
        yield {"type": self._why}


class Visit:
    """One open page, from the beginning of its WebSocket or stream to the end."""

    def __init__(self, hub, room, visitor, after):
        self.id = uuid4()
        self.room = room
        self.visitor = visitor
        self.entered = False
        self._hub = hub
        self._after = after
        self._ended = False
        self._events = asyncio.Queue()
        # Take the place at once: pages that come together must not all find the last place free.
        hub.visits.add(self)

    def tell(self, event):
        if self._events.qsize() < WAITING:
            self._events.put_nowait(event)
        else:
            self.end()

    def end(self):
        if not self._ended:
            self._ended = True
            self._events.put_nowait({"type": "end"})

    def close(self):
        """Give the place back. The response calls this, even if nobody has read from it."""
        self._hub.visits.discard(self)

    async def leave(self):
        """Give the place back, and note that the page is not open any more."""
        self.close()
        await self._hub.leave(self)
        if self.entered:
            logger.info("chat: %s has left %s, %d here", self.visitor.name, self.room, len(self._hub.visits))

    async def events(self):
        """What happens, as dicts: a greeting, the messages that the page has not seen yet, and so on.

        Whoever asks for them calls `leave` at the end.
        """
        seen = await self._hub.enter(self)
        logger.info("chat: %s is in %s, %d here", self.visitor.name, self.room, len(self._hub.visits))
        yield {
            "type": "hello",
            "page": self.id.hex,
            "here": seen.here.get(self.room, []),
            "last": seen.last,
            "heartbeat": settings.FEED_HEARTBEAT,
        }
        async for message in self._missed():
            yield message
        while not self._ended:
            event = await self._events.get()
            if self._ended:
                return
            if event["type"] == "numbers" and event["last"].get(self.room, 0) > self._after:
                async for message in self._missed():
                    yield message
            if event["type"] == "message" and event["room"] == self.room:
                if event["number"] > self._after + 1:
                    async for message in self._missed():
                        yield message
                if event["number"] <= self._after:
                    continue
                self._after = event["number"]
            yield event

    async def _missed(self):
        while messages := await services.missed(self.room, self._after):
            for message in messages:
                self._after = message["number"]
                yield message
