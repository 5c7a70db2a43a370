"""The sign-up form: allauth's, with one account for one mailbox and no throw-away addresses (`SIGNUP_CHECKS`)."""

from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.forms import SignupForm as AllauthSignupForm
from allauth.core.exceptions import ImmediateHttpResponse
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.shortcuts import redirect

from .mailboxes import is_throwaway, mailbox_of
from .models import User


class SignupForm(AllauthSignupForm):
    def validate_unique_email(self, value: str) -> str:
        if settings.SIGNUP_CHECKS and is_throwaway(value):
            raise ValidationError("Please use an address that you keep: this one is of a throw-away service.")
        email = super().validate_unique_email(value)
        if settings.SIGNUP_CHECKS and User.objects.filter(mailbox=mailbox_of(email)).exists():
            # Where mail can be sent, a visitor learns nothing here and the mailbox's owner reads why.
            if app_settings.EMAIL_VERIFICATION != app_settings.EmailVerificationMethod.MANDATORY:
                raise get_adapter().validation_error("email_taken")
            self.account_already_exists = True
        return email

    def try_save(self, request: HttpRequest) -> Any:
        if self.account_already_exists:
            # As long as for a new account, or the time of the answer would tell.
            make_password(self.cleaned_data["password1"])
        try:
            with transaction.atomic():
                return super().try_save(request)
        except IntegrityError:
            # Somebody was quicker with the same mailbox, most likely they themselves with a second click.
            raise ImmediateHttpResponse(redirect("account_login")) from None
