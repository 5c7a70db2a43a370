"""A tiny model in the layout of the first Stable Diffusion code, as Civitai and A1111 hand models around."""

from pathlib import Path

from diffusers import StableDiffusionPipeline
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_original(folder: Path, file: Path) -> Path:
    """Write the diffusers folder's weights as one checkpoint of the original layout."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    state = {}
    for name, tensor in pipeline.unet.state_dict().items():
        state["model.diffusion_model." + unet_name(name, pipeline.unet.config.layers_per_block)] = tensor
    for name, tensor in pipeline.vae.state_dict().items():
        state["first_stage_model." + _vae_name(name, len(pipeline.vae.config.block_out_channels))] = tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        state["cond_stage_model.transformer." + name] = tensor
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


def unet_name(name: str, layers: int) -> str:
    plain = DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"]
    if name in plain:
        return plain[name]
    part, rest = name.split(".", 1)
    if part == "mid_block":
        kind, number, rest = rest.split(".", 2)
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{place}." + _renamed(rest, RESNET if kind == "resnets" else {})
    block, kind, number, rest = rest.split(".", 3)
    block, number = int(block), int(number)
    if part == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * (layers + 1)}.0.op." + rest.removeprefix("conv.")
        place = f"input_blocks.{1 + block * (layers + 1) + number}"
    else:
        place = f"output_blocks.{block * (layers + 1) + (layers if kind == 'upsamplers' else number)}"
    if kind == "upsamplers":
        return f"{place}.1.{rest}"  # after one resnet; the tiny model upsamples where it has no attention
    return f"{place}.{int(kind == 'attentions')}." + _renamed(rest, RESNET if kind == "resnets" else {})


def _vae_name(name: str, blocks: int) -> str:
    plain = DIFFUSERS_TO_LDM_MAPPING["vae"]
    if name in plain:
        return plain[name]
    half, part, rest = name.split(".", 2)
    if part == "mid_block":
        kind, number, rest = rest.split(".", 2)
        if kind == "attentions":
            return f"{half}.mid.attn_1." + _renamed(rest, VAE_ATTENTION)
        return f"{half}.mid.block_{int(number) + 1}." + rest.replace("conv_shortcut", "nin_shortcut")
    block, kind, number, rest = rest.split(".", 3)
    place = f"down.{block}" if part == "down_blocks" else f"up.{blocks - 1 - int(block)}"
    if kind == "resnets":
        return f"{half}.{place}.block.{number}." + rest.replace("conv_shortcut", "nin_shortcut")
    return f"{half}.{place}.{kind.removesuffix('rs')}e.".replace("samplee", "sample") + rest


def _renamed(rest: str, names: dict) -> str:
    for ours, theirs in names.items():
        if rest.startswith(f"{ours}."):
            return theirs + rest.removeprefix(ours)
    return rest
