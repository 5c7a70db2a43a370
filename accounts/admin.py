"""Django admin of users, groups, daily usage, quota holds and API keys, whose secrets are not stored and never shown.

Rights are given by superusers only: nobody else changes what decides about rights, nor the account of one who has some.
"""

from typing import Any

from allauth.account.admin import EmailAddressAdmin as AllauthEmailAddressAdmin
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from .models import ApiKey, DailyUsage, QuotaHold, User

RIGHTS = ["is_staff", "is_superuser", "groups", "user_permissions"]


def may(request: HttpRequest, permission: str) -> bool:
    """Whether the person at the admin has that right (`app_label.codename`)."""
    return isinstance(request.user, User) and request.user.has_perm(permission)


def is_superuser(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_active and request.user.is_superuser


def _has_rights(user: User) -> bool:
    return user.is_staff or user.is_superuser


class GuardsRights:
    """A ModelAdmin whose objects belong to an account: those of staff and superusers are for superusers to change.

    Otherwise the right to change accounts would be the right to become any of them.
    """

    def account_of(self, obj: Any) -> User:
        return obj.user

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)  # type: ignore[misc]

    def _may_touch(self, request: HttpRequest, obj: Any) -> bool:
        return obj is None or is_superuser(request) or not _has_rights(self.account_of(obj))


@admin.register(User)
class UserAdmin(GuardsRights, DjangoUserAdmin):
    ordering = ["-date_joined"]
    list_display = ["email", "plan", "is_active", "is_staff", "locked_reason", "date_joined", "last_login"]
    list_filter = ["plan", "is_active", "is_staff"]
    search_fields = ["email", "first_name", "last_name"]
    readonly_fields = ["last_login", "date_joined"]
    fieldsets = [
        (None, {"fields": ["email", "password", "plan", "locked_reason"]}),
        ("Name", {"fields": ["first_name", "last_name"]}),
        ("Rights", {"fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"classes": ["wide"], "fields": ["email", "password1", "password2", "plan"]})]

    def account_of(self, obj: Any) -> User:
        return obj

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, *([] if is_superuser(request) else RIGHTS)]


class SuperusersOnly:
    """A ModelAdmin of what decides about rights."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_superuser(request)


admin.site.unregister(Group)
admin.site.unregister(EmailAddress)


@admin.register(Group)
class GroupAdmin(SuperusersOnly, DjangoGroupAdmin):
    pass


@admin.register(EmailAddress)
class EmailAddressAdmin(SuperusersOnly, AllauthEmailAddressAdmin):
    """Whoever can set an account's confirmed address can have its password reset."""

    @admin.action(description="Mark selected addresses as confirmed", permissions=["change"])
    def make_verified(self, request: HttpRequest, queryset: QuerySet[EmailAddress]) -> None:
        super().make_verified(request, queryset)


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that only services change."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(DailyUsage)
class DailyUsageAdmin(ReadOnlyAdmin):
    list_display = ["user", "day", "used", "held", "free_cancels", "strikes"]
    list_filter = ["day"]
    search_fields = ["user__email"]


@admin.register(QuotaHold)
class QuotaHoldAdmin(ReadOnlyAdmin):
    list_display = ["user", "generation_id", "day", "images", "charged", "state", "reason", "created_at"]
    list_filter = ["state", "day"]
    search_fields = ["user__email", "generation_id"]


@admin.register(ApiKey)
class ApiKeyAdmin(GuardsRights, admin.ModelAdmin):
    list_display = ["name", "hint", "user", "created_at", "last_used_at", "expires_at", "revoked_at"]
    list_filter = ["revoked_at"]
    search_fields = ["name", "public_id", "user__email"]
    readonly_fields = ["user", "hint", "scopes", "created_at", "last_used_at", "revoked_at"]
    fields = [
        "user",
        "hint",
        "name",
        "scopes",
        "daily_images",
        "requests_per_minute",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    ]
    actions = ["revoke"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # the key could not be shown to its owner

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = [key for key in queryset.select_related("user") if self.has_change_permission(request, key)]
        for key in keys:
            key.revoke()
        if isinstance(request.user, User) and keys:
            LogEntry.objects.log_actions(request.user.pk, keys, CHANGE, change_message="Revoked.")
        self.message_user(request, f"{len(keys)} revoked.")
