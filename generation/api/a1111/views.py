"""Views of the A1111 dialect, `/sdapi/v1/…`: each parses a request, calls its subject's module and renders."""

from collections.abc import Callable

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from accounts.authentication import key_scope
from accounts.models import Scope
from accounts.plans import plan_of
from generation.api.http.requests import ApiRequest
from generation.engine.errors import InvalidRequest
from generation.services.parse import flag

from . import extras, lists, multi_part, schemas
from .endpoint import POSTS, REJECTED, UNKNOWN, document, endpoint
from .fields import EXTRA_BATCH, EXTRA_SINGLE, IMG2IMG, PNG_INFO, TASK, TXT2IMG, read_fields, schema_of
from .options import OPTION_FIELDS, change_options, shown_options
from .parse import ParsedRequest, parse_img2img, parse_txt2img
from .pnginfo import read_info
from .progress import progress_body, task_progress_body
from .render import images_body

READ = ("GET", "HEAD")
FINISHED = "The pictures, when they are finished."
ACCEPTED = "Done."


# --- generations ----------------------------------------------------------------------------------------


@document(
    "a1111Txt2img",
    schemas.Pictures,
    body=schema_of(TXT2IMG, ["prompt"]),
    errors=UNKNOWN | REJECTED,
    description=FINISHED,
)
@endpoint("POST")
def txt2img(request):
    """Draw, and answer when it is done. More images than your plan draws at a time become several generations."""
    return _draw(request, parse_txt2img, "txt2img")


@document(
    "a1111Img2img",
    schemas.Pictures,
    body=schema_of(IMG2IMG, ["prompt", "init_images"]),
    errors=UNKNOWN | REJECTED,
    description=FINISHED,
)
@endpoint("POST")
def img2img(request):
    """Draw from a picture, all of it or where the mask is white, and answer when it is done."""
    return _draw(request, parse_img2img, "img2img")


def _draw(request: ApiRequest, parse: Callable[[ApiRequest], ParsedRequest], kind: str) -> Response:
    def read() -> tuple[ParsedRequest, list[dict], str]:
        parsed = parse(request)
        return parsed, parsed.parts(plan_of(request.user).max_images), parsed.task

    parsed, generations = multi_part.draw(request, read, kind=kind)
    if parsed.options_to_keep:
        change_options(request, parsed.options_to_keep)
    return Response(images_body(parsed, generations))


@document(
    "a1111ExtraSingle",
    schemas.Upscaled,
    body=schema_of(EXTRA_SINGLE, ["image"]),
    errors=REJECTED | UNKNOWN,
    description=FINISHED,
)
@endpoint("POST")
def extra_single_image(request):
    """Enlarge a picture. Face restorers and the second upscaler are not here and are ignored."""
    return Response(extras.upscale_image(request))


@document(
    "a1111ExtraBatch",
    schemas.UpscaledBatch,
    body=schema_of(EXTRA_BATCH, ["imageList"]),
    errors=REJECTED | UNKNOWN,
    description=FINISHED,
)
@endpoint("POST")
def extra_batch_images(request):
    """Enlarge several pictures, one after the other."""
    return Response(extras.upscale_batch(request))


@document("a1111PngInfo", schemas.PngInfo, body=schema_of(PNG_INFO, ["image"]))
@key_scope(Scope.READ)
@endpoint("POST")
def png_info(request):
    """What a picture's file says about how it was made. Nothing of it is kept."""
    return Response(read_info(request.data))


# --- progress, interrupt, skip --------------------------------------------------------------------------


@document(
    "a1111Progress",
    schemas.Progress,
    errors={400: POSTS[400]},
    parameters=[OpenApiParameter("skip_current_image", bool, description="True: current_image is null.")],
)
@endpoint(*READ)
def progress(request):
    """How the work of this key stands. Idle is progress 0 with job_count 0."""
    skip_preview = flag(request.query_params.get("skip_current_image"), "skip_current_image")
    return Response(progress_body(request, with_preview=not skip_preview))


@document("a1111InternalProgress", schemas.TaskProgress, body=schema_of(TASK, ["id_task"]))
@key_scope(Scope.READ)
@endpoint("POST")
def internal_progress(request):
    """How the call stands that was given this name in `force_task_id`."""
    fields = read_fields(request.data, TASK)
    if "id_task" not in fields:
        raise InvalidRequest("This must be text.", "id_task")
    return Response(
        task_progress_body(
            request,
            fields["id_task"],
            seen=fields.get("id_live_preview", -1),
            with_preview=fields.get("live_preview", True),
        )
    )


@document("a1111Interrupt", schemas.Empty, description=ACCEPTED)
@endpoint("POST")
def interrupt(request):
    """Stop all that this key has asked for here and is not finished. Nobody else's work is touched."""
    multi_part.interrupt(request)
    return Response({})


@document("a1111Skip", schemas.Empty, description=ACCEPTED)
@endpoint("POST")
def skip(request):
    """Stop what is being drawn for this key now. A call that draws several parts goes on with the next."""
    multi_part.skip(request)
    return Response({})


# --- options --------------------------------------------------------------------------------------------


@document("a1111Options", schemas.Options, methods=["GET", "HEAD"])
@document(
    "a1111SetOptions",
    schemas.Empty,
    methods=["POST"],
    body=schema_of(OPTION_FIELDS),
    errors=UNKNOWN,
    description=ACCEPTED,
)
@endpoint(*READ, "POST")
def options(request):
    """The options of this key. What is posted is kept for it; names that mean nothing here are ignored."""
    if request.method != "POST":
        return Response(shown_options(request))
    change_options(request, request.data)
    return Response({})


@document("a1111RefreshCheckpoints", schemas.Empty, description=ACCEPTED)
@endpoint("POST")
def refresh_checkpoints(request):
    """Accepted. The list of models is always up to date."""
    return Response({})


@document("a1111UnloadCheckpoint", schemas.Empty, description=ACCEPTED)
@endpoint("POST")
def unload_checkpoint(request):
    """Accepted. Workers load and unload models as they are needed."""
    return Response({})


@document("a1111ReloadCheckpoint", schemas.Empty, description=ACCEPTED)
@endpoint("POST")
def reload_checkpoint(request):
    """Accepted. Workers load and unload models as they are needed."""
    return Response({})


# --- lists ----------------------------------------------------------------------------------------------


def _listing(name: str, schema, description: str, read: Callable[[], list | dict]) -> Callable:
    """A view that answers with what `read()` returns."""

    def view(request):
        return Response(read())

    view.__name__, view.__doc__ = name, description
    return document(f"a1111{name.title().replace('_', '')}", schema)(endpoint(*READ)(view))


def _empty_list() -> list:
    return []


LISTS = {
    "sd-models": _listing("sd_models", schemas.Checkpoints, "The models of this site.", lists.checkpoints),
    "samplers": _listing("samplers", schemas.Samplers, "The samplers.", lists.samplers),
    "schedulers": _listing("schedulers", schemas.Schedulers, "The schedulers.", lists.schedulers),
    "upscalers": _listing("upscalers", schemas.Upscalers, "The upscalers.", lists.upscalers),
    "latent-upscale-modes": _listing(
        "latent_upscale_modes", schemas.Named, "The ways to enlarge latents.", lists.latent_modes
    ),
    "realesrgan-models": _listing(
        "realesrgan_models", schemas.UpscalerModels, "The upscalers that are models.", lists.upscaler_models
    ),
    "prompt-styles": _listing("prompt_styles", schemas.Styles, "The style presets.", lists.styles),
    "loras": _listing("loras", schemas.Loras, "The LoRAs that are installed.", lists.loras),
    "scripts": _listing("scripts", schemas.Scripts, "The names of scripts that mean something here.", lists.scripts),
    "script-info": _listing("script_info", schemas.ScriptInfos, "The same scripts, one by one.", lists.script_info),
    "embeddings": _listing(
        "embeddings", schemas.Embeddings, "Textual inversions; there are none.", lambda: {"loaded": {}, "skipped": {}}
    ),
    "face-restorers": _listing("face_restorers", schemas.Named, "Face restorers; there are none.", _empty_list),
    "hypernetworks": _listing("hypernetworks", schemas.Named, "Hypernetworks; there are none.", _empty_list),
    "sd-vae": _listing("sd_vae", schemas.Named, "VAEs to choose from; each model draws with its own.", _empty_list),
    "sd-modules": _listing("sd_modules", schemas.Named, "Modules to choose from; there are none.", _empty_list),
    "extensions": _listing("extensions", schemas.Named, "Extensions; there are none.", _empty_list),
    "cmd-flags": _listing(
        "cmd_flags", schemas.Flags, "How this server was started, as far as it concerns programs.", lists.flags
    ),
    "memory": _listing("memory", schemas.Memory, "Memory of the workers' devices, in bytes.", lists.memory),
}


@extend_schema(exclude=True)
@endpoint("GET", "HEAD", "POST")
def not_found(request, rest=""):
    raise NotFound()
