"""The fields of the dialect's requests as data: what is read from a body, and what the document says of it.

null counts as left out; fields that are not named here are ignored.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from generation.engine.errors import InvalidRequest
from generation.engine.request import validate
from generation.engine.request.fields import HIRES_FIELDS, MAX_SEED, OWN_FIELDS, START_FIELDS
from generation.engine.request.schema import Field as RequestField
from generation.engine.request.schema import Kind

MAX_NAME = 200
MAX_BATCH_SIZE, MAX_BATCHES, MAX_IMAGES_A_CALL = 8, 16, 64
MAX_LIST = 100
MIN_SIDE, MAX_SIDE = 64, 2048


@dataclass(frozen=True)
class Field:
    """One field: `kind` is number, whole, text, flag, texts, list or object; low and high are both included."""

    kind: str
    about: str
    low: float = 0
    high: float = 0
    most: int = MAX_NAME
    more: dict = field(default_factory=dict)

    def read(self, value, name: str):
        """`value` checked. Raises InvalidRequest."""
        if self.kind in ("number", "whole"):
            return validate.number(value, name, self.low, self.high, None, whole=self.kind == "whole")
        if self.kind == "text":
            return validate.text(value, name, self.most)
        if self.kind == "flag":
            if isinstance(value, (bool, int, float)) and value in (0, 1):
                return bool(value)
            raise InvalidRequest("This must be true or false.", name)
        if self.kind == "object":
            if not isinstance(value, dict):
                raise InvalidRequest("This must be an object.", name)
            return value
        if not isinstance(value, list):
            raise InvalidRequest("This must be a list.", name)
        if len(value) > MAX_LIST:
            raise InvalidRequest(f"This may have at most {MAX_LIST} entries.", name)
        return [validate.text(each, name, self.most) for each in value] if self.kind == "texts" else value

    def schema(self) -> dict:
        """As JSON Schema."""
        kinds = {
            "number": {"type": ["number", "null"], "minimum": self.low, "maximum": self.high},
            "whole": {"type": ["integer", "null"], "minimum": self.low, "maximum": self.high},
            "text": {"type": ["string", "null"], "maxLength": self.most},
            # Written as 0 and 1 by some programs.
            "flag": {"oneOf": [{"type": ["boolean", "null"]}, {"type": "integer", "enum": [0, 1]}]},
            "texts": {
                "type": ["array", "null"],
                "maxItems": MAX_LIST,
                "items": {"type": "string", "maxLength": self.most},
            },
            "list": {"type": ["array", "null"], "maxItems": MAX_LIST, "items": {}},
            "object": {"type": ["object", "null"], "additionalProperties": {}},
        }
        return kinds[self.kind] | {"description": self.about} | self.more


def read_fields(data: dict, table: dict[str, Field]) -> dict:
    """The fields of `table` that `data` gives. Raises InvalidRequest, naming the field."""
    return {name: one.read(data[name], name) for name, one in table.items() if data.get(name) is not None}


def schema_of(table: dict[str, Field], required=(), about: str = "") -> dict:
    """The JSON Schema of a body with these fields."""
    properties = {name: one.schema() for name, one in table.items()}
    for name in required:
        kind = properties[name].get("type")
        if isinstance(kind, list):
            properties[name]["type"] = kind[0]
    return {"type": "object", "description": about, "properties": properties} | (
        {"required": list(required)} if required else {}
    )


KINDS = {Kind.NUMBER: "number", Kind.INTEGER: "whole", Kind.BOOLEAN: "flag"}
ABOUT = {
    "prompt": "What to draw. `<lora:name:0.8>` and `(emphasis:1.2)` as usual.",
    "steps": "Within the model's bounds.",
    "cfg_scale": "Within the model's bounds.",
    "clip_skip": "1: the last layer of the text encoder counts.",
    "hr_scale": "How many times larger.",
    "denoising_strength": "Of a start from a picture, or of the second pass.",
}
"""What the document says of our own fields, where the web UI's users need other words."""


def own(fields: Iterable[RequestField]) -> dict[str, Field]:
    """Those of our own fields that the web UI has under some name: its name, and what is read from a body."""
    return {field.a1111: _own(field) for field in fields if field.a1111}


def _own(field: RequestField) -> Field:
    about = ABOUT.get(field.a1111, field.help)
    if field.kind is Kind.TEXT:
        more = {"pattern": r"\S"} if field.name == "prompt" else {}
        return Field("text", about, most=int(field.high or MAX_NAME), more=more)
    if not field.is_number:
        return Field(KINDS.get(field.kind, "text"), about)
    low, high = (bound + field.a1111_offset for bound in (field.low or 0, field.high or 0))
    return Field(KINDS[field.kind], about, low, high)


STRENGTH = {field.a1111: field for field in START_FIELDS if field.name == "strength"}
BOTH = own((*OWN_FIELDS, *STRENGTH.values())) | {
    "styles": Field("texts", "Names of `prompt-styles`. Unknown ones are left out."),
    "seed": Field("whole", "-1: random. Image i is drawn from seed + i.", -1, MAX_SEED),
    "subseed": Field("whole", "Of the variation. -1: random.", -1, MAX_SEED),
    "subseed_strength": Field("number", "Above 0 all images share the seed and vary by subseed + i.", 0, 1),
    "sampler_name": Field("text", "One of `samplers`."),
    "sampler_index": Field("text", "Older name of sampler_name, which wins."),
    "scheduler": Field("text", "`Karras` where the sampler has it. Others draw with the sampler's own."),
    "width": Field("whole", "Pixels. Drawn in the nearest size that the model can draw.", MIN_SIDE, MAX_SIDE),
    "height": Field("whole", "Pixels. Drawn in the nearest size that the model can draw.", MIN_SIDE, MAX_SIDE),
    "batch_size": Field("whole", "Images of one batch.", 1, MAX_BATCH_SIZE),
    "n_iter": Field("whole", f"Batches; at most {MAX_IMAGES_A_CALL} images in all.", 1, MAX_BATCHES),
    "restore_faces": Field("flag", "Accepted; there are no face restorers here."),
    "override_settings": Field(
        "object", "Options for this call alone: sd_model_checkpoint, CLIP_stop_at_last_layers, samples_format."
    ),
    "override_settings_restore_afterwards": Field("flag", "False: they are kept as options of your key."),
    "script_name": Field("text", "`sd upscale` (img2img), or none."),
    "script_args": Field("list", "For sd upscale: unused, overlap, upscaler, scale."),
    "alwayson_scripts": Field("object", "`ControlNet` with one unit. Others are ignored."),
    "send_images": Field("flag", "False: images[] stays empty; the pictures are in your gallery."),
    "save_images": Field("flag", "Accepted; every picture is kept in your gallery."),
    "force_task_id": Field("text", "Your name for the call, for `/internal/progress`."),
}
TXT2IMG = (
    BOTH
    | own(HIRES_FIELDS)
    | {
        "enable_hr": Field("flag", "Draw a second pass at a larger size."),
        "hr_resize_x": Field("whole", "Instead of hr_scale: the width to reach. 0: not given.", 0, 2 * MAX_SIDE),
        "hr_resize_y": Field("whole", "Instead of hr_scale: the height to reach. 0: not given.", 0, 2 * MAX_SIDE),
        "hr_upscaler": Field("text", "One of `latent-upscale-modes` or `upscalers`."),
        "hr_second_pass_steps": Field("whole", "0: as many as the first pass.", 0, 100),
    }
)
IMG2IMG = (
    BOTH
    | own(START_FIELDS)
    | {
        "init_images": Field("list", "Pictures to start from, as base64 with or without the head of a data URI."),
        "mask": Field("text", "White changes. As base64.", most=2**26),
        "inpainting_fill": Field("whole", "0: blurred, 1: original, 2: noise, 3: nothing.", 0, 3),
        "inpaint_full_res": Field("flag", "Draw the masked part only, at the full size."),
        "inpaint_full_res_padding": Field("whole", "Pixels around the masked part.", 0, 512),
        "inpainting_mask_invert": Field("flag", "Black changes."),
        "resize_mode": Field("whole", "0: stretch, 1: crop, 2: fill, 3: stretch.", 0, 3),
        "include_init_images": Field("flag", "Repeat the pictures that were given in `parameters`."),
    }
)


def own_values(values: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `create_generation` that a body gives under the web UI's names, as we count."""
    return {
        field.attribute: values[field.a1111] - field.a1111_offset if field.is_number else values[field.a1111]
        for field in OWN_FIELDS
        if field.a1111 in values
    }


EXTRAS = {
    "resize_mode": Field("whole", "0: by a factor, 1: to a size.", 0, 1),
    "upscaling_resize": Field("number", "The factor.", 1, 4),
    "upscaling_resize_w": Field("whole", "Pixels to reach.", 1, 2 * MAX_SIDE),
    "upscaling_resize_h": Field("whole", "Pixels to reach.", 1, 2 * MAX_SIDE),
    "upscaling_crop": Field("flag", "Fill that size and cut off what is beyond it; else fit into it."),
    "upscaler_1": Field("text", "One of `upscalers`."),
}
EXTRA_SINGLE = EXTRAS | {"image": Field("text", "Base64, with or without the head of a data URI.", most=2**26)}
EXTRA_BATCH = EXTRAS | {
    "imageList": Field(
        "list",
        "Objects with `data` (base64) and `name`.",
        more={
            "items": {
                "type": "object",
                "properties": {"data": {"type": "string"}, "name": {"type": "string"}},
                "required": ["data"],
            }
        },
    )
}
PNG_INFO = {"image": Field("text", "A PNG, JPEG or WebP as base64.", most=2**26)}
TASK = {
    "id_task": Field("text", "force_task_id of the call."),
    "id_live_preview": Field("whole", "Of the preview that you have; the same one is not sent again.", -1, 2**31),
    "live_preview": Field("flag", "False: no preview."),
}
