"""Index, health check, system status and usage: the site and the account over HTTP."""

import datetime as dt
import shutil
import uuid
from collections.abc import Iterable

from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Avg, Count, F, Sum
from django.db.models.functions import Now
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from accounts import quotas
from accounts.models import QuotaHold
from generation import catalog
from generation.api.http.requests import absolute_url
from generation.live import store
from generation.models import Generation
from generation.queue import presence
from generation.representation import describe_request, timestamp

from . import openapi as doc
from .serializers.account import Receipt

READ = ["GET", "HEAD"]
RECEIPTS = 50
KEPT_SECONDS = 10


# --- the site -------------------------------------------------------------------------------------------


@extend_schema(**doc.INFO)
@api_view(READ)
@authentication_classes([])
@permission_classes([AllowAny])
def index(request) -> Response:
    """What this is and where things are. Also the answer of `/` to programs."""

    def url_of(name: str) -> str:
        return absolute_url(request, reverse(name))

    return Response(
        {
            "name": "DreamSketch",
            "version": settings.VERSION,
            "documentation": url_of("api-docs"),
            "schema": url_of("api-schema"),
            "endpoints": {
                "health": url_of("api-health"),
                "status": url_of("api-system-status"),
                "models": url_of("api-models"),
                "generate": url_of("api-generate"),
                "parse_prompt": url_of("api-parse-prompt"),
                "history": url_of("api-history"),
                "results": url_of("api-results"),
                "usage": url_of("api-usage"),
                "keys": url_of("api-keys"),
                "webhooks": url_of("api-webhooks"),
            },
        }
    )


@extend_schema(**doc.HEALTH)
@api_view(READ)
@authentication_classes([])
@permission_classes([AllowAny])
def health(request) -> Response:
    """Whether requests can be served. 503 only while Postgres is away: without the rest, work still is accepted."""
    workers = _workers()
    database = "ok" if workers is not None or _database_answers() else "away"
    return Response(
        {
            "status": "ok" if database == "ok" else "unavailable",
            "database": database,
            "redis": store.state(),
            "storage": _storage_state(),
            "workers": workers,
        },
        status=200 if database == "ok" else 503,
        headers={"Cache-Control": "no-store"} | ({} if database == "ok" else {"Retry-After": "5"}),
    )


def _workers() -> int | None:
    """How many there are; None while Postgres is away or not yet migrated, and so nobody knows."""
    try:
        return len(presence.workers())
    except DatabaseError:
        return None


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return True
    except DatabaseError:
        return False


def _storage_state() -> str:
    """`full` when there is less room on the disk than a worker needs; object stores are asked by workers only."""
    if not isinstance(default_storage, FileSystemStorage) and settings.STORAGE != "local":
        return "ok"
    folder = next((path for path in (settings.MEDIA_ROOT, *settings.MEDIA_ROOT.parents) if path.exists()), None)
    try:
        return "ok" if shutil.disk_usage(folder).free >= settings.MIN_FREE_DISK_BYTES else "full"
    except (OSError, TypeError):
        return "away"


@extend_schema(**doc.SYSTEM_STATUS)
@api_view(READ)
@permission_classes([AllowAny])
def system_status(request) -> Response:
    """Version, workers with their devices, queue depth and throughput. Open to all, as a status page is."""
    workers = [_serialize_worker(report, request.user.is_authenticated) for report in presence.workers()]
    return Response(
        {
            "version": settings.VERSION,
            "workers": workers,
            "models_loaded": sorted({key for worker in workers for key in worker["models"]}),
            **cache.get_or_set("api-work", _load, KEPT_SECONDS),
        }
    )


def _serialize_worker(report: dict, with_name: bool) -> dict:
    return {
        "name": report["name"] if with_name else None,
        # A worker of another version may leave something out, and this must answer all the same.
        "device": report.get("device", ""),
        "device_name": report.get("device_name", ""),
        "memory": report.get("memory"),
        "models": report.get("models", []),
        "running": report.get("running", 0),
        "seen_at": timestamp(report["seen_at"]),
    }


def _load() -> dict:
    """Queue depth, and what was finished in the last hour."""
    counts = dict(Generation.objects.active().values_list("status").annotate(Count("pk")))
    done = Generation.objects.filter(
        # The models are named because the index of finished generations begins with them.
        model__in=[spec.key for spec in catalog.catalog()],
        status=Generation.Status.COMPLETED,
        finished_at__gt=Now() - dt.timedelta(hours=1),
    ).aggregate(images=Sum("image_count"), generations=Count("pk"), mean=Avg(F("finished_at") - F("started_at")))
    return {
        "queue": {name: counts.get(name, 0) for name in Generation.ACTIVE},
        "throughput": {
            "images": done["images"] or 0,
            "generations": done["generations"],
            "mean_seconds": None if done["mean"] is None else round(done["mean"].total_seconds(), 2),
        },
    }


# --- the account ----------------------------------------------------------------------------------------


@extend_schema(**doc.USAGE)
@api_view(READ)
def usage(request) -> Response:
    """What your plan allows today, what of it is used or set aside, and the newest receipts."""
    quota = quotas.remaining(request.user)
    receipts = QuotaHold.objects.filter(user=request.user).order_by("-created_at")[:RECEIPTS]
    return Response(
        {
            "plan": quota.plan,
            "limit": quota.limit,
            "held": quota.held,
            "used": quota.used,
            "remaining": quota.remaining,
            "resetsAt": timestamp(quota.resets_at),
            "receipts": Receipt(receipts, many=True, context={"requests": _requests_of(receipts)}).data,
        }
    )


def _requests_of(receipts: Iterable[QuotaHold]) -> dict[uuid.UUID, dict]:
    """What each of these was for, by the id of its generation."""
    generations = Generation.objects.filter(pk__in=[receipt.generation_id for receipt in receipts])
    return {generation.pk: describe_request(generation, generation.owner_id) for generation in generations}
