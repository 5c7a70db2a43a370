"""manage.py audit: counts that must all be 0."""

import json as jsonlib
import sys

from django.core.management.base import BaseCommand

from generation.operations.audit import audit


class Command(BaseCommand):
    help = "Check quota, generations and files against each other. Exits with 1 when a count is not 0."

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--contents", action="store_true", help="also compare every file with its hash")

    def handle(self, *, json: bool, contents: bool, **options):
        report = audit(contents=contents)
        self.stdout.write(_as_json(report) if json else "\n".join(f"{n:6}  {name}" for name, n in report.items()))
        if any(report.values()):
            sys.exit(1)


def _as_json(report) -> str:
    return jsonlib.dumps(report, indent=2)
