from django.core.management.base import BaseCommand

from chat.models import Room

ROOMS = {
    "lobby": ("Lobby", "Say hello, and ask what you like"),
    "on-call": ("On call", "What is down, and who looks after it"),
    "kitchen": ("Kitchen", "Coffee, lunch, and who took the last of it"),
}


class Command(BaseCommand):
    help = "Makes the rooms of the chat. Does nothing the second time."

    def handle(self, *args, **options):
        for slug, (name, about) in ROOMS.items():
            Room.objects.get_or_create(slug=slug, defaults={"name": name, "about": about})
        self.stdout.write(f"There are {Room.objects.count()} rooms.")
