"""Checks of LoRA and IP-Adapter files by the names and shapes of their tensors: which kind, and why unusable. No torch.

They run when a request names an add-on, so that no job waits for its turn with one that no model can use.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .families import FAMILIES

LORA_MATRIX = re.compile(r"(.+?)[._](?:lora\.|lora_linear_layer\.|lora_)(down|up|A|B)(?:\.default)?\.weight")
"""Matches a LoRA tensor's name, whichever tool wrote it: the layer's name, and which of the two matrices it is."""
TRANSFORMER_LAYER = re.compile(
    r"(?:base_model\.model\.)?(?:(?:transformer|diffusion_model|lora_unet|lora_transformer)[._])?"
    "(?:single_transformer|transformer|double|single|joint)_blocks[._]"
)
"""Matches the beginning of layer names in Flux, SD3 and Qwen-Image. A UNet has such blocks within others."""
ANY_TRANSFORMER = "transformer"
"""Stands for the families with transformers where a LoRA's names do not tell which."""
_STABLE_DIFFUSION_LAYERS = re.compile(
    "down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks|text_encoder|lora_te|conv_in|conv_out"
    "|time_embed|add_embedding|label_emb|unet_out_2"
)
_FAMILY_LAYERS = {key: re.compile(family.lora_layers) for key, family in FAMILIES.items() if family.lora_layers}
_OTHER_KINDS = {
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "dora_scale": "a DoRA",
    "magnitude_vector": "a DoRA",
    "oft_": "an OFT",
    "glora_": "a GLoRA",
    "lora_mid": "a LoCon in Tucker's form",
    ".diff": "one that keeps whole layers",
    ".bias": "one with biases",
}
"""Relatives of LoRA that are not read here, by a part of their tensors' names."""

IMAGE_PROJECTION_PREFIX = "image_proj."
"""Begins the names of an IP-Adapter's tensors that turn image features into tokens."""
_RESAMPLER_LAYERS = set("0123")


@dataclass(frozen=True, slots=True)
class ImageProjectionKind:
    """One kind of image projection. A "side" is a tensor's name and the index of one of its dimensions."""

    marker: str
    """Only this kind has a tensor of that name."""
    dimensions: dict[str, int]
    """Tensors it must have, with the number of their dimensions."""
    token_side: tuple[str, int]
    """The side that is as long as a token, or `tokens` times that."""
    feature_side: tuple[str, int]
    """The side that is as long as the image encoder's features."""
    encoder_config: tuple[str, int]
    """Where the encoder's configuration names that length, and its default."""
    tokens: int = 1


IMAGE_PROJECTIONS = {
    "plain": ImageProjectionKind(
        "proj.weight",
        {"proj.weight": 2, "proj.bias": 1, "norm.weight": 1, "norm.bias": 1},
        ("proj.weight", 0),
        ("proj.weight", 1),
        ("projection_dim", 512),
        tokens=4,
    ),
    "full": ImageProjectionKind(
        "proj.3.weight",
        {"proj.0.weight": 2, "proj.2.weight": 2, "proj.3.weight": 1},
        ("proj.2.weight", 0),
        ("proj.0.weight", 1),
        ("hidden_size", 768),
    ),
    "plus": ImageProjectionKind(
        "latents",
        {"latents": 3, "proj_in.weight": 2, "proj_out.weight": 2},
        ("proj_out.weight", 0),
        ("proj_in.weight", 1),
        ("hidden_size", 768),
    ),
}
"""The kinds that diffusers reads (Ye et al. 2023). Plain ones make their tokens of the pooled features by one layer,
full ones of each patch's by a perceptron, plus ones of all patches' by a resampler with four layers."""


def lora_problem(names: Iterable[str]) -> str:
    """Why no model can use a LoRA whose tensors have these names; "" if some may."""
    names = list(names)
    others = [name for name in names if not LORA_MATRIX.fullmatch(name) and not name.endswith(".alpha")]
    layers = [match[1] for name in names if (match := LORA_MATRIX.fullmatch(name))]
    if others:
        kind = next((kind for part, kind in _OTHER_KINDS.items() for name in others if part in name), None)
        return f"it is {kind}" if kind else f"it holds “{others[0][:80]}”"
    if not layers:
        return "it holds no LoRA"
    if not transformer_family(names) and not all(_STABLE_DIFFUSION_LAYERS.search(layer) for layer in layers):
        return "it was made for models of another kind"
    return ""


def transformer_family(names: Iterable[str]) -> str:
    """The family with a transformer whose layers a LoRA with these tensor names changes: its key, ANY_TRANSFORMER
    where the names do not tell which, "" for a UNet."""
    names = list(names)
    if not any(map(TRANSFORMER_LAYER.match, names)):
        return ""
    matching = (key for key, layers in _FAMILY_LAYERS.items() if any(map(layers.search, names)))
    return next(matching, ANY_TRANSFORMER)


def ip_adapter_kind(shapes: dict[str, list[int]]) -> str:
    """The key in IMAGE_PROJECTIONS of an IP-Adapter with tensors of these names; "" if none."""
    kinds = IMAGE_PROJECTIONS.items()
    return next((name for name, kind in kinds if IMAGE_PROJECTION_PREFIX + kind.marker in shapes), "")


def ip_adapter_problem(shapes: dict[str, list[int]], width: int, encoder: Path) -> str:
    """Why no model can use an IP-Adapter of tensors with these shapes; "" if some may.

    `width`: of the tokens that its attention reads. `encoder`: the folder of its image encoder.
    """
    projection = {
        name.removeprefix(IMAGE_PROJECTION_PREFIX): shape
        for name, shape in shapes.items()
        if name.startswith(IMAGE_PROJECTION_PREFIX)
    }
    name = ip_adapter_kind(shapes)
    if not name:
        of_faces = any(part.startswith("perceiver_resampler.") for part in projection) or (
            "norm.weight" in projection and "proj.0.weight" in projection
        )
        return "it needs the features of a face" if of_faces else "it is of a kind that is not known"
    kind = IMAGE_PROJECTIONS[name]
    if any(len(projection.get(part, ())) != dimensions for part, dimensions in kind.dimensions.items()):
        return "its tensors are not those of its kind"
    layers = {part.split(".")[1] for part in projection if part.startswith("layers.")}
    if name == "plus" and layers != _RESAMPLER_LAYERS:
        return "its resampler has other layers than the usual four"
    part, side = kind.token_side
    if projection[part][side] != kind.tokens * width:
        return "it makes other tokens than it reads"
    part, side = kind.feature_side
    return _encoder_problem(encoder, kind.encoder_config, projection[part][side])


def _encoder_problem(encoder: Path, config_entry: tuple[str, int], features: int) -> str:
    if not any(encoder.glob("*.safetensors")):
        return "its image encoder has no weights"
    try:
        encoder_features = json.loads((encoder / "config.json").read_text()).get(*config_entry)
    except (OSError, ValueError, AttributeError):
        return "its image encoder cannot be read"
    if encoder_features == features:
        return ""
    return f"it was made for an image encoder that says {features} numbers and not {encoder_features}"
