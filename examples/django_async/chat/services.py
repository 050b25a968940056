"""What the chat does with the database. Each function is one async call."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from lookout.database import in_database

from .models import Message, Presence, Room

SHOWN = 50


@dataclass(frozen=True)
class Visitor:
    """Somebody who has given a name. Kept in the session."""

    id: str
    name: str


@dataclass(frozen=True)
class Seen:
    """The state of all rooms."""

    # For each room: who is there, and the number of its latest message.
    here: dict
    last: dict
    pages: set
    processes: set


@in_database
def visitor_in(session):
    """The visitor of a session. None if they have not given a name."""
    return _visitor_in(session)


@in_database
def arrive(session, slug):
    """The visitor of a session, who goes to a room. Raises `Room.DoesNotExist`."""
    Room.objects.get(slug=slug)
    return _visitor_in(session)


@in_database
def introduce(session, name):
    """Put a name into a session. Returns False if somebody else has it."""
    before = session.get("visitor")
    visitor = Visitor(before["id"] if before else uuid4().hex, name)
    if _present().filter(name__iexact=name).exclude(visitor=visitor.id).exists():
        return False
    session["visitor"] = asdict(visitor)
    return True


@in_database
def rooms():
    return list(Room.objects.all())


@in_database
@transaction.atomic
def say(slug, visitor, key, text):
    """Save a message, only once if it comes several times. Returns its event. Raises `Room.DoesNotExist`."""
    # The lock makes messages visible in the order of their numbers. (SQLite locks the whole database.)
    room = Room.objects.select_for_update().get(slug=slug)
    said = room.messages.filter(key=key).first()
    if said is None:
        room.last += 1
        room.save(update_fields=["last"])
        said = room.messages.create(number=room.last, key=key, visitor=visitor.id, author=visitor.name, text=text)
    return said.as_event()


@in_database
def history(slug, *, before=None):
    """The latest messages, or the latest before a number. Oldest first."""
    found = Message.objects.filter(room__slug=slug).select_related("room")
    if before is not None:
        found = found.filter(number__lt=before)
    return [message.as_event() for message in found.order_by("-number")[:SHOWN]][::-1]


@in_database
def missed(slug, after):
    """The first messages after a number, or none if there are no more."""
    found = Message.objects.filter(room__slug=slug, number__gt=after).select_related("room")
    return [message.as_event() for message in found[:SHOWN]]


@in_database
def enter(page, slug, visitor, process):
    """Note that a visitor has opened a page. Returns the state after that."""
    Presence.objects.create(
        id=page,
        room=Room.objects.get(slug=slug),
        visitor=visitor.id,
        name=visitor.name,
        seen_at=timezone.now(),
        process=process,
    )
    return _seen()


@in_database
def leave(page):
    Presence.objects.filter(pk=page).delete()


@in_database
def leave_all(process):
    Presence.objects.filter(process=process).delete()


@in_database
@transaction.atomic
def look(pages):
    """Note that these pages are still open, and remove the silent ones. Returns the state after that."""
    Presence.objects.filter(pk__in=pages).update(seen_at=timezone.now())
    Presence.objects.filter(seen_at__lte=_long_ago()).delete()
    return _seen()


def _visitor_in(session):
    kept = session.get("visitor")
    return Visitor(**kept) if kept else None


def _seen():
    here, pages, processes = defaultdict(dict), set(), set()
    for one in _present().select_related("room").order_by("name"):
        here[one.room.slug][one.visitor] = one.name
        pages.add(one.pk)
        processes.add(one.process)
    names = {slug: [{"visitor": visitor, "name": name} for visitor, name in who.items()] for slug, who in here.items()}
    return Seen(names, dict(Room.objects.values_list("slug", "last")), pages, processes)


def _present():
    return Presence.objects.filter(seen_at__gt=_long_ago())


def _long_ago():
    return timezone.now() - timedelta(seconds=settings.PRESENCE_SECONDS)
