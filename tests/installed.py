"""Add-ons as they lie in MODELS_DIR, tiny and without use, for pages and services that only look at them."""

import json
from pathlib import Path

from PIL import Image

WIDTH = 192
"""Of the text that the built-in model attends to."""


def write_safetensors(path: Path, shapes: dict[str, list[int]], metadata: dict[str, str] | None = None) -> None:
    """A well-formed file of zeros (float16)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header: dict = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def write_lora(models: Path, key: str, *, trigger: str = "", preview: bool = False, width: int = WIDTH) -> None:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    shapes = {f"{layer}.lora_down.weight": [2, width], f"{layer}.lora_up.weight": [32, 2]}
    metadata = {"modelspec.title": key.replace("-", " ").title()}
    write_safetensors(
        models / "loras" / f"{key}.safetensors",
        shapes,
        metadata | ({"modelspec.trigger_phrase": trigger} if trigger else {}),
    )
    if preview:
        Image.new("RGB", (64, 64), (200, 60, 40)).save(models / "loras" / f"{key}.preview.png")


def write_controlnet(models: Path, key: str, width: int = WIDTH) -> None:
    folder = models / "controlnet" / key
    write_safetensors(folder / "diffusion_pytorch_model.safetensors", {"conv_in.weight": [4, 4]})
    (folder / "config.json").write_text(json.dumps({"cross_attention_dim": width}))


def write_ip_adapter(models: Path, key: str, width: int = WIDTH) -> None:
    folder, features = models / "ip_adapter" / key, 8
    shapes = {
        "image_proj.proj.weight": [4 * width, features],
        "image_proj.proj.bias": [4 * width],
        "image_proj.norm.weight": [width],
        "image_proj.norm.bias": [width],
        "ip_adapter.1.to_k_ip.weight": [32, width],
    }
    write_safetensors(folder / "ip_adapter.safetensors", shapes)
    write_safetensors(folder / "image_encoder" / "model.safetensors", {"visual_projection.weight": [features, 4]})
    (folder / "image_encoder" / "config.json").write_text(json.dumps({"projection_dim": features}))


def install(models: Path) -> Path:
    """One or two of each kind for the built-in model, and a LoRA for another."""
    write_lora(models, "ink-wash", trigger="inkwash style", preview=True)
    write_lora(models, "soft-light")
    write_lora(models, "for-sdxl", width=2048)
    write_controlnet(models, "canny")
    write_controlnet(models, "depth")
    write_ip_adapter(models, "looks")
    return models
