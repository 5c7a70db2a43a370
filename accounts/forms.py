"""Sign-up and sign-in forms: allauth's, with one account for one mailbox, no throw-away addresses, and answers that
tell nobody who has an account (`SIGNUP_CHECKS`).

Where addresses are confirmed by mail, allauth does the last. Elsewhere whoever signed up signs in next, so that a taken
address is answered like a free one.
"""

from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.forms import LoginForm as AllauthLoginForm
from allauth.account.forms import SignupForm as AllauthSignupForm
from allauth.account.internal.flows.email_verification import send_verification_email_to_address
from allauth.account.models import EmailAddress
from allauth.account.utils import passthrough_next_redirect_url
from allauth.core.exceptions import ImmediateHttpResponse
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from .mailboxes import is_throwaway, mailbox_of
from .models import User

SIGNED_UP_AS = "signed_up_as"
"""In the session: the address that the sign-in form begins with."""


class SignupForm(AllauthSignupForm):
    def validate_unique_email(self, value: str) -> str:
        if not settings.SIGNUP_CHECKS:
            return super().validate_unique_email(value)
        if is_throwaway(value):
            raise ValidationError("Please use an address that you keep: this one is of a throw-away service.")
        email = get_adapter().validate_unique_email(value)
        self.account_already_exists = _is_taken(email)
        return email

    def try_save(self, request: HttpRequest) -> tuple[Any, HttpResponse | None]:
        if self.account_already_exists:
            # As long as for a new account, or the time of the answer would tell.
            make_password(self.cleaned_data["password1"])
        if not settings.SIGNUP_CHECKS or app_settings.EMAIL_VERIFICATION == "mandatory":
            return self._save(request)
        email = self.cleaned_data["email"]
        user = None if self.account_already_exists else self._save(request)[0]
        if settings.EMAIL_URL and app_settings.EMAIL_VERIFICATION == "optional":
            # To an address without an account of its own allauth writes that there is one already.
            address = EmailAddress.objects.get(user=user) if user else EmailAddress(email=email)
            send_verification_email_to_address(request, address, signup=True)
        return user, _to_sign_in(request, email)

    def _save(self, request: HttpRequest) -> tuple[Any, Any]:
        try:
            with transaction.atomic():
                return super().try_save(request)
        except IntegrityError:
            # Somebody was quicker with the same mailbox, most likely they themselves with a second click.
            raise ImmediateHttpResponse(_to_sign_in(request, self.cleaned_data["email"])) from None


def _is_taken(email: str) -> bool:
    users = User.objects.filter(Q(email=email.lower()) | Q(mailbox=mailbox_of(email)))
    return users.exists() or EmailAddress.objects.filter(email=email.lower()).exists()


def _to_sign_in(request: HttpRequest, email: str) -> HttpResponse:
    request.session[SIGNED_UP_AS] = email
    return redirect(passthrough_next_redirect_url(request, reverse("account_login"), "next"))


class LoginForm(AllauthLoginForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.request is not None:
            self.fields["login"].initial = self.request.session.get(SIGNED_UP_AS)
