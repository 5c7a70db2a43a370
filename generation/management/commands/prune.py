"""manage.py prune: remove old trash, pictures past their retention, and what has nothing to show."""

import datetime as dt
import re

from django.core.management.base import BaseCommand, CommandError

from generation.operations.pruning import prune

UNITS = {"d": "days", "h": "hours", "w": "weeks"}


class Command(BaseCommand):
    help = "Remove what is no longer wanted. Favourites and published pictures are kept."

    def add_arguments(self, parser):
        parser.add_argument("--older-than", type=self.age, help="instead of the plans' retention: 30d, 12h, 4w")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    @staticmethod
    def age(text: str) -> dt.timedelta:
        match = re.fullmatch(r"(\d{1,5})([dhw])", text)
        if not match:
            raise CommandError("An age looks like 30d, 12h or 4w.")
        return dt.timedelta(**{UNITS[match[2]]: int(match[1])})

    def handle(self, *, older_than, dry_run, **options):
        for name, count in prune(older_than=older_than, dry_run=dry_run).items():
            self.stdout.write(f"{count:6}  {name}{' (kept: dry run)' if dry_run else ''}")
