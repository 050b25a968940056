from django.db import models

NAME_LENGTH = 24
TEXT_LENGTH = 1000


class Room(models.Model):
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=40)
    about = models.CharField(max_length=120, blank=True)
    # The number of the latest message.
    last = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return self.name


class Message(models.Model):
    """The messages of a room are numbered without gaps, so a page knows which ones it has missed."""

    room = models.ForeignKey(Room, models.CASCADE, related_name="messages")
    number = models.PositiveIntegerField()
    # Made by the page that sends the message. A page that got no answer sends the same message with the same key again.
    key = models.UUIDField()
    visitor = models.CharField(max_length=32)
    author = models.CharField(max_length=NAME_LENGTH)
    text = models.CharField(max_length=TEXT_LENGTH)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["room", "number"], name="one_message_a_number"),
            models.UniqueConstraint(fields=["room", "key"], name="one_message_a_key"),
        ]

    def __str__(self):
        return f"{self.author}: {self.text}"

    def as_event(self):
        return {
            "type": "message",
            "room": self.room.slug,
            "number": self.number,
            "key": self.key.hex,
            "visitor": self.visitor,
            "author": self.author,
            "text": self.text,
            "at": self.at.isoformat(timespec="seconds"),
        }


class Presence(models.Model):
    """A page that is open in a room. Pages say regularly that they are still open. The others are removed."""

    id = models.UUIDField(primary_key=True)
    room = models.ForeignKey(Room, models.CASCADE)
    visitor = models.CharField(max_length=32)
    name = models.CharField(max_length=NAME_LENGTH)
    seen_at = models.DateTimeField(db_index=True)
    # The process that serves the page.
    process = models.UUIDField()

    def __str__(self):
        return f"{self.name} in {self.room}"
