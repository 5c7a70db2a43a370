"""Webhook endpoints and their deliveries over HTTP: serializers, OpenAPI operations and views."""

from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.response import Response

from accounts.authentication import key_scope
from generation.api.http.requests import ApiRequest
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.services.parse import flag, text
from generation.webhooks import delivery
from generation.webhooks.egress import MAX_URL
from generation.webhooks.endpoints import (
    MAX_DESCRIPTION,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    rotate_secret,
)
from generation.webhooks.events import EVENTS, send_test

from . import openapi as doc
from .keys import strings
from .serializers.common import Moment

DELIVERIES_SHOWN = 50


# --- serializers and examples ---------------------------------------------------------------------------


class Webhook(serializers.ModelSerializer):
    events = serializers.ListField(child=serializers.ChoiceField(choices=list(EVENTS)))
    disabledReason = serializers.CharField(source="disabled_reason", help_text="Why we switched it off.")
    failingSince = Moment(source="failing_since", allow_null=True, help_text="Nothing could be delivered since.")
    previousSecretUntil = Moment(
        source="previous_until", allow_null=True, help_text="Until then the previous secret signs too."
    )
    createdAt = Moment(source="created_at")

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "url",
            "description",
            "events",
            "enabled",
            "disabledReason",
            "failingSince",
            "previousSecretUntil",
            "createdAt",
        ]


class WebhookWithSecret(Webhook):
    secret = serializers.CharField(help_text="`whsec_…`, shown this once. Messages are signed with it.")

    class Meta(Webhook.Meta):
        fields = [*Webhook.Meta.fields, "secret"]


class Webhooks(serializers.Serializer):
    webhooks = Webhook(many=True)


class ChangeWebhook(serializers.Serializer):
    url = serializers.URLField(required=False, max_length=MAX_URL)
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=list(EVENTS)), required=False, allow_null=True, min_length=1
    )
    description = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=MAX_DESCRIPTION)
    enabled = serializers.BooleanField(required=False, allow_null=True)


class NewWebhook(serializers.Serializer):
    url = serializers.URLField(max_length=MAX_URL, help_text="https, port 443 or 8443, a public host.")
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=list(EVENTS)),
        required=False,
        allow_null=True,
        min_length=1,
        help_text="Left out: all of them.",
    )
    description = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=MAX_DESCRIPTION)


class Delivery(serializers.ModelSerializer):
    messageId = serializers.CharField(source="message_id", help_text="The `webhook-id` of every attempt.")
    answerStatus = serializers.IntegerField(source="answer_status", allow_null=True, help_text="Of the last attempt.")
    problem = serializers.CharField(help_text="What went wrong in the last attempt; empty where nothing did.")
    nextAttemptAt = serializers.SerializerMethodField()
    createdAt = Moment(source="created_at")
    endedAt = Moment(source="ended_at", allow_null=True)

    class Meta:
        model = WebhookDelivery
        fields = [
            "id",
            "messageId",
            "event",
            "state",
            "attempts",
            "answerStatus",
            "problem",
            "nextAttemptAt",
            "createdAt",
            "endedAt",
        ]

    def get_nextAttemptAt(self, delivery) -> Moment(allow_null=True):
        return Moment().to_representation(delivery.next_at) if delivery.state == "pending" else None


class Deliveries(serializers.Serializer):
    deliveries = Delivery(many=True)


_ID = "6a1d0a52-0c3c-4a92-b0b5-6d5b7f1c2f10"
_WEBHOOK = {
    "id": _ID,
    "url": "https://hooks.example.com/dreamsketch",
    "description": "shop",
    "enabled": True,
    "events": list(EVENTS),
    "disabledReason": "",
    "failingSince": None,
    "previousSecretUntil": None,
    "createdAt": "2026-11-21T08:30:00.000Z",
}
_DELIVERY = {
    "id": _ID,
    "messageId": f"msg_{_ID.replace('-', '')}",
    "event": "generation.completed",
    "state": "delivered",
    "attempts": 1,
    "answerStatus": 204,
    "problem": "",
    "nextAttemptAt": None,
    "createdAt": "2026-11-21T08:30:00.000Z",
    "endedAt": "2026-11-21T08:30:00.300Z",
}
_SECRET = _WEBHOOK | {"secret": "whsec_…"}
_READ = {403: doc.SCOPE, **doc.COMMON}


def example_answer(serializer: type, description: str, value: object) -> OpenApiResponse:
    return OpenApiResponse(serializer, description=description, examples=[OpenApiExample("answer", value=value)])


def _operation(name: str, responses: dict, **options) -> dict:
    return {"operation_id": name, "tags": ["webhooks"], "responses": responses, **options}


# --- endpoints --------------------------------------------------------------------------------------------


def _own(request: ApiRequest, endpoint_id: UUID) -> WebhookEndpoint:
    return get_object_or_404(WebhookEndpoint.objects.owned_by(request.user), pk=endpoint_id)


def _secret_once(endpoint: WebhookEndpoint, status: int) -> Response:
    return Response(WebhookWithSecret(endpoint).data, status=status, headers={"Cache-Control": "no-store"})


@extend_schema(
    methods=["GET"],
    **_operation("listWebhooks", {200: example_answer(Webhooks, "Your webhooks.", {"webhooks": [_WEBHOOK]}), **_READ}),
)
@extend_schema(
    methods=["POST"],
    **_operation(
        "createWebhook",
        {
            201: example_answer(WebhookWithSecret, "The webhook with its secret, shown this once.", _SECRET),
            **doc.POSTED,
            409: doc.IN_THE_WAY,
        },
        request={"application/json": NewWebhook},
        description="Have an address told of events.",
    ),
)
@key_scope("manage")
@api_view(["GET", "HEAD", "POST"])
def endpoints(request) -> Response:
    """Your webhooks, without their secrets."""
    if request.method != "POST":
        own = WebhookEndpoint.objects.owned_by(request.user)
        return Response({"webhooks": Webhook(own, many=True).data})
    data = request.data
    webhook = create_endpoint(
        user=request.user,
        url=text(data.get("url"), "url", limit=MAX_URL),
        events=strings(data.get("events"), "events"),
        description=_text_or_none(data, "description") or "",
    )
    return _secret_once(webhook, 201)


def _text_or_none(data: dict, name: str, limit: int = 200) -> str | None:
    return None if data.get(name) is None else text(data[name], name, limit=limit)


@extend_schema(
    methods=["GET"],
    **_operation("webhook", {200: example_answer(Webhook, "The webhook.", _WEBHOOK), 404: doc.MISSING, **_READ}),
)
@extend_schema(
    methods=["PATCH"],
    **_operation(
        "changeWebhook",
        {200: example_answer(Webhook, "The webhook as it is now.", _WEBHOOK), 404: doc.MISSING, **doc.POSTED},
        request={"application/json": ChangeWebhook},
        description="Change what is given. Switching it off gives up what is on its way.",
    ),
)
@extend_schema(
    methods=["DELETE"],
    **_operation(
        "deleteWebhook",
        {204: OpenApiResponse(description="It is gone, with its deliveries."), 404: doc.MISSING, **_READ},
        description="Delete a webhook.",
    ),
)
@key_scope("manage")
@api_view(["GET", "HEAD", "PATCH", "DELETE"])
def endpoint(request, endpoint_id: UUID) -> Response:
    """One of your webhooks."""
    webhook = _own(request, endpoint_id)
    if request.method == "DELETE":
        delete_endpoint(webhook)
        return Response(status=204)
    if request.method == "PATCH":
        data = request.data
        enabled = None if data.get("enabled") is None else flag(data["enabled"], "enabled")
        change_endpoint(
            webhook,
            url=_text_or_none(data, "url", MAX_URL),
            events=strings(data.get("events"), "events"),
            description=_text_or_none(data, "description"),
            enabled=enabled,
        )
    return Response(Webhook(webhook).data)


@extend_schema(
    **_operation(
        "testWebhook",
        {
            202: example_answer(
                Delivery,
                "On its way; `deliveries` tells what came of it.",
                _DELIVERY | {"event": "webhook.test", "state": "pending"},
            ),
            404: doc.MISSING,
            409: doc.IN_THE_WAY,
            **doc.POSTED,
        },
        request=None,
    )
)
@key_scope("manage")
@api_view(["POST"])
def test(request, endpoint_id: UUID) -> Response:
    """Send a test message (`webhook.test`) to a webhook."""
    return Response(Delivery(send_test(_own(request, endpoint_id))).data, status=202)


@extend_schema(
    **_operation(
        "rotateWebhookSecret",
        {
            200: example_answer(WebhookWithSecret, "The webhook with its new secret, shown this once.", _SECRET),
            404: doc.MISSING,
            **doc.POSTED,
        },
        request=None,
    )
)
@key_scope("manage")
@api_view(["POST"])
def rotate(request, endpoint_id: UUID) -> Response:
    """Give a webhook a new secret. For a day messages carry a signature by the previous one too."""
    webhook = _own(request, endpoint_id)
    rotate_secret(webhook)
    return _secret_once(webhook, 200)


@extend_schema(
    **_operation(
        "listWebhookDeliveries",
        {
            200: example_answer(Deliveries, "The newest deliveries.", {"deliveries": [_DELIVERY]}),
            404: doc.MISSING,
            **_READ,
        },
    )
)
@key_scope("manage")
@api_view(["GET", "HEAD"])
def deliveries(request, endpoint_id: UUID) -> Response:
    """The newest 50 deliveries of a webhook, and what came of them."""
    newest = _own(request, endpoint_id).deliveries.order_by("-created_at")[:DELIVERIES_SHOWN]
    return Response({"deliveries": Delivery(newest, many=True).data})


@extend_schema(
    **_operation(
        "resendWebhookDelivery",
        {
            202: example_answer(Delivery, "On its way again.", _DELIVERY | {"state": "pending"}),
            404: doc.MISSING,
            409: doc.IN_THE_WAY,
            **doc.POSTED,
        },
        request=None,
    )
)
@key_scope("manage")
@api_view(["POST"])
def resend(request, delivery_id: UUID) -> Response:
    """Send a delivery that has ended once more, with the same `webhook-id`."""
    own = WebhookDelivery.objects.filter(endpoint__in=WebhookEndpoint.objects.owned_by(request.user))
    row = get_object_or_404(own.select_related("endpoint"), pk=delivery_id)
    delivery.resend(row)
    return Response(Delivery(row).data, status=202)
