"""manage.py doctor: check this installation and say what mends it."""

import json as jsonlib
import sys
from dataclasses import asdict

from django.core.management.base import BaseCommand

from generation.operations.doctor import OK, WARNING, WRONG, Finding, examine


class Command(BaseCommand):
    help = "Check the installation part by part. Exits with 1 when something is wrong; warnings do not count."
    # The checks below say the same more kindly, and must run even when those fail.
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true")

    def handle(self, *, json: bool, **options):
        findings = []
        for finding in examine():
            findings.append(finding)
            if not json:
                self.show(finding)
        wrong = sum(finding.state == WRONG for finding in findings)
        if json:
            self.stdout.write(jsonlib.dumps({"ok": not wrong, "findings": list(map(asdict, findings))}, indent=2))
        else:
            warnings = sum(finding.state == WARNING for finding in findings)
            self.stdout.write(f"\n{wrong} wrong, {warnings} to look at." if wrong or warnings else "\nAll is well.")
        if wrong:
            sys.exit(1)

    def show(self, finding: Finding) -> None:
        mark = {
            OK: self.style.SUCCESS("ok     "),
            WARNING: self.style.WARNING("warning"),
            WRONG: self.style.ERROR("wrong  "),
        }[finding.state]
        self.stdout.write(f"{mark}  {finding.name:<9} {finding.said}")
        if finding.mend and finding.state != OK:
            self.stdout.write(f"{'':19} → {finding.mend}")
        self.stdout.flush()
