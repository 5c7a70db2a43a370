"""What a picture file says about itself. No torch here.

Three things: A1111-style `parameters` text, our recipe as JSON, and the IPTC mark "trained algorithmic
media" in XMP, which says that a machine made it (EU AI Act, Article 50). Text and recipe go when the owner
asks for that; the mark always stays.

    data = encode_png(image.pixels, request=request, seed=image.seed, recipe=image.recipe)
    read_png(data)["parameters"]["Seed"]      -> "7"
    strip(data, "webp", quality=85)           -> bytes that tell nothing but their origin
"""

import io
import json
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from PIL import Image, PngImagePlugin

from generation.engine.catalog.upscalers import upscaler_title

from .fields import COLUMNS, HIRES_FIELDS, MAX_SEED, OPTIONS, OWN_FIELDS, PARTS, START_FIELDS, ImageRequest, Variation
from .options import to_columns, to_options
from .schema import Field, fields_of

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>'
    "</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
)
XMP_KEY = "XML:com.adobe.xmp"
FORMATS = ("png", "jpeg", "webp")
STRENGTH = "Denoising strength"
"""A1111's one name for the strength of a start, or of a second pass where there is no start."""
VARIATION_FIELDS = fields_of(Variation, PARTS["variation"])
# Measured on a noisy 512 x 512 picture: level 1 takes 24 ms and 510 kB, Pillow's default 43 ms and 449 kB.
PNG_LEVEL = 1

_EXIF_IFD, _IMAGE_DESCRIPTION, _USER_COMMENT = 0x8769, 0x010E, 0x9286
# Name lengths are bounded: strangers' text must not make this quadratic.
_SETTINGS = re.compile(r'([A-Za-z][\w +/-]{0,40}):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,\s*|$)')


def encode_png(pixels: Image.Image, *, request: ImageRequest, seed: int, recipe: dict[str, Any]) -> bytes:
    """The picture as PNG with everything about it.

    `seed` is this image's own (`EngineImage.seed`); `recipe` the engine's, to which the request is added.
    """
    info = PngImagePlugin.PngInfo()
    _add_text(info, "parameters", parameters_text(request, seed, recipe))
    _add_text(info, "dreamsketch", json.dumps(full_recipe(request, seed, recipe), ensure_ascii=False))
    info.add_itxt(XMP_KEY, XMP)
    return _save(pixels, "PNG", pnginfo=info, compress_level=PNG_LEVEL)


def parameters_text(request: ImageRequest, seed: int, recipe: dict[str, Any]) -> str:
    """The text that A1111 writes and that many tools read back."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    settings = (
        _infotext(replace(request, seed=seed), OWN_FIELDS, ("steps", "sampler", "guidance_scale", "seed"))
        | {"Size": f"{request.width}x{request.height}", "Model hash": recipe.get("weights", "")[:10]}
        | {"Model": request.model}
        | _start_settings(request)
        | _hires_settings(request)
        | _variation_settings(request, seed)
        | _infotext(request, OPTIONS, [field.attribute for field in OPTIONS if _is_used(request, field)])
        | _lora_settings(recipe)
        | {"Version": "DreamSketch"}
    )
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items() if value != ""))
    return "\n".join(lines)


def _infotext(holder: Any, fields: Sequence[Field], attributes: Collection[str]) -> dict[str, str]:
    """Those attributes of `holder` that have a name in A1111's text."""
    written = (field for field in fields if field.attribute in attributes and field.infotext)
    return {field.infotext: field.to_infotext(getattr(holder, field.attribute)) for field in written}


def _is_used(request: ImageRequest, field: Field) -> bool:
    return getattr(request, field.attribute) != field.default


def _start_settings(request: ImageRequest) -> dict[str, str]:
    start = request.start
    if start is None:
        return {STRENGTH: f"{request.hires.strength:g}"} if request.hires else {}
    attributes = {"strength"} | ({"fit"} if start.fit != "stretch" else set())
    only_masked = start.inpaints and start.padding is not None
    if start.inpaints:
        attributes |= {"mask_blur", "fill"}
    settings = _infotext(start, START_FIELDS, attributes) | ({"Inpaint area": "Only masked"} if only_masked else {})
    return settings | _infotext(start, START_FIELDS, {"padding"} if only_masked else ())


def _hires_settings(request: ImageRequest) -> dict[str, str]:
    hires = request.hires
    if hires is None:
        return {}
    # Without a start, its strength is the text's one "Denoising strength".
    return (
        _infotext(hires, HIRES_FIELDS, {"scale"})
        | _infotext(hires, HIRES_FIELDS, {"steps"} if hires.steps else ())
        | {"Hires upscaler": upscaler_title(hires.upscaler)}
        | _infotext(hires, HIRES_FIELDS, {"strength"} if request.start else ())
    )


def _variation_settings(request: ImageRequest, seed: int) -> dict[str, str]:
    if request.variation is None:
        return {}
    index = (seed - request.seed) % (MAX_SEED + 1)
    own = replace(request.variation, seed=(request.variation.seed + index) % (MAX_SEED + 1))
    return _infotext(own, VARIATION_FIELDS, {"seed", "strength"})


def _lora_settings(recipe: dict[str, Any]) -> dict[str, str]:
    hashes = [f"{lora['key']}: {lora['hash'][:12]}" for lora in recipe.get("loras", ()) if "hash" in lora]
    return {"Lora hashes": f'"{", ".join(hashes)}"'} if hashes else {}


def full_recipe(request: ImageRequest, seed: int, recipe: dict[str, Any]) -> dict[str, Any]:
    """Everything needed to draw this one image again, as plain JSON values. Pictures are told by their digests."""
    options = json.loads(json.dumps(to_options(request)))
    for part in options.values():
        for name in ("image", "mask"):
            if isinstance(part, dict) and part.get(name):
                del part[name]["name"]  # what their keeper calls them is nobody else's business
    columns = {name: value for name, value in to_columns(request).items() if name not in ("model", "num_images")}
    return {"version": 1} | columns | {"seed": seed, "mode": request.mode} | options | recipe


def read_png(data: bytes) -> dict[str, Any]:
    """What a PNG of ours, or of A1111, says: `text`, `parameters` (of strings), `recipe`, `machine_made`.

    Missing things are "" or {} or False. The bytes may come from anybody: pixels are not decoded, and
    what cannot be read counts as missing. The values are still a stranger's words; escape them.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            info = {key: value for key, value in image.info.items() if isinstance(value, str)}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        info = {}
    text = info.get("parameters", "")
    return {
        "text": text,
        "parameters": parse_parameters(text),
        "recipe": _json_object(info.get("dreamsketch", "")),
        "machine_made": SOURCE_TYPE in info.get(XMP_KEY, ""),
    }


def parse_parameters(text: str) -> dict[str, str]:
    """A1111's text as a dictionary: `Prompt`, `Negative prompt`, and each setting under its own name."""
    if not text.strip():
        return {}
    lines = text.strip().split("\n")
    last = lines.pop() if re.match(r"Steps:\s*\d", lines[-1]) else ""
    settings = {name: value.strip('"') for name, value in _SETTINGS.findall(last)}
    prompt, _, negative = ("\n" + "\n".join(lines)).partition("\nNegative prompt:")
    return {"Prompt": prompt.strip(), "Negative prompt": negative.strip()} | settings


def settings_of(png: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `build_request`, `model` among them, that ask for what `read_png` found, as far as it goes
    without pictures: of our own recipe, else of A1111's text. Values are a stranger's, and not checked here.
    """
    recipe = png["recipe"]
    if not recipe:
        return _settings_of_text(png["parameters"])
    names = {field.attribute for field in (*COLUMNS, *OPTIONS)} | {"hires", "variation"}
    keywords = {name: value for name, value in recipe.items() if name in names and value is not None}
    loras = recipe["loras"] if isinstance(recipe.get("loras"), list) else []
    weights = [{"key": lora["key"], "weight": lora.get("weight", 1.0)} for lora in loras if _is_lora(lora)]
    return keywords | ({"loras": weights} if weights else {})


def _is_lora(entry: Any) -> bool:
    return isinstance(entry, dict) and "key" in entry


def _settings_of_text(parameters: dict[str, str]) -> dict[str, Any]:
    keywords: dict[str, Any] = {}
    for name, keyword in (("Prompt", "prompt"), ("Negative prompt", "negative_prompt")):
        if parameters.get(name):
            keywords[keyword] = parameters[name]
    keywords |= _from_infotext(parameters, [field for field in OWN_FIELDS if field.infotext])
    if size := re.fullmatch(r"(\d{1,5})x(\d{1,5})", parameters.get("Size", "")):
        keywords |= {"width": int(size[1]), "height": int(size[2])}
    if "Hires upscale" in parameters:
        strength = parameters.get("Hires strength", parameters.get(STRENGTH, ""))
        hires = _from_infotext(parameters | {"Hires strength": strength}, HIRES_FIELDS)
        keywords["hires"] = hires | ({"upscaler": hires["upscaler"].casefold()} if "upscaler" in hires else {})
    if variation := _from_infotext(parameters, VARIATION_FIELDS):
        keywords["variation"] = variation
    return keywords


def _from_infotext(parameters: dict[str, str], fields: Sequence[Field]) -> dict[str, Any]:
    """The values that the text gives, by attribute; what is no such value is left out."""
    values = {}
    for field in fields:
        text = next((parameters[name] for name in (field.infotext, *field.infotext_aliases) if name in parameters), "")
        if field.infotext and text:
            with suppress(ValueError):
                values[field.attribute] = field.from_infotext(text)
    return values


def strip(data: bytes, format: str = "png", quality: int = 90) -> bytes:
    """The same pixels as png, jpeg or webp, without prompt and recipe, still marked as machine-made.

    `quality` is 1 to 100 and means nothing for PNG.
    """
    return _reencode(data, format, quality, b"")


def convert(data: bytes, format: str = "png", quality: int = 90) -> bytes:
    """The picture in another format with all it says: parameters in the EXIF user comment, as A1111 does,
    the recipe in the image description. A PNG stays as it is."""
    if format == "png":
        return data
    png = read_png(data)
    exif = Image.Exif()
    if png["text"]:
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + png["text"].encode("utf-16-be")
    if png["recipe"]:
        exif[_IMAGE_DESCRIPTION] = json.dumps(png["recipe"])  # ASCII, as the field wants
    return _reencode(data, format, quality, exif.tobytes())


def _reencode(data: bytes, format: str, quality: int, exif: bytes) -> bytes:
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        # A fresh image, so that nothing but pixels comes along.
        pixels = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    if format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(XMP_KEY, XMP)
        return _save(pixels, "PNG", pnginfo=info, compress_level=PNG_LEVEL)
    options = {"xmp": XMP.encode(), "quality": quality} | ({"exif": exif} if exif else {})
    if format == "jpeg":
        return _save(pixels, "JPEG", optimize=True, **options)
    return _save(pixels, "WEBP", method=4, **options)


def _save(pixels: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    pixels.save(out, format, **options)
    return out.getvalue()


def _add_text(info: PngImagePlugin.PngInfo, key: str, text: str) -> None:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        info.add_itxt(key, text)
    else:
        info.add_text(key, text)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
