"""Why an add-on can be used with no model, told from the names and shapes of its tensors. No torch here.

It is said when the add-on is asked for, and not after a job has waited for its turn.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

LORA_HALF = re.compile(r"(.+?)[._](?:lora\.|lora_linear_layer\.|lora_)(down|up|A|B)(?:\.default)?\.weight")
"""A layer's name and which of the two matrices beside it, in a tensor's name, whichever tool wrote it."""
_PLACES = re.compile(
    "down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks|text_encoder|lora_te|conv_in|conv_out"
    "|time_embed|add_embedding|label_emb|unet_out_2"
)
"""What the layers of Stable Diffusion are called."""
OF_A_TRANSFORMER = re.compile(
    r"(?:base_model\.model\.)?(?:(?:transformer|diffusion_model|lora_unet|lora_transformer)[._])?"
    "(?:single_transformer|transformer|double|single|joint)_blocks[._]"
)
"""How the names begin of layers in Flux, SD3 and Qwen-Image. A UNet has such blocks within others."""
_ONLY_IN = {
    "flux": re.compile(r"(single_transformer|single|double)_blocks[._]\d"),
    "sd3": re.compile(r"joint_blocks[._]\d"),
    "qwen-image": re.compile(r"transformer_blocks[._]\d+[._](img|txt)_(mlp|mod)"),
}
_OTHERS = {
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
"""What holds tensors that are no halves, by a part of their names."""

PROJECTION = "image_proj."
"""What the names begin with of an IP-Adapter's tensors that make tokens of what its image encoder says."""
_RESAMPLER_LAYERS = set("0123")


@dataclass(frozen=True, slots=True)
class _Kind:
    """Of IP-Adapters. A side is a tensor's name and one of its dimensions."""

    told_by: str
    shapes: dict[str, int]
    """Tensors it must have, with the number of their dimensions."""
    made: tuple[str, int]
    """The side that is as long as a token, or `tokens` times that."""
    sees: tuple[str, int]
    """The side that is as long as what the image encoder says."""
    said_by: tuple[str, int]
    """Where the encoder's configuration names that length, and what it is where it does not."""
    tokens: int = 1


ADAPTERS = {
    "plain": _Kind(
        "proj.weight",
        {"proj.weight": 2, "proj.bias": 1, "norm.weight": 1, "norm.bias": 1},
        ("proj.weight", 0),
        ("proj.weight", 1),
        ("projection_dim", 512),
        tokens=4,
    ),
    "full": _Kind(
        "proj.3.weight",
        {"proj.0.weight": 2, "proj.2.weight": 2, "proj.3.weight": 1},
        ("proj.2.weight", 0),
        ("proj.0.weight", 1),
        ("hidden_size", 768),
    ),
    "plus": _Kind(
        "latents",
        {"latents": 3, "proj_in.weight": 2, "proj_out.weight": 2},
        ("proj_out.weight", 0),
        ("proj_in.weight", 1),
        ("hidden_size", 768),
    ),
}
"""Plain ones make their tokens of the picture as a whole by one layer, full ones of each of its patches by a
perceptron, plus ones of all of these by a resampler with four layers: those that diffusers reads."""


def lora_flaw(names) -> str:
    """What is wrong with a LoRA whose tensors have these names; "" for nothing."""
    others = [name for name in names if not LORA_HALF.fullmatch(name) and not name.endswith(".alpha")]
    layers = [match[1] for name in names if (match := LORA_HALF.fullmatch(name))]
    if others:
        told = next((kind for part, kind in _OTHERS.items() for name in others if part in name), None)
        return f"it is {told}" if told else f"it holds “{others[0][:80]}”"
    if not layers:
        return "it holds no LoRA"
    if not transformer_of(names) and not all(_PLACES.search(layer) for layer in layers):
        return "it was made for models of another kind"
    return ""


def transformer_of(names) -> str:
    """For which of the families with transformers a LoRA with these names was made: `flux`, `sd3`, `qwen-image`,
    `transformer` where they do not tell which, "" for a UNet."""
    if not any(map(OF_A_TRANSFORMER.match, names)):
        return ""
    return next((family for family, told in _ONLY_IN.items() if any(map(told.search, names))), "transformer")


def adapter_kind(shapes: dict[str, list[int]]) -> str:
    """Which of ADAPTERS has tensors of these names; "" if none."""
    return next((name for name, kind in ADAPTERS.items() if PROJECTION + kind.told_by in shapes), "")


def adapter_flaw(shapes: dict[str, list[int]], width: int, encoder: Path) -> str:
    """What is wrong with an IP-Adapter of tensors with these shapes; "" for nothing.

    `width`: of the tokens that it reads. `encoder`: the folder of its image encoder.
    """
    own = {name.removeprefix(PROJECTION): shape for name, shape in shapes.items() if name.startswith(PROJECTION)}
    name = adapter_kind(shapes)
    if not name:
        of_faces = any(part.startswith("perceiver_resampler.") for part in own) or (
            "norm.weight" in own and "proj.0.weight" in own
        )
        return "it needs the features of a face" if of_faces else "it is of a kind that is not known"
    kind = ADAPTERS[name]
    if any(len(own.get(part, ())) != dimensions for part, dimensions in kind.shapes.items()):
        return "its tensors are not those of its kind"
    layers = {part.split(".")[1] for part in own if part.startswith("layers.")}
    if name == "plus" and layers != _RESAMPLER_LAYERS:
        return "its resampler has other layers than the usual four"
    part, side = kind.made
    if own[part][side] != kind.tokens * width:
        return "it makes other tokens than it reads"
    part, side = kind.sees
    return _encoder_flaw(encoder, kind.said_by, own[part][side])


def _encoder_flaw(encoder: Path, said_by: tuple[str, int], wanted: int) -> str:
    if not any(encoder.glob("*.safetensors")):
        return "its image encoder has no weights"
    try:
        given = json.loads((encoder / "config.json").read_text()).get(*said_by)
    except (OSError, ValueError, AttributeError):
        return "its image encoder cannot be read"
    return "" if given == wanted else f"it was made for an image encoder that says {wanted} numbers and not {given}"
