"""manage.py seed_demo: a few people and published pictures, so that a new site is not empty.

The pictures go the way of all pictures: through `create_generation` and the queue, to a worker. Where none
runs, this command is one for as long as it takes.
"""

import contextlib
import time
from collections.abc import Iterable
from uuid import UUID

from allauth.account.models import EmailAddress
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.models import User
from generation.models import Generation, Visibility
from generation.operations.doctor import is_public
from generation.queue import presence, worker
from generation.services.generations import create_generation

PASSWORD = "draw me a sketch"
PEOPLE = {
    "ada@demo.example": (
        ("a red boat at sea", ""),
        ("a white lighthouse at sunset", "watercolour"),
        ("a green tree on a meadow", "standard"),
        ("an orange cat and a blue house", ""),
    ),
    "ben@demo.example": (
        ("a purple castle in the snow", ""),
        ("a yellow train in the mountains", "vintage"),
        ("a black whale in the ocean", "flat-logo"),
        ("three red balloons at dawn", ""),
    ),
    "eva@demo.example": (
        ("a pink umbrella in the rain", ""),
        ("a blue butterfly on a yellow background", "anime"),
        ("a white moon above a brown tent", ""),
        ("a teal car in the city", "grunge"),
    ),
}
"""E-mail address → prompts, each with its style."""
PATIENCE_SECONDS = 600


class Command(BaseCommand):
    help = "Make demo users and pictures. Again changes nothing, and shows how to sign in."

    def add_arguments(self, parser):
        parser.add_argument("--yes", action="store_true", help="also on a site that others can reach")

    def handle(self, *, yes, **options):
        if is_public() and not yes:
            raise CommandError(
                "Others can reach this site, and everybody knows the demo users' password. "
                "Say --yes if that is what you want."
            )
        ids = [
            generation.pk for email, prompts in PEOPLE.items() for generation in self.create(self.user(email), prompts)
        ]
        with self.worker():
            self.wait(ids)
        completed = Generation.objects.filter(pk__in=ids, status=Generation.Status.COMPLETED).count()
        self.stdout.write(f"{completed} of {len(ids)} pictures are in the gallery.")
        for email in PEOPLE:
            self.stdout.write(f"Sign in as {email} with the password: {PASSWORD}")
        if completed < len(ids):
            raise CommandError("Some pictures could not be drawn; see the worker's log.")

    @staticmethod
    @transaction.atomic
    def user(email: str) -> User:
        user = User.objects.filter(email=email).first()
        if user is None:
            user = User.objects.create_user(email, PASSWORD, plan=User.PlanKey.PRO)
            EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
        return user

    @staticmethod
    def create(user: User, prompts: Iterable[tuple[str, str]]) -> list[Generation]:
        """The same keys every time, so that a second run finds what the first one made."""
        return [
            create_generation(
                user=user,
                prompt=prompt,
                style=style,
                seed=number,
                visibility=Visibility.PUBLIC,
                source=Generation.Source.COMMAND,
                idempotency_key=f"demo-{number}-{prompt}",
            )[0]
            for number, (prompt, style) in enumerate(prompts, 1)
        ]

    @contextlib.contextmanager
    def worker(self):
        """A worker within this process, unless there is one."""
        if presence.workers():
            yield
            return
        worker.start()
        try:
            yield
        finally:
            worker.stop()

    def wait(self, ids: list[UUID]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        active = Generation.objects.filter(pk__in=ids).active()
        while unfinished := active.count():
            if time.monotonic() > deadline:
                raise CommandError(f"{unfinished} pictures still wait for a worker. Run this again later.")
            time.sleep(0.2)
