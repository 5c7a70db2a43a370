"""manage.py create_user EMAIL: an account from the command line, ready to sign in."""

import getpass
import secrets
import sys
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import transaction

from accounts.models import ApiKey, User


class Command(BaseCommand):
    help = "Create an account. Without --password, one is asked for, or made and printed when there is no terminal."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--plan", choices=User.PlanKey.values, default=User.PlanKey.FREE)
        parser.add_argument("--staff", action="store_true", help="may use the admin, without limits")
        parser.add_argument("--password")
        parser.add_argument("--api-key", action="store_true", help="also make an API key and print it once")

    def handle(
        self, *, email: str, plan: str, staff: bool, password: str | None, api_key: bool, **options: Any
    ) -> None:
        email = email.strip().lower()
        try:
            validate_email(email)
            if User.objects.filter(email=email).exists():
                raise CommandError(f"There is already an account for {email}.")
            generated = None
            if password is None:
                password = (
                    getpass.getpass("Password: ") if sys.stdin.isatty() else (generated := secrets.token_urlsafe(12))
                )
            validate_password(password, User(email=email))
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        with transaction.atomic():
            user = User.objects.create_user(email, password, plan=plan, is_staff=staff, is_superuser=staff)
            EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
            token = ApiKey.issue(user=user, name="command line")[1] if api_key else None
        self.stderr.write(f"Created {email} on the {plan} plan{', staff' if staff else ''}.")
        if generated:
            self.stderr.write(f"Password: {generated}")
        if token:
            # The key alone goes to standard output, so that a script can catch it.
            self.stdout.write(token)
