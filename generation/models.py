"""Django models: generations and their images, uploads, LoRA rules, and webhook endpoints and deliveries."""

import secrets
import uuid

from django.conf import settings
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from .engine.request.fields import MAX_SEED

SHORT_ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"


class Visibility(models.TextChoices):
    PRIVATE = "private", "Private"
    UNLISTED = "unlisted", "Anyone with the link"
    PUBLIC = "public", "Public"


class GenerationQuerySet(models.QuerySet):
    def visible_to(self, user):
        """Those that `user` may see: their own. The only way for a view to reach a generation."""
        return self.filter(owner=user) if user.is_authenticated else self.none()

    def active(self):
        """Those that are queued or processing."""
        return self.filter(status__in=Generation.ACTIVE)


class Generation(models.Model):
    """A request for images and its state. The row is the job: it outlives every process and message.

    `queued → processing → completed | failed | blocked | cancelled | expired`; `processing → queued` when
    a worker is lost or hands back. Final states never change (a trigger refuses it). Only `services.generations` and
    `queue.jobs` write here; a worker's writes are fenced by `epoch`, which each claim raises.
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        PROCESSING = "processing"
        COMPLETED = "completed"
        FAILED = "failed"
        BLOCKED = "blocked"
        CANCELLED = "cancelled"
        EXPIRED = "expired"

    ACTIVE = (Status.QUEUED, Status.PROCESSING)
    FINAL = (Status.COMPLETED, Status.FAILED, Status.BLOCKED, Status.CANCELLED, Status.EXPIRED)

    class Source(models.TextChoices):
        PAGE = "page"
        API = "api"
        OPENAI = "openai"
        A1111 = "a1111"
        COMMAND = "command"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="generations")
    owner_id: int
    source = models.CharField(max_length=8, choices=Source, default=Source.PAGE)
    api_key = models.ForeignKey("accounts.ApiKey", models.SET_NULL, null=True, blank=True, related_name="+")
    api_key_id: int | None
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the request")
    retry_of = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="+")
    retry_of_id: uuid.UUID | None
    parent = models.ForeignKey(
        "GeneratedImage",
        models.SET_NULL,
        to_field="id",
        null=True,
        blank=True,
        related_name="edits",
        help_text="the owner's image that drawing started from",
    )
    parent_id: uuid.UUID | None

    # The request. `prompt` is the user's; `composed_prompt` has the style's words and is what is drawn.
    # `storage.image_requests.request_of` makes an ImageRequest of it.
    prompt = models.TextField()
    negative_prompt = models.TextField(blank=True)
    style = models.CharField(max_length=40, blank=True)
    composed_prompt = models.TextField()
    composed_negative_prompt = models.TextField(blank=True)
    model = models.CharField(max_length=80)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    steps = models.PositiveIntegerField()
    guidance_scale = models.FloatField()
    sampler = models.CharField(max_length=40)
    seed = models.BigIntegerField()
    num_images = models.PositiveSmallIntegerField(default=1)
    total_steps = models.PositiveIntegerField(
        default=1, db_default=1, help_text="denoising steps of all images: ImageRequest.total_steps"
    )
    mode = models.CharField(max_length=8, default="txt2img", help_text="see ImageRequest.mode")
    options = models.JSONField(default=dict, blank=True, help_text="see engine.request.options.to_options")
    visibility = models.CharField(max_length=8, choices=Visibility, default=Visibility.PRIVATE)

    # Its state.
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    created_at = models.DateTimeField(db_default=Now())
    not_before = models.DateTimeField(db_default=Now())
    deadline_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    priority = models.SmallIntegerField(help_text="lower is served first; from the owner's plan")
    owner_slots = models.PositiveIntegerField(null=True, help_text="how many of the owner's may run at once")
    epoch = models.PositiveIntegerField(default=0, help_text="fencing token: each claim raises it")
    attempt = models.PositiveIntegerField(default=0)
    losses = models.PositiveIntegerField(default=0, db_default=0, help_text="how often its worker was lost")
    worker = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    phase = models.CharField(max_length=12, blank=True)
    step = models.PositiveIntegerField(default=0, help_text="denoising steps done, over all images")
    image_count = models.PositiveSmallIntegerField(default=0)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="generation_of_owner"),
            models.Index(fields=["priority", "created_at"], name="generation_queue", condition=Q(status="queued")),
            models.Index(fields=["created_at"], name="generation_suspects", condition=Q(status="queued", losses__gt=0)),
            models.Index(fields=["owner"], name="generation_running", condition=Q(status="processing")),
            models.Index(fields=["lease_until"], name="generation_leases", condition=Q(status="processing")),
            models.Index(
                fields=["model", "-finished_at"], name="generation_durations", condition=Q(status="completed")
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="generation_once_per_key"),
            models.CheckConstraint(condition=Q(num_images__gte=1), name="generation_has_images"),
            models.CheckConstraint(
                condition=Q(image_count__lte=F("num_images")), name="generation_not_more_than_asked"
            ),
            models.CheckConstraint(condition=Q(seed__gte=0, seed__lte=MAX_SEED), name="generation_seed_range"),
        ]

    def __str__(self):
        return f"{self.id} {self.status}"

    @property
    def caption(self) -> str:
        """What people read where its prompt would stand; an enlargement may have none."""
        return self.prompt or ("Enlarged picture" if self.mode == "upscale" else "Picture without words")

    @property
    def is_final(self) -> bool:
        """Whether it has ended: nothing about it changes any more."""
        return self.status in self.FINAL

    @property
    def is_erased(self) -> bool:
        """Whether what it asked for was deleted: a request has a prompt, or pictures to work on in its options."""
        return not (self.prompt or self.options)


class WorkerReport(models.Model):
    """What a worker last said of itself. Written and read by `queue.presence` alone."""

    name = models.CharField(max_length=120, primary_key=True)
    status = models.JSONField(help_text="its engine's status, and how many generations it is `running`")
    seen_at = models.DateTimeField(db_default=Now())

    def __str__(self):
        return self.name


class GeneratedImageQuerySet(models.QuerySet):
    PUBLISHED = Q(
        visibility__in=(Visibility.PUBLIC, Visibility.UNLISTED),
        deleted_at=None,
        taken_down_at=None,
        owner__is_active=True,
    )
    """What everybody with the address may see: not taken down, and of an active account."""

    def visible_to(self, user):
        """Those that `user` may see: their own (also in the trash) and published ones. The only way in."""
        own = Q(owner=user) if user.is_authenticated else Q(pk__in=[])
        return self.filter(self.PUBLISHED | own)

    def owned_by(self, user):
        """Those that `user` may change."""
        return self.filter(owner=user) if user.is_authenticated else self.none()

    def kept(self):
        """Those outside the trash."""
        return self.filter(deleted_at=None)

    def trashed(self):
        """Those in the trash."""
        return self.exclude(deleted_at=None)


def new_short_id() -> str:
    """12 random characters that are hard to confuse, for the address of an image's page."""
    return "".join(secrets.choice(SHORT_ID_ALPHABET) for _ in range(12))


GALLERY_ORDERS = {name: [name, "-number"] for name in ("model", "style", "mode", "shape", "size", "visibility")} | {
    "age": ["-created_at", "-number"],
    "pixels": ["-pixels", "-number"],
}
"""Indexes of an owner's images, so that a page of the gallery costs the same under every filter."""


class GeneratedImage(models.Model):
    """One finished picture. The row exists only with its file, and the file never changes."""

    number = models.BigAutoField(primary_key=True)
    id = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    short_id = models.CharField(max_length=12, unique=True, default=new_short_id, editable=False)
    generation = models.ForeignKey(Generation, models.CASCADE, related_name="images")
    generation_id: uuid.UUID
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="images")
    owner_id: int
    index = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField()
    file = models.CharField(max_length=200, unique=True, help_text="storage name of the PNG")
    thumbnail = models.CharField(max_length=200, unique=True, help_text="storage name of the WebP thumbnail")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    file_size = models.PositiveBigIntegerField(help_text="bytes of the PNG")
    sha256 = models.CharField(max_length=64)
    colour = models.CharField(max_length=7, default="#888888", help_text="dominant colour, shown while it loads")
    generation_time = models.FloatField(help_text="seconds")
    title = models.CharField(max_length=120, blank=True)
    visibility = models.CharField(max_length=8, choices=Visibility, default=Visibility.PRIVATE)
    favourite = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="in the trash since")
    taken_down_at = models.DateTimeField(null=True, blank=True, help_text="hidden from everybody but its owner since")
    taken_down_reason = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="shown to its owner"
    )
    thumbnail_size = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="longer side of the widest thumbnail; 0: only the one that `thumbnail` names"
    )

    # What the gallery filters by. A trigger copies the first four from the generation, and keeps a column `search` of
    # the words of title and prompt that only the database knows (migration 0009).
    model = models.CharField(max_length=80, default="", db_default="", editable=False)
    style = models.CharField(max_length=40, default="", db_default="", editable=False)
    mode = models.CharField(max_length=8, default="txt2img", db_default="txt2img", editable=False)
    has_source = models.BooleanField(
        default=False, db_default=False, editable=False, help_text="drawn from a picture, not from words alone"
    )
    pixels = models.GeneratedField(
        expression=F("width") * F("height"), output_field=models.IntegerField(), db_persist=True
    )
    shape = models.GeneratedField(
        expression=Case(
            When(width__gt=F("height") * 1.05, then=Value("landscape")),
            When(height__gt=F("width") * 1.05, then=Value("portrait")),
            default=Value("square"),
        ),
        output_field=models.CharField(max_length=9),
        db_persist=True,
    )
    size = models.GeneratedField(
        expression=Case(
            When(Q(width__lte=512, height__lte=512), then=Value("small")),
            When(Q(width__lte=1024, height__lte=1024), then=Value("medium")),
            When(Q(width__lte=2048, height__lte=2048), then=Value("large")),
            default=Value("huge"),
        ),
        output_field=models.CharField(max_length=6),
        db_persist=True,
    )

    objects = GeneratedImageQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        permissions = [("view_private_image", "Can see private images of others")]
        indexes = [
            models.Index(fields=["owner", "-number"], name="image_gallery", condition=Q(deleted_at=None)),
            models.Index(
                fields=["owner", "-number"], name="image_favourites", condition=Q(deleted_at=None, favourite=True)
            ),
            models.Index(fields=["deleted_at"], name="image_trash", condition=Q(deleted_at__isnull=False)),
            models.Index(fields=["-number"], name="image_public", condition=Q(deleted_at=None, visibility="public")),
            *(
                models.Index(fields=["owner", *fields], name=f"image_of_{name}", condition=Q(deleted_at=None))
                for name, fields in GALLERY_ORDERS.items()
            ),
            models.Index(
                fields=["owner", "-number"], name="image_with_source", condition=Q(deleted_at=None, has_source=True)
            ),
        ]
        constraints = [models.UniqueConstraint(fields=["generation", "index"], name="image_once_per_index")]

    def __str__(self):
        return f"{self.number} {self.width}×{self.height}"

    @property
    def alt_text(self) -> str:
        """For the `alt` of an `<img>`."""
        return f"AI-generated image: {self.caption[:200]}"

    @property
    def caption(self) -> str:
        """Its title, else what it was made from; never empty."""
        return self.title or self.generation.caption


class ImageCount(models.Model):
    """How many images an account has outside its trash. Kept by a trigger in the database, and by nothing else, so
    that a list of a million need not be counted to show its total."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+")
    owner_id: int
    kept = models.BigIntegerField(default=0)

    def __str__(self):
        return f"{self.kept} of {self.owner_id}"

    @classmethod
    def kept_by(cls, user) -> int:
        """How many images `user` has outside the trash."""
        return cls.objects.filter(owner=user).values_list("kept", flat=True).first() or 0


class UploadQuerySet(models.QuerySet):
    def owned_by(self, user):
        """Those that `user` may draw with: their own. Nobody else ever sees an upload."""
        return self.filter(owner=user) if user.is_authenticated else self.none()


class Upload(models.Model):
    """A picture to draw from, already sanitized: a plain PNG. Private, and deleted at `expires_at`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="uploads")
    owner_id: int
    file = models.CharField(max_length=200, unique=True, help_text="storage name of the PNG")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    file_size = models.PositiveBigIntegerField(help_text="bytes of the PNG")
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    objects = UploadQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="upload_of_owner"),
            models.Index(fields=["expires_at"], name="upload_expiry"),
        ]

    def __str__(self):
        return f"{self.id} {self.width}×{self.height}"


class LoraRule(models.Model):
    """A word in a prompt that brings a LoRA along, as staff decided."""

    keyword = models.CharField(max_length=80, unique=True, help_text="matched as whole words, case ignored")
    lora = models.CharField(max_length=120, help_text="key of an installed LoRA")
    weight = models.FloatField(default=0.8)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["keyword"]

    def __str__(self):
        return f"{self.keyword} → {self.lora}"


class WebhookEndpointQuerySet(models.QuerySet):
    def owned_by(self, user):
        return self.filter(owner=user) if user.is_authenticated else self.none()


class WebhookEndpoint(models.Model):
    """An URL of its owner's that events are sent to. Changed only within `generation.webhooks`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="webhooks")
    owner_id: int
    url = models.CharField(max_length=1000)
    description = models.CharField(max_length=100, blank=True)
    events = models.JSONField(help_text="names of webhooks.EVENTS")
    secret = models.CharField(max_length=80, help_text="whsec_…")
    previous_secret = models.CharField(max_length=80, blank=True)
    previous_until = models.DateTimeField(null=True, blank=True, help_text="until when the previous one signs too")
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    failing_since = models.DateTimeField(null=True, blank=True, help_text="the first failure after the last success")
    quick = models.BooleanField(default=False, help_text="the last answer was good and came at once")
    busy_until = models.DateTimeField(null=True, blank=True, help_text="lease of the courier that delivers to it")

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["owner", "-created_at"], name="webhook_of_owner")]

    def __str__(self):
        return f"{self.url} of {self.owner_id}"


class WebhookDelivery(models.Model):
    """One event for one endpoint: written in the transaction of the change it reports, kept as a record."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)
    subject = models.CharField(max_length=64, help_text="what it is about; each event of a subject is told once")
    body = models.TextField(help_text="exactly what is sent and signed")
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(db_default=Now(), help_text="the next attempt; while one is made: its lease")
    answer_status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="of the last attempt")
    problem = models.CharField(max_length=100, blank=True, help_text="of the last attempt, in words")
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(fields=["next_at"], name="delivery_due", condition=Q(state="pending")),
            models.Index(fields=["endpoint", "-created_at"], name="delivery_of_endpoint"),
            models.Index(fields=["created_at"], name="delivery_age"),
        ]
        constraints = [models.UniqueConstraint(fields=["endpoint", "event", "subject"], name="delivery_once")]

    def __str__(self):
        return f"{self.event} {self.state}"

    @property
    def message_id(self) -> str:
        """The `webhook-id`: the same for every attempt, so that a receiver can tell repeats."""
        return f"msg_{self.pk.hex}"
