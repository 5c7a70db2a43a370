"""django-allauth adapter: where signing up and in differs from its defaults, and the addresses in mail."""

import math
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context as allauth_context
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.forms import BaseForm
from django.http import HttpRequest
from django.urls import reverse

from . import sign_in
from .mailboxes import mailbox_of
from .models import User
from .notices import send_beside
from .site_root import site_root


class AccountAdapter(DefaultAccountAdapter):
    _tries_left = 0

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.REGISTRATION_OPEN

    def save_user(
        self, request: HttpRequest, user: AbstractBaseUser, form: BaseForm, commit: bool = True
    ) -> AbstractBaseUser:
        if settings.SIGNUP_CHECKS and isinstance(user, User):
            user.mailbox = mailbox_of(form.cleaned_data["email"])
        return super().save_user(request, user, form, commit)

    # --- signing in ---

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        try:
            self._tries_left = sign_in.take_try(credentials.get("email", ""), self.get_client_ip(request))
        except sign_in.TooManyTries as refusal:
            minutes = math.ceil(refusal.seconds / 60)
            raise ValidationError(
                f"Too many tries. Please wait {minutes} minute{'' if minutes == 1 else 's'}, or set a new password.",
                code="too_many_login_attempts",
            ) from None

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Any:
        user = super().authenticate(request, **credentials)
        if user is not None:
            sign_in.note_success(credentials.get("email", ""), self.get_client_ip(request))
        return user

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        if self._tries_left == 0:
            self._tell_owner(request, credentials.get("email", ""))

    def _tell_owner(self, request: HttpRequest, email: str) -> None:
        """Mail the owner, if there is one, that signing in is paused."""
        owner = User.objects.filter(email=email.strip().lower(), is_active=True).first()
        if owner is None:
            return
        message = self._mail(
            "account/email/sign_in_paused",
            owner.email,
            {
                "tries": sign_in.FROM_ADDRESS.tries,
                "minutes": math.ceil(sign_in.FROM_ADDRESS.seconds / 60),
                "address": self.get_client_ip(request),
                "password_reset_url": request.build_absolute_uri(reverse("account_reset_password")),
            },
        )
        send_beside(message)

    def _delete_login_attempts_cached_email(self, request: HttpRequest, **credentials: Any) -> None:
        """Called when a password was set by mail."""
        sign_in.forget(credentials.get("email", ""))

    def _rollback_login_failed_rl_usage(self) -> None:
        """Nothing: `note_success` does that."""

    # --- mail ---

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        self._mail(template_prefix, email, context).send()

    def _mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> EmailMessage:
        """A mail whose addresses begin with `site_root`, whatever host and port the visitor named."""
        request = cast(HttpRequest, allauth_context.request)
        here, root = request.build_absolute_uri("/"), f"{site_root(request)}/"
        moved = {
            name: root + value.removeprefix(here) if isinstance(value, str) and value.startswith(here) else value
            for name, value in context.items()
        }
        site = SimpleNamespace(name="DreamSketch", domain=urlsplit(root).netloc)
        return self.render_mail(
            template_prefix, email, {"request": request, "email": email, "current_site": site} | moved
        )
