"""Tiny but real models: the true classes, small configurations, random weights, saved to disk."""

import re
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from generation.engine.catalog.models import Catalog, ModelSpec, local_model

from .original import unet_name

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tokenizer() -> CLIPTokenizer:
    """Byte-level, with a few merges; CLIP's window of 77."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t</w>"), ("b", "o"), ("bo", "a")]
    pieces = letters + [letter + "</w>" for letter in letters] + [a + b for a, b in merges]
    vocabulary = {word: number for number, word in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _text_config(vocab_size: int, layers: int = 2) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        projection_dim=32,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
    )


def _vae(seed: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(16, 32),
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )


def _unet(seed: int, **changes) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    config = {
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "sample_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**config | changes)


def save_sd(folder: Path, *, prediction: str = "epsilon", seed: int = 0, **unet) -> Path:
    """A Stable Diffusion 1.x folder, or 2.x with `v_prediction`; 2 x 2 pixels to a latent."""
    clip_tokenizer = tokenizer()
    torch.manual_seed(seed)
    scheduler = {
        "epsilon": PNDMScheduler(**SCHEDULE, steps_offset=1, skip_prk_steps=True),
        # Spaced as the built-in model is.
        "v_prediction": DPMSolverMultistepScheduler(
            **SCHEDULE, timestep_spacing="trailing", prediction_type="v_prediction"
        ),
    }[prediction]
    StableDiffusionPipeline(
        vae=_vae(seed),
        text_encoder=CLIPTextModel(_text_config(len(clip_tokenizer))),
        tokenizer=clip_tokenizer,
        unet=_unet(seed, **unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save_sdxl(folder: Path) -> Path:
    clip_tokenizer = tokenizer()
    torch.manual_seed(0)
    unet = _unet(
        0,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        attention_head_dim=(4, 8),
    )
    StableDiffusionXLPipeline(
        vae=_vae(0),
        text_encoder=CLIPTextModel(_text_config(len(clip_tokenizer))),
        tokenizer=clip_tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_text_config(len(clip_tokenizer), layers=3)),
        tokenizer_2=clip_tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, steps_offset=1),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def extended(catalog: Catalog, *specs: ModelSpec) -> Catalog:
    """The catalogue with further models."""
    return Catalog((*catalog.specs, *specs))


def tiny_spec(key: str, path: Path, **changes):
    """A spec whose native picture is 32 x 32 pixels."""
    small = {"native_width": 32, "native_height": 32, "min_side": 16, "max_side": 128, "default_steps": 4}
    return local_model(key, path, **small | changes)


LORA_LAYERS = re.compile(r"attn[12]\.to_(q|k|v|out\.0)|ff\.net|proj_(in|out)|self_attn|fc[12]|conv[12]$")


def save_lora(
    file: Path,
    folder: Path,
    *,
    form: str,
    seed: int = 0,
    rank: int = 4,
    parts=("unet", "text_encoder", "text_encoder_2"),
    layers=LORA_LAYERS,
    dtype=torch.float32,
) -> Path:
    """A random LoRA for the model in `folder`, with names and alphas as that tool writes them.

    kohya: on diffusers' names for the UNet; original: on those of the first code, as for SDXL; first, diffusers
    and peft: as diffusers wrote them at first and then, and writes them now.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    classes = {
        "unet": UNet2DConditionModel,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    several = (folder / "text_encoder_2").exists()
    for part, cls in classes.items():
        if part not in parts or not (folder / part).exists():
            continue
        network = cls.from_pretrained(folder / part)
        for path, layer in network.named_modules():
            if not isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)) or not layers.search(path):
                continue
            down = torch.randn(rank, *layer.weight.shape[1:], generator=generator) * 0.2
            up = torch.randn(layer.weight.shape[0], rank, *[1] * (layer.weight.ndim - 2), generator=generator) * 0.2
            name, halves = _lora_name(part, path, form, several, getattr(network.config, "layers_per_block", 0))
            tensors |= {f"{name}.{half}.weight": tensor for half, tensor in zip(halves, (down, up), strict=True)}
            if form in ("kohya", "original"):
                tensors[f"{name}.alpha"] = torch.tensor(rank / 2)
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, file)
    return file


def _lora_name(part, path, form, several, layers) -> tuple[str, tuple[str, str]]:
    if part != "unet":
        path = path if path.startswith("text_model.") else f"text_model.{path}"
    if form in ("kohya", "original"):
        if form == "original" and part == "unet":
            path = unet_name(f"{path}.weight", layers).removesuffix(".weight")
        prefix = {
            "unet": "lora_unet",
            "text_encoder": "lora_te1" if several else "lora_te",
            "text_encoder_2": "lora_te2",
        }[part]
        return f"{prefix}_{path.replace('.', '_')}", ("lora_down", "lora_up")
    if form == "first" and (attention := re.search(r"(.*attn[12]?)\.(?:to_)?(q|k|v|out)(?:_proj|\.0)?$", path)):
        processor = ".processor" if part == "unet" else ""
        return f"{part}.{attention[1]}{processor}.to_{attention[2]}_lora", ("down", "up")
    if form in ("first", "diffusers"):
        name = "lora" if part == "unet" else "lora_linear_layer"
        return f"{part}.{path}.{name}", ("down", "up")
    return f"{part}.{path}", ("lora_A", "lora_B")


def save_control(folder: Path, model: Path, *, seed: int = 0) -> Path:
    """A random ControlNet for the model in that folder, in diffusers' layout."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
    for name, weight in net.named_parameters():
        if name.startswith(("controlnet_", "mid_block")) or "conv_out" in name:  # they begin at zero
            torch.nn.init.normal_(weight, std=0.1)
    net.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, model: Path, *, kind: str = "plain", seed: int = 0) -> Path:
    """A random IP-Adapter of that kind for the model in that folder, with an image encoder of 32 x 32."""
    torch.manual_seed(seed)
    seen = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=24,
    )
    CLIPVisionModelWithProjection(seen).save_pretrained(folder / "image_encoder")
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    shapes = _projection_shapes(kind, unet.config.cross_attention_dim)
    tensors = {
        f"image_proj.{name}": torch.randn(shape) * (0.3 if len(shape) > 1 else 1) for name, shape in shapes.items()
    }
    crossing = [path for path in unet.attn_processors if path.endswith("attn2.processor")]
    for number, path in enumerate(crossing):
        shape = unet.get_submodule(path.removesuffix(".processor")).to_k.weight.shape
        for part in "kv":
            tensors[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(shape) * 0.3
    save_file(tensors, folder / "ip_adapter.safetensors")
    return folder


def _projection_shapes(kind: str, width: int) -> dict[str, tuple[int, ...]]:
    """What makes tokens of that width, as the files of each kind of IP-Adapter name it."""
    parts = ("weight", "bias")
    if kind == "plain":
        return {"proj.weight": (4 * width, 24), "proj.bias": (4 * width,)} | {
            f"norm.{part}": (width,) for part in parts
        }
    if kind == "full":
        return {
            "proj.0.weight": (32, 32),
            "proj.0.bias": (32,),
            "proj.2.weight": (width, 32),
            "proj.2.bias": (width,),
            **{f"proj.3.{part}": (width,) for part in parts},
        }
    inner, heads = 40, 64 * 2
    shapes = {
        "latents": (1, 5, inner),
        "proj_in.weight": (inner, 32),
        "proj_in.bias": (inner,),
        "proj_out.weight": (width, inner),
        "proj_out.bias": (width,),
        **{f"norm_out.{part}": (width,) for part in parts},
    }
    for layer in (f"layers.{number}" for number in range(4)):
        shapes |= {f"{layer}.{norm}.{part}": (inner,) for norm in ("0.norm1", "0.norm2", "1.0") for part in parts}
        shapes |= {
            f"{layer}.0.to_q.weight": (heads, inner),
            f"{layer}.0.to_kv.weight": (2 * heads, inner),
            f"{layer}.0.to_out.weight": (inner, heads),
            f"{layer}.1.1.weight": (4 * inner, inner),
            f"{layer}.1.3.weight": (inner, 4 * inner),
        }
    return shapes
