from django.core.management.base import BaseCommand

from watch.models import Site


class Command(BaseCommand):
    help = "Fills an empty database with sites to watch, which are pages of this one. Does nothing the second time."

    def add_arguments(self, parser):
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where this site is served")

    def handle(self, *args, **options):
        if Site.objects.exists():
            self.stdout.write("There are sites in the database already: left as it is.")
            return
        url = options["url"].rstrip("/")
        Site.objects.create(name="History", url=f"{url}/history.csv")
        Site.objects.create(name="Lamp", url=f"{url}/lamp/")
        Site.objects.create(name="Old intranet", url="http://127.0.0.1:9/")
        self.stdout.write("Watching 3 sites.")
