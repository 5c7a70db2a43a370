"""The endpoints of the dialect. Each reads a request, calls its subject's module and answers in the web UI's shape."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from accounts.authentication import key_scope
from accounts.models import Scope
from accounts.plans import plan_of
from generation.api.native.fields import flag
from generation.engine.errors import InvalidRequest

from . import extras, lists, multi_part, shapes
from . import progress as watching
from .endpoint import POSTS, REJECTED, UNKNOWN, document, endpoint
from .fields import EXTRA_BATCH, EXTRA_SINGLE, IMG2IMG, PNG_INFO, TASK, TXT2IMG, read_fields, schema_of
from .options import TABLE, change_options, shown_options
from .parse import read_img2img, read_txt2img
from .pnginfo import read_info
from .render import answer

READ = ("GET", "HEAD")
DRAWN = "The pictures, when they are finished."
ACCEPTED = "Done."


# --- drawing --------------------------------------------------------------------------------------------


@document(
    "a1111Txt2img", shapes.Pictures, body=schema_of(TXT2IMG, ["prompt"]), more=UNKNOWN | REJECTED, description=DRAWN
)
@endpoint("POST")
def txt2img(request):
    """Draw, and answer when it is done. More images than your plan draws at a time become several generations."""
    return _draw(request, read_txt2img, "txt2img")


@document(
    "a1111Img2img",
    shapes.Pictures,
    body=schema_of(IMG2IMG, ["prompt", "init_images"]),
    more=UNKNOWN | REJECTED,
    description=DRAWN,
)
@endpoint("POST")
def img2img(request):
    """Draw from a picture, all of it or where the mask is white, and answer when it is done."""
    return _draw(request, read_img2img, "img2img")


def _draw(request, read, kind: str) -> Response:
    def parts():
        asked = read(request)
        return asked, asked.parts(plan_of(request.user).max_images), asked.task

    asked, generations = multi_part.draw(request, parts, kind=kind)
    if asked.lasting:
        change_options(request, asked.lasting)
    return Response(answer(asked, generations))


@document(
    "a1111ExtraSingle",
    shapes.Enlarged,
    body=schema_of(EXTRA_SINGLE, ["image"]),
    more=REJECTED | UNKNOWN,
    description=DRAWN,
)
@endpoint("POST")
def extra_single_image(request):
    """Enlarge a picture. Face restorers and the second upscaler are not here and are ignored."""
    return Response(extras.enlarge_one(request))


@document(
    "a1111ExtraBatch",
    shapes.EnlargedSeveral,
    body=schema_of(EXTRA_BATCH, ["imageList"]),
    more=REJECTED | UNKNOWN,
    description=DRAWN,
)
@endpoint("POST")
def extra_batch_images(request):
    """Enlarge several pictures, one after the other."""
    return Response(extras.enlarge_several(request))


@document("a1111PngInfo", shapes.PngInfo, body=schema_of(PNG_INFO, ["image"]))
@key_scope(Scope.READ)
@endpoint("POST")
def png_info(request):
    """What a picture's file says about how it was made. Nothing of it is kept."""
    return Response(read_info(request.data))


# --- watching and stopping ------------------------------------------------------------------------------


@document(
    "a1111Progress",
    shapes.Progress,
    more={400: POSTS[400]},
    parameters=[OpenApiParameter("skip_current_image", bool, description="True: current_image is null.")],
)
@endpoint(*READ)
def progress(request):
    """How the work of this key stands. Idle is progress 0 with job_count 0."""
    without = flag(request.query_params.get("skip_current_image"), "skip_current_image")
    return Response(watching.describe(request, with_picture=not without))


@document("a1111InternalProgress", shapes.TaskProgress, body=schema_of(TASK, ["id_task"]))
@key_scope(Scope.READ)
@endpoint("POST")
def internal_progress(request):
    """How the call stands that was given this name in `force_task_id`."""
    given = read_fields(request.data, TASK)
    if "id_task" not in given:
        raise InvalidRequest("This must be text.", "id_task")
    return Response(
        watching.describe_task(
            request,
            given["id_task"],
            seen=given.get("id_live_preview", -1),
            with_picture=given.get("live_preview", True),
        )
    )


@document("a1111Interrupt", shapes.Nothing, description=ACCEPTED)
@endpoint("POST")
def interrupt(request):
    """Stop all that this key has asked for here and is not finished. Nobody else's work is touched."""
    multi_part.interrupt(request)
    return Response({})


@document("a1111Skip", shapes.Nothing, description=ACCEPTED)
@endpoint("POST")
def skip(request):
    """Stop what is being drawn for this key now. A call that draws several parts goes on with the next."""
    multi_part.skip(request)
    return Response({})


# --- options --------------------------------------------------------------------------------------------


@document("a1111Options", shapes.Options, methods=["GET", "HEAD"])
@document(
    "a1111SetOptions", shapes.Nothing, methods=["POST"], body=schema_of(TABLE), more=UNKNOWN, description=ACCEPTED
)
@endpoint(*READ, "POST")
def options(request):
    """The options of this key. What is posted is kept for it; names that mean nothing here are ignored."""
    if request.method != "POST":
        return Response(shown_options(request))
    change_options(request, request.data)
    return Response({})


@document("a1111RefreshCheckpoints", shapes.Nothing, description=ACCEPTED)
@endpoint("POST")
def refresh_checkpoints(request):
    """Accepted. The list of models is always up to date."""
    return Response({})


@document("a1111UnloadCheckpoint", shapes.Nothing, description=ACCEPTED)
@endpoint("POST")
def unload_checkpoint(request):
    """Accepted. Workers load and unload models as they are needed."""
    return Response({})


@document("a1111ReloadCheckpoint", shapes.Nothing, description=ACCEPTED)
@endpoint("POST")
def reload_checkpoint(request):
    """Accepted. Workers load and unload models as they are needed."""
    return Response({})


# --- lists ----------------------------------------------------------------------------------------------


def _listing(name: str, answer_shape, about: str, read):
    """A view that answers with what `read()` returns."""

    def view(request):
        return Response(read())

    view.__name__, view.__doc__ = name, about
    return document(f"a1111{name.title().replace('_', '')}", answer_shape)(endpoint(*READ)(view))


def _none_of_them() -> list:
    return []


LISTS = {
    "sd-models": _listing("sd_models", shapes.Checkpoints, "The models of this site.", lists.checkpoints),
    "samplers": _listing("samplers", shapes.Samplers, "The samplers.", lists.samplers),
    "schedulers": _listing("schedulers", shapes.Schedulers, "The schedulers.", lists.schedulers),
    "upscalers": _listing("upscalers", shapes.Upscalers, "The upscalers.", lists.upscalers),
    "latent-upscale-modes": _listing(
        "latent_upscale_modes", shapes.Named, "The ways to enlarge latents.", lists.latent_modes
    ),
    "realesrgan-models": _listing(
        "realesrgan_models", shapes.UpscalerModels, "The upscalers that are models.", lists.upscaler_models
    ),
    "prompt-styles": _listing("prompt_styles", shapes.Styles, "The style presets.", lists.styles),
    "loras": _listing("loras", shapes.Loras, "The LoRAs that are installed.", lists.loras),
    "scripts": _listing("scripts", shapes.Scripts, "The names of scripts that mean something here.", lists.scripts),
    "script-info": _listing("script_info", shapes.ScriptInfos, "The same scripts, one by one.", lists.script_info),
    "embeddings": _listing(
        "embeddings", shapes.Embeddings, "Textual inversions; there are none.", lambda: {"loaded": {}, "skipped": {}}
    ),
    "face-restorers": _listing("face_restorers", shapes.Named, "Face restorers; there are none.", _none_of_them),
    "hypernetworks": _listing("hypernetworks", shapes.Named, "Hypernetworks; there are none.", _none_of_them),
    "sd-vae": _listing("sd_vae", shapes.Named, "VAEs to choose from; each model draws with its own.", _none_of_them),
    "sd-modules": _listing("sd_modules", shapes.Named, "Modules to choose from; there are none.", _none_of_them),
    "extensions": _listing("extensions", shapes.Named, "Extensions; there are none.", _none_of_them),
    "cmd-flags": _listing(
        "cmd_flags", shapes.Flags, "How this server was started, as far as it concerns programs.", lists.flags
    ),
    "memory": _listing("memory", shapes.Memory, "Memory of the workers' devices, in bytes.", lists.memory),
}


@extend_schema(exclude=True)
@endpoint("GET", "HEAD", "POST")
def nothing_here(request, rest=""):
    raise NotFound()
