from datetime import timedelta
from random import Random

from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from parts.models import Document, Movement, Part, Stock, Warehouse

WAREHOUSES = [("Tromsø North Hall", "Tromsø", 6000), ("Bergen Harbour", "Bergen", 4000), ("Oslo Loft", "Oslo", 500)]

PARTS = [
    ("BRG-6204", "Ball bearing 20 x 47 x 14"),
    ("BRG-6305", "Ball bearing 25 x 62 x 17"),
    ("BLT-0610", "Hexagon bolt M6 x 10"),
    ("BLT-0820", "Hexagon bolt M8 x 20"),
    ("BLT-1240", "Hexagon bolt M12 x 40"),
    ("NUT-0600", "Lock nut M6"),
    ("NUT-0800", "Lock nut M8"),
    ("NUT-1200", "Lock nut M12"),
    ("WSH-0600", "Spring washer M6"),
    ("WSH-0800", "Spring washer M8"),
    ("SEA-0032", "Shaft seal 32 x 47 x 8"),
    ("SEA-0045", "Shaft seal 45 x 62 x 10"),
    ("ORI-0025", "O-ring 25 x 2"),
    ("ORI-0040", "O-ring 40 x 3"),
    ("BEL-0850", "V-belt A 850"),
    ("BEL-1120", "V-belt A 1120"),
    ("CHN-0812", "Roller chain 08B, 1 m"),
    ("SPR-0018", "Compression spring 18 mm"),
    ("VLV-0050", "Ball valve 1/2 inch"),
    ("VLV-0075", "Ball valve 3/4 inch"),
    ("FLT-0210", "Oil filter"),
    ("FLT-0220", "Air filter"),
    ("FUS-0100", "Fuse 10 A"),
    ("LMP-0024", "Indicator lamp 24 V"),
]

MOVEMENTS = 400


class Command(BaseCommand):
    help = "Fills an empty database with warehouses, parts, stock, movements and a login. Does nothing the second time."

    def add_arguments(self, parser):
        parser.add_argument("--username", default="keeper")
        parser.add_argument("--password", default="bolts-and-nuts")

    @transaction.atomic
    def handle(self, *args, **options):
        user = get_user_model().objects.filter(username=options["username"]).first()
        if user is None:
            user = get_user_model().objects.create_superuser(options["username"], password=options["password"])
        if Part.objects.exists():
            self.stdout.write("The database has parts in it already: left as it is.")
            return

        random = Random(6204)  # the same data every time
        warehouses = [Warehouse.objects.create(name=name, city=city, capacity=room) for name, city, room in WAREHOUSES]
        parts = [Part.objects.create(number=number, name=name) for number, name in PARTS]
        self._stock(parts, warehouses, random)
        self._movements(parts, warehouses, random, user)
        sheet = Document(part=parts[0], title="Data sheet", uploaded_by=user)
        sheet.file.save("BRG-6204.txt", ContentFile(b"d = 20 mm\nD = 47 mm\nB = 14 mm\n"))
        self.stdout.write(f"{len(warehouses)} warehouses, {len(parts)} parts, {MOVEMENTS} movements.")

    def _stock(self, parts, warehouses, random):
        Stock.objects.bulk_create(
            Stock(part=part, warehouse=warehouse, quantity=random.choice((0, 4, 12, 18)))
            for part in parts
            for warehouse in warehouses
        )
        # The part that is moved in every tour of the site.
        Stock.objects.filter(part=parts[0], warehouse=warehouses[0]).update(quantity=1200)

    def _movements(self, parts, warehouses, random, user):
        movements = []
        for _ in range(MOVEMENTS):
            source, target = random.sample(warehouses, 2)
            quantity = random.randint(1, 12)
            movements.append(
                Movement(part=random.choice(parts), source=source, target=target, quantity=quantity, moved_by=user)
            )
        Movement.objects.bulk_create(movements)
        # Saving sets `moved_at` to the current time, so past times are written afterwards.
        moved_at = timezone.now()
        for movement in reversed(movements):
            moved_at -= timedelta(minutes=random.randint(20, 600))
            movement.moved_at = moved_at
        Movement.objects.bulk_update(movements, ["moved_at"], batch_size=200)
