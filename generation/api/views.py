"""HTTP for programs. Each view reads the request, calls one service and describes what came of it."""

import datetime as dt
import shutil

from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Avg, Count, F, Sum
from django.db.models.functions import Now
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from accounts import quotas
from accounts.models import ApiKey, QuotaHold
from generation import estimates, offered, progress, services, status
from generation.engine.request import MAX_IMAGES
from generation.engine.sources import is_ready
from generation.models import GeneratedImage, Generation

from . import documents as doc
from . import serializers as shapes
from .events import event_stream, let_go_of_database
from .requests import flag, idempotency_key, names_as_given, read_request, text, whole

READ = ["GET", "HEAD"]
RECEIPTS = 50
PER_PAGE, MAX_PER_PAGE, MAX_PAGE = 20, 100, 100_000
KEPT_SECONDS = 10


def generation_or_404(request, generation_id) -> Generation:
    return get_object_or_404(Generation.objects.visible_to(request.user), pk=generation_id)


def site_root(request) -> str:
    return request.build_absolute_uri("/")


# --- the site -------------------------------------------------------------------------------------------


@extend_schema(**doc.INFO)
@api_view(READ)
@authentication_classes([])
@permission_classes([AllowAny])
def info(request):
    """What this is and where things are. Also the answer of `/` to programs."""
    def at(name):
        return request.build_absolute_uri(reverse(name))

    return Response({
        "name": "DreamSketch",
        "version": settings.VERSION,
        "documentation": at("api-docs"),
        "schema": at("api-schema"),
        "endpoints": {
            "health": at("api-health"),
            "status": at("api-system-status"),
            "models": at("api-models"),
            "generate": at("api-generate"),
            "history": at("api-history"),
            "usage": at("api-usage"),
            "keys": at("api-keys"),
        },
    })


@extend_schema(**doc.HEALTH)
@api_view(READ)
@authentication_classes([])
@permission_classes([AllowAny])
def health(request):
    """Whether requests can be served. 503 only while Postgres is away: without the rest, work still is accepted."""
    database = _database_state()
    return Response(
        {
            "status": "ok" if database == "ok" else "unavailable",
            "database": database,
            "redis": "ok" if progress.redis_answers() else "away",
            "storage": _storage_state(),
            "workers": len(progress.workers()),
        },
        status=200 if database == "ok" else 503,
        headers={"Cache-Control": "no-store"} | ({} if database == "ok" else {"Retry-After": "5"}),
    )


def _database_state() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return "ok"
    except DatabaseError:
        return "away"


def _storage_state() -> str:
    """`full` when there is less room on the disk than a worker needs; object stores are asked by workers only."""
    if not isinstance(default_storage, FileSystemStorage) and settings.STORAGE != "local":
        return "ok"
    folder = next((one for one in (settings.MEDIA_ROOT, *settings.MEDIA_ROOT.parents) if one.exists()), None)
    try:
        return "ok" if shutil.disk_usage(folder).free >= settings.MIN_FREE_DISK_BYTES else "full"
    except (OSError, TypeError):
        return "away"


@extend_schema(**doc.SYSTEM_STATUS)
@api_view(READ)
@permission_classes([AllowAny])
def system_status(request):
    """Version, workers with their devices, queue depth and throughput. Open to all, as a status page is."""
    workers = [_describe_worker(report, request.user.is_authenticated) for report in progress.workers()]
    return Response({
        "version": settings.VERSION,
        "workers": workers,
        "models_loaded": sorted({key for worker in workers for key in worker["models"]}),
        **cache.get_or_set("api-work", _work, KEPT_SECONDS),
    })


def _describe_worker(report: dict, named: bool) -> dict:
    seen_at = dt.datetime.fromtimestamp(report["seen_at"], tz=dt.UTC)
    return {
        "name": report["name"] if named else None,
        # A worker of another version may leave something out, and this must answer all the same.
        "device": report.get("device", ""),
        "device_name": report.get("device_name", ""),
        "memory": report.get("memory"),
        "models": report.get("models", []),
        "running": report.get("running", 0),
        "seen_at": status.timestamp(seen_at),
    }


def _work() -> dict:
    """Queue depth, and what was finished in the last hour."""
    waiting = dict(Generation.objects.active().values_list("status").annotate(Count("pk")))
    done = Generation.objects.filter(
        # The models are named because the index of finished generations begins with them.
        model__in=[spec.key for spec in offered.catalog()], status=Generation.Status.COMPLETED,
        finished_at__gt=Now() - dt.timedelta(hours=1),
    ).aggregate(images=Sum("image_count"), generations=Count("pk"), mean=Avg(F("finished_at") - F("started_at")))
    return {
        "queue": {name: waiting.get(name, 0) for name in Generation.ACTIVE},
        "throughput": {
            "images": done["images"] or 0,
            "generations": done["generations"],
            "mean_seconds": None if done["mean"] is None else round(done["mean"].total_seconds(), 2),
        },
    }


# --- models ---------------------------------------------------------------------------------------------


@extend_schema(**doc.MODELS)
@api_view(READ)
def models(request):
    """The models of this site and what they may be asked for."""
    loaded = {key for worker in progress.workers() for key in worker.get("models") or ()}
    default = offered.model_named(None).key
    return Response({"models": [_describe_model(spec, spec.key in loaded, default) for spec in offered.catalog()]})


def _describe_model(spec, loaded: bool, default: str) -> dict:
    ready = loaded or is_ready(spec, models_dir=settings.MODELS_DIR)
    return {
        "key": spec.key,
        "title": spec.title,
        "summary": spec.summary,
        "family": spec.family,
        "native_size": {"width": spec.native_width, "height": spec.native_height},
        "side": {"min": spec.min_side, "max": spec.max_side, "multiple_of": spec.size_multiple},
        "steps": {"min": spec.min_steps, "max": spec.max_steps, "default": spec.default_steps},
        "guidance_scale": {"min": 0, "max": spec.max_guidance, "default": spec.default_guidance},
        "num_images": {"min": 1, "max": MAX_IMAGES, "default": 1},
        "samplers": list(spec.samplers),
        "default_sampler": spec.default_sampler,
        "is_default": spec.key == default,
        "licence": spec.licence,
        "memory_gib": spec.memory_gib,
        "state": "loaded" if loaded else "ready" if ready else "not_downloaded",
        "aliases": list(spec.aliases),
    }


# --- generations ----------------------------------------------------------------------------------------


@extend_schema(**doc.GENERATE)
@api_view(["POST"])
def generate(request):
    """Ask for images. Answers at once; the job is drawn in the background.

    An `Idempotency-Key` header makes repeats safe: the same key with the same request gives the same job.
    """
    asked = read_request(request.data)
    key = idempotency_key(request)
    with names_as_given(request.data):
        if flag(request.data.get("dry_run"), "dry_run"):
            return Response(_quote(request.user, asked))
        generation, _ = services.create_generation(
            user=request.user, source=Generation.Source.API, api_key=request.auth, idempotency_key=key, **asked)
    return _submitted(request, generation)


def _submitted(request, generation) -> Response:
    described = shapes.described(generation, site_root(request))
    links = {name: described[name] for name in ("status_url", "events_url", "cancel_url")}
    return Response(
        {"job_id": described["id"], "jobId": described["id"], "id": described["id"], "status": described["status"],
         **links, "queue_position": described["queue_position"], "eta_seconds": described["eta_seconds"]},
        status=202, headers={"Location": links["status_url"]},
    )


def _quote(user, asked) -> dict:
    remaining = quotas.remaining(user).remaining
    generation = services.quote_generation(user=user, source=Generation.Source.API, **asked)
    return {
        "dry_run": True,
        "images": generation.num_images,
        "remaining": remaining,
        "eta_seconds": estimates.seconds_if_submitted(generation),
        "request": {
            "model": generation.model,
            "prompt": generation.composed_prompt,
            "negative_prompt": generation.composed_negative_prompt,
            "width": generation.width,
            "height": generation.height,
            "steps": generation.steps,
            "guidance_scale": generation.guidance_scale,
            "sampler": generation.sampler,
            "seed": None if asked.get("seed") in (None, -1) else generation.seed,
            "num_images": generation.num_images,
        },
    }


@extend_schema(**doc.GENERATION_STATUS)
@api_view(READ)
def generation_status(request, generation_id):
    """How a generation fares, and its images. Cheap to poll; `events` tells sooner."""
    return _status(request, generation_id)


@extend_schema(**doc.GENERATION_STATUS_ALIAS)
@api_view(READ)
def generation_status_alias(request, generation_id):
    """The same as `/api/status/{id}`, under the name that other programs know."""
    return _status(request, generation_id)


def _status(request, generation_id) -> Response:
    return Response(shapes.described(generation_or_404(request, generation_id), site_root(request)))


@extend_schema(**doc.CANCEL)
@api_view(["POST"])
def cancel(request, generation_id):
    """Cancel. A queued generation ends at once; a running one stops at its next step."""
    generation = generation_or_404(request, generation_id)
    return Response({"id": str(generation.pk), "status": services.cancel_generation(generation)})


@extend_schema(**doc.RETRY)
@api_view(["POST"])
def retry(request, generation_id):
    """Ask for the same again, after it failed, expired or was cancelled. It is a new job and counts as one."""
    generation = generation_or_404(request, generation_id)
    again = services.retry_generation(generation, source=Generation.Source.API, api_key=request.auth)
    return _submitted(request, again)


@extend_schema(**doc.EVENTS)
@api_view(READ)
def events(request, generation_id):
    """The generation as server-sent events: its status, then what happens, until it has ended.

    `Last-Event-ID` replays what was missed. At most 8 streams per account are open at a time.
    """
    generation = generation_or_404(request, generation_id)
    if request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream; charset=utf-8")
    root, last = site_root(request), request.headers.get("Last-Event-ID")
    let_go_of_database()  # this thread lives as long as the stream
    return event_stream(generation, root=root, last_event_id=last)


# --- images ---------------------------------------------------------------------------------------------


@extend_schema(**doc.HISTORY)
@api_view(READ)
def history(request):
    """Your images, newest first, without those in the trash. By `page`, or by `cursor`, which stays quick."""
    query = request.query_params
    page = whole(query.get("page"), "page", 1, MAX_PAGE, 1)
    per_page = whole(query.get("perPage"), "perPage", 1, MAX_PER_PAGE, PER_PAGE)
    cursor = whole(query.get("cursor"), "cursor", 0, 10**18 - 1, -1)
    own = GeneratedImage.objects.owned_by(request.user).kept()
    rows = own.select_related("generation").order_by("-number")
    start = 0 if cursor >= 0 else (page - 1) * per_page
    if cursor >= 0:
        rows = rows.filter(number__lt=cursor)
    found = list(rows[start:start + per_page + 1])
    images = found[:per_page]
    return Response({
        "images": shapes.HistoryImage(images, many=True, context={"request": request}).data,
        "total": own.count(),
        "page": None if cursor >= 0 else page,
        "perPage": per_page,
        "nextCursor": str(images[-1].number) if len(found) > per_page else None,
    })


@extend_schema(methods=["GET"], **doc.IMAGE)
@extend_schema(methods=["DELETE"], **doc.IMAGE_DELETE)
@api_view([*READ, "DELETE"])
def image(request, image_id):
    """One image: what it shows and how it was drawn."""
    if request.method == "DELETE":
        return _delete_image(request, image_id)
    images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
    found = get_object_or_404(images, id=image_id)
    return Response(shapes.ImageDetail(found, context={"request": request}).data)


def _delete_image(request, image_id) -> Response:
    permanent = flag(request.query_params.get("permanent"), "permanent")
    found = get_object_or_404(GeneratedImage.objects.owned_by(request.user), id=image_id)
    if permanent:
        services.delete_images(request.user, [found])
    else:
        services.trash_images(request.user, [found])
    return Response(status=204)


# --- the account ----------------------------------------------------------------------------------------


@extend_schema(**doc.USAGE)
@api_view(READ)
def usage(request):
    """What your plan allows today, what of it is used or set aside, and the newest receipts."""
    quota = quotas.remaining(request.user)
    receipts = QuotaHold.objects.filter(user=request.user).order_by("-created_at")[:RECEIPTS]
    return Response({
        "plan": quota.plan,
        "limit": quota.limit,
        "held": quota.held,
        "used": quota.used,
        "remaining": quota.remaining,
        "resetsAt": status.timestamp(quota.resets_at),
        "receipts": shapes.Receipt(receipts, many=True).data,
    })


@extend_schema(methods=["GET"], **doc.KEYS)
@extend_schema(methods=["POST"], **doc.KEY_CREATE)
@api_view([*READ, "POST"])
def keys(request):
    """Your API keys, without their secrets."""
    if request.method == "POST":
        return _issue_key(request)
    own = ApiKey.objects.visible_to(request.user)
    return Response({"keys": shapes.Key(own, many=True).data})


def _issue_key(request) -> Response:
    if request.auth:
        # A key that leaked must not be able to outlive its own revocation.
        raise exceptions.PermissionDenied("A key cannot make other keys. Sign in and make it under Settings.")
    name = text(request.data.get("name"), "name", limit=60).strip()
    if not name:
        raise services.InvalidRequest("Give the key a name.", "name")
    key, secret = ApiKey.issue(user=request.user, name=name)
    return Response(shapes.Key(key).data | {"key": secret}, status=201, headers={"Cache-Control": "no-store"})


@extend_schema(**doc.KEY_REVOKE)
@api_view(["DELETE"])
def key(request, key_id):
    """Revoke a key. It stops working at once."""
    get_object_or_404(ApiKey.objects.visible_to(request.user), pk=key_id).revoke()
    return Response(status=204)
