"""manage.py sweep: repair once what lost processes left in the queue."""

from django.core.management.base import BaseCommand

from generation.queue.jobs import sweep


class Command(BaseCommand):
    help = "Queue lost generations again, expire overdue ones, release stray holds. The scheduler does this by itself."

    def handle(self, **options):
        for outcome, count in sweep().items():
            self.stdout.write(f"{count:6}  {outcome.replace('_', ' ')}")
