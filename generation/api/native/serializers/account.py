"""Usage, receipts and API keys in answers, rendered."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.keys import MAX_DAILY_IMAGES, MAX_DAYS
from accounts.models import ApiKey, QuotaHold, Scope

from .common import Moment
from .requests import DrawnRequest


class Receipt(serializers.ModelSerializer):
    generationId = serializers.UUIDField(source="generation_id")
    createdAt = Moment(source="created_at")
    endedAt = Moment(source="ended_at", allow_null=True)
    request = serializers.SerializerMethodField(help_text="What was drawn; null where that is gone.")

    class Meta:
        model = QuotaHold
        fields = ["generationId", "day", "images", "charged", "state", "reason", "createdAt", "endedAt", "request"]

    @extend_schema_field(DrawnRequest(allow_null=True))
    def get_request(self, hold: QuotaHold) -> dict[str, Any] | None:
        return self.context["requests"].get(hold.generation_id)


class Usage(serializers.Serializer):
    plan = serializers.CharField()
    limit = serializers.IntegerField(allow_null=True, help_text="Images a day. Null: without limit.")
    held = serializers.IntegerField(help_text="Set aside for generations that have not ended.")
    used = serializers.IntegerField()
    remaining = serializers.IntegerField(allow_null=True)
    resetsAt = Moment(source="resets_at")
    receipts = Receipt(many=True, help_text="The newest 50.")


class Key(serializers.ModelSerializer):
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    dailyImages = serializers.IntegerField(
        source="daily_images", allow_null=True, help_text="Images a UTC day. Null: as many as the plan."
    )
    requestsPerMinute = serializers.IntegerField(
        source="requests_per_minute", allow_null=True, help_text="API calls. Null: as many as the site allows."
    )
    createdAt = Moment(source="created_at")
    lastUsedAt = Moment(source="last_used_at", allow_null=True, help_text="To the minute.")
    expiresAt = Moment(source="expires_at", allow_null=True)
    revokedAt = Moment(source="revoked_at", allow_null=True)

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "name",
            "hint",
            "scopes",
            "dailyImages",
            "requestsPerMinute",
            "createdAt",
            "lastUsedAt",
            "expiresAt",
            "revokedAt",
        ]


class Keys(serializers.Serializer):
    keys = Key(many=True)


class NewKey(serializers.Serializer):
    name = serializers.CharField(max_length=60)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices),
        required=False,
        allow_null=True,
        min_length=1,
        help_text="What the key may be used for. Left out: everything.",
    )
    expires_in_days = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MAX_DAYS,
        help_text="Left out: it does not expire. Also: `expiresInDays`.",
    )
    daily_images = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MAX_DAILY_IMAGES,
        help_text="Of the plan's images a day. Also: `dailyImages`.",
    )
    requests_per_minute = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="At most the site's. Also: `requestsPerMinute`."
    )


class IssuedKey(Key):
    key = serializers.CharField(help_text="Shown this once. We keep only a hash of it.")

    class Meta(Key.Meta):
        fields = [*Key.Meta.fields, "key"]
