"""Models of accounts: User (signs in by e-mail), DailyUsage, QuotaHold, SignInTries, ApiKey and its scopes."""

import hashlib
import hmac
import secrets
from typing import Any, Self

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now
from django.utils import timezone

from .mailboxes import mailbox_of


class UserManager(BaseUserManager["User"]):
    """Makes users without a user name."""

    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        if not email:
            raise ValueError("An e-mail address is needed.")
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        mailbox = mailbox_of(user.email)
        if user.mailbox is None and not self.filter(mailbox=mailbox).exists():
            user.mailbox = mailbox
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """An account. People sign in with their e-mail address; there are no user names."""

    class PlanKey(models.TextChoices):
        FREE = "free", "Free"
        PRO = "pro", "Pro"

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)  # type: ignore[override]
    plan = models.CharField(max_length=8, choices=PlanKey, default=PlanKey.FREE)
    locked_reason = models.CharField(
        max_length=200,
        blank=True,
        help_text="When not empty, this account cannot generate; the text is shown to its owner.",
    )

    mailbox = models.CharField(
        max_length=254,
        unique=True,
        null=True,
        blank=True,
        editable=False,
        help_text="see accounts.mailboxes; empty where accounts may share one",
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
    objects = UserManager()  # type: ignore[override]

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.email


class DailyUsage(models.Model):
    """What one user has used and holds on one UTC day. Changed only by `accounts.quotas`."""

    user = models.ForeignKey(User, models.CASCADE, related_name="usage")
    day = models.DateField()
    held = models.IntegerField(db_default=0)
    used = models.IntegerField(db_default=0)
    free_cancels = models.IntegerField(db_default=0, help_text="running generations cancelled without charge")
    strikes = models.IntegerField(db_default=0, help_text="outputs blocked by the safety check")

    class Meta:
        verbose_name_plural = "daily usage"
        constraints = [
            models.UniqueConstraint(fields=["user", "day"], name="usage_one_row_a_day"),
            models.CheckConstraint(condition=Q(held__gte=0, used__gte=0), name="usage_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.user} on {self.day}: {self.used} used, {self.held} held"


class QuotaHold(models.Model):
    """Images set aside for one generation until it ends. `settled` or `released` exactly once."""

    class State(models.TextChoices):
        HELD = "held"
        SETTLED = "settled"
        RELEASED = "released"

    user = models.ForeignKey(User, models.CASCADE, related_name="holds")
    generation_id = models.UUIDField(unique=True)
    day = models.DateField()
    images = models.PositiveSmallIntegerField()
    charged = models.PositiveSmallIntegerField(default=0)
    state = models.CharField(max_length=8, choices=State, default=State.HELD)
    reason = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["user", "-created_at"])]
        constraints = [
            models.CheckConstraint(condition=Q(charged__lte=models.F("images")), name="hold_charges_at_most_held"),
            models.CheckConstraint(condition=Q(state="settled") | Q(charged=0), name="hold_charges_when_settled"),
        ]

    def __str__(self) -> str:
        return f"{self.images} {self.state} for {self.generation_id}"


class SignInTries(models.Model):
    """How often an account (SHA-256 of the address given) was tried from where. Changed only by `accounts.sign_in`."""

    account = models.CharField(max_length=64, help_text="empty: any")
    origin = models.CharField(max_length=64, help_text="SHA-256 of a network address; empty: any")
    tries = models.PositiveIntegerField()
    window_ends = models.DateTimeField()
    succeeded_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "origin"], name="sign_in_tries_once")]

    def __str__(self) -> str:
        return f"{self.tries} until {self.window_ends}"


KEY_PREFIX = "dsk_"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def visible_to(self, user: "User | AnonymousUser") -> Self:
        return self.filter(user=user) if user.is_authenticated else self.none()

    def active(self) -> Self:
        """Those that open something now: not expired, not revoked, their owner active."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None, user__is_active=True)


class Scope(models.TextChoices):
    """What a key may be used for."""

    READ = "read", "See images and jobs"
    GENERATE = "generate", "Ask for images"
    MANAGE = "manage", "Change and delete images, keys and webhooks"


def every_scope() -> list[str]:
    return list(Scope.values)


class ApiKey(models.Model):
    """A key for programs: `dsk_<8 public>_<43 secret>`. Only a hash of the secret is kept.

    SHA-256 without stretching is enough for 256 random bits, and a slow hash would let anybody keep the
    server busy with made-up keys.
    """

    user = models.ForeignKey(User, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=60)
    public_id = models.CharField(max_length=8, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    scopes = models.JSONField(default=every_scope)
    daily_images = models.PositiveIntegerField(null=True, blank=True, help_text="of the plan's; empty: all of them")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="empty: the site's limit")
    options = models.JSONField(default=dict, blank=True, help_text="what a dialect keeps for this key")

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})"

    @property
    def hint(self) -> str:
        """What may be shown of the key."""
        return f"{KEY_PREFIX}{self.public_id}_…"

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @classmethod
    def issue(cls, *, user: User, name: str, **fields: Any) -> tuple["ApiKey", str]:
        """Make a key; the second value is the only time that the key itself exists. `accounts.keys` has the rules."""
        public_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        key = cls.objects.create(user=user, name=name, public_id=public_id, secret_hash=_hash(secret), **fields)
        return key, f"{KEY_PREFIX}{public_id}_{secret}"

    @classmethod
    def find(cls, token: str) -> "ApiKey | None":
        """The active key that `token` is, with its user, or None."""
        if not token.startswith(KEY_PREFIX) or len(token) > 100 or not (token.isascii() and token.isprintable()):
            return None
        public_id, _, secret = token.removeprefix(KEY_PREFIX).partition("_")
        key = cls.objects.active().select_related("user").filter(public_id=public_id).first()
        if key and hmac.compare_digest(key.secret_hash, _hash(secret)):
            return key
        return None

    def revoke(self) -> None:
        type(self).objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=timezone.now())


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
