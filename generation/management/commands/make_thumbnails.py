"""manage.py make_thumbnails: the wider thumbnails of pictures that were made before there were any."""

from django.core.management.base import BaseCommand

from generation.operations.thumbnails import make_thumbnails


class Command(BaseCommand):
    help = "Make the thumbnails that older pictures lack. May be stopped and run again."

    def handle(self, **options):
        made = unmade = 0
        for progress in make_thumbnails():
            made, unmade = progress
            self.stdout.write(f"{made} pictures done")
        self.stdout.write(f"{made} pictures have all their thumbnails now." if made else "No picture lacked any.")
        if unmade:
            self.stderr.write(f"{unmade} pictures could not be read; the log says why.")
