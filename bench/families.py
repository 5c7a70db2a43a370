"""Each UNet family at its true size: made with random weights, saved, loaded by the engine and drawn with.

    .venv/bin/python bench/families.py [sd15 sd21 sdxl] [--side 64] [--steps 2] [--keep FOLDER] >> bench/results.jsonl

Reports for each family: seconds to load from the saved folder and to draw one picture, bytes of weights, and the
most memory that the process held at once. Each has a process of its own. It takes 3 to 8 GB on the disk, and twice
the weights in memory while they are made. Prints one JSON line for each family.

The other benchmarks take their models from here. Configurations are those of the published models' config files.
What is drawn is noise; what it costs is the same. Weights are scaled so that the network answers with numbers of
the size that a trained one does.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from compare import print_result, running_engine
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from generation.engine.catalog.models import local_model
from generation.engine.protocol import Progress
from generation.engine.request.request import build_request
from tests.engine.models import SCHEDULE, tokenizer

WORDS = 49408
"""CLIP's vocabulary. The tokenizer here knows few words; the tables are of full size."""
POOL = 2**24
"""Numbers that all weights are cut from."""


@dataclass(frozen=True)
class Family:
    """One architecture. `texts` holds its text encoders, `side` its native picture's side in pixels."""

    unet: dict
    texts: tuple[dict, ...]
    side: int
    vae: dict
    prediction: str = "epsilon"

    @property
    def engine_family(self) -> str:
        return "sdxl" if len(self.texts) > 1 else "sd"


CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
OPEN_CLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
}
OPEN_CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
SDXL_UNET = {
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}
FAMILIES = {
    "sd15": Family({"cross_attention_dim": 768, "sample_size": 64}, (CLIP_L,), 512, VAE),
    "sd21": Family(
        {
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "sample_size": 96,
            "use_linear_projection": True,
        },
        (OPEN_CLIP_H,),
        768,
        VAE | {"sample_size": 768},
        "v_prediction",
    ),
    "sdxl": Family(
        SDXL_UNET,
        (CLIP_L, OPEN_CLIP_G),
        1024,
        VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    ),
}


def tiny(family: Family) -> Family:
    """The same shape with few channels, for trying the benchmarks out."""
    levels = len(family.unet.get("block_out_channels", (0,) * 4))
    changes = {
        "block_out_channels": (32, 64, 64, 64)[:levels],
        "attention_head_dim": 8,
        "layers_per_block": 1,
        "cross_attention_dim": 32 * len(family.texts),
        "norm_num_groups": 8,
    }
    if "projection_class_embeddings_input_dim" in family.unet:
        changes |= {
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 32,
            "transformer_layers_per_block": (1, 1, 2),
        }
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
    }
    vae = {"block_out_channels": (8, 16, 16, 16), "layers_per_block": 1, "norm_num_groups": 8}
    return Family(
        family.unet | changes, tuple(config | text for config in family.texts), 64, family.vae | vae, family.prediction
    )


def shapes(family: Family) -> tuple[UNet2DConditionModel, AutoencoderKL, list]:
    """UNet, VAE and text encoders without weights, on the `meta` device."""
    clip_tokenizer = tokenizer()
    ends = {
        "vocab_size": WORDS,
        "bos_token_id": clip_tokenizer.bos_token_id,
        "eos_token_id": clip_tokenizer.eos_token_id,
        "pad_token_id": clip_tokenizer.pad_token_id,
    }
    with torch.device("meta"):
        encoders = [CLIPTextModel(CLIPTextConfig(**family.texts[0] | ends))]
        encoders += [CLIPTextModelWithProjection(CLIPTextConfig(**text | ends)) for text in family.texts[1:]]
        return UNet2DConditionModel(**family.unet), AutoencoderKL(**family.vae), encoders


def unet_inputs(family: Family, rows: int, side: int, dtype=torch.float32, device="meta") -> dict:
    """What that UNet takes for so many pictures of `side` x `side` pixels."""
    edge, options = side // 8, {"dtype": dtype, "device": device}
    inputs = {
        "sample": torch.randn(rows, 4, edge, edge, **options),
        "timestep": torch.full((rows,), 500, device=device),
        "encoder_hidden_states": torch.randn(rows, 77, family.unet["cross_attention_dim"], **options),
    }
    if family.engine_family == "sdxl":
        sizes = torch.tensor([[float(side), side, 0, 0, side, side]] * rows, **options)
        pooled = torch.randn(rows, family.texts[1]["projection_dim"], **options)
        inputs["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    return inputs


def save_family(family: Family, folder: Path, *, seed: int = 0, dtype=torch.bfloat16, device="cpu") -> Path:
    """The family with weights from that seed, as a diffusers folder. One that is there is left as it is."""
    if (folder / "model_index.json").exists():
        return folder
    torch.manual_seed(seed)
    pool = torch.randn(POOL, device=device).to(dtype)
    unet, vae, encoders = shapes(family)
    networks = [_filled(network, pool, dtype, device) for network in (unet, vae, *encoders)]
    with torch.inference_mode():
        answer = unet(**unet_inputs(family, 1, 64, dtype, device)).sample
        unet.conv_out.weight /= answer.float().std()
        picture = vae.decode(torch.randn(1, 4, 8, 8, dtype=dtype, device=device)).sample
        vae.decoder.conv_out.weight *= 0.4 / picture.float().std()
    clip_tokenizer = tokenizer()
    scheduler = EulerDiscreteScheduler(
        **SCHEDULE, steps_offset=1, timestep_spacing="leading", prediction_type=family.prediction
    )
    parts = {"unet": unet, "vae": vae, "text_encoder": encoders[0], "tokenizer": clip_tokenizer, "scheduler": scheduler}
    if family.engine_family == "sdxl":
        pipeline = StableDiffusionXLPipeline(**parts, text_encoder_2=encoders[1], tokenizer_2=clip_tokenizer)
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.save_pretrained(folder, safe_serialization=True)
    del pipeline, networks
    return folder


def _filled(network, pool, dtype, device):
    """Weights of mean 0 and variance 1 / inputs, gains near 1 and biases near 0, all cut from one pool of noise."""
    for part in (*network.parameters(), *network.buffers()):  # .to() warns of what is a matter of trained weights only
        if part.is_floating_point():
            part.data = part.data.to(dtype)
    network.to_empty(device=device).requires_grad_(False).eval()
    for name, weight in network.named_parameters():
        flat = weight.view(-1)
        begin = int(torch.randint(max(POOL - flat.numel(), 1), ()))
        for start in range(0, flat.numel(), POOL):
            piece = flat[start : start + POOL]
            piece.copy_(pool[begin : begin + piece.numel()])
        if weight.ndim > 1:
            weight *= weight[0].numel() ** -0.5
        elif name.endswith("bias"):
            weight *= 0.02
        else:
            weight.mul_(0.05).add_(1)
    return network


def spec_of(name: str, family: Family, folder: Path, *, native: int = 0, **changes):
    """It as a model of the catalogue; `native`: another side in pixels than the family's."""
    side = native or family.side
    return local_model(
        name, folder.resolve(), family=family.engine_family, native_width=side, native_height=side, **changes
    )


def draw_one(name: str, family: Family, folder: Path, side: int, steps: int) -> dict:
    saved = time.perf_counter()
    save_family(family, folder)
    saved = time.perf_counter() - saved
    spec = spec_of(name, family, folder)
    with running_engine([spec], dtype="bf16") as engine:
        phases: dict[str, float] = {}

        def note_phase(progress: Progress) -> None:
            phases.setdefault(progress.phase, time.perf_counter())

        job = engine.submit(
            build_request(spec, prompt="a red boat at sea", width=side, height=side, steps=steps, seed=1),
            on_progress=note_phase,
        )
        picture = job.result()[0]
        model = engine.models.get(spec)
        return {
            "family": name,
            "parameters": sum(w.numel() for part in model.parts for w in part.parameters()),
            "weight_bytes": model.nbytes,
            "dtype": "bf16",
            "size": f"{side}x{side}",
            "steps": steps,
            "seconds_making": round(saved, 1),
            "seconds_loading": round(phases["generating"] - phases["loading"], 2),
            "seconds_drawing": round(picture.seconds, 2),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("families", nargs="*", default=[*FAMILIES])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where the models are made, or lie already")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        if len(options.families) > 1:
            rest = ["--side", str(options.side), "--steps", str(options.steps), *["--tiny"] * options.tiny]
            for name in options.families:
                # Made in one process and loaded in another, whose memory is then that of loading and drawing.
                code = f"import families as f; f.make({name!r}, {options.tiny}, {str(folder)!r})"
                subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
                subprocess.run([sys.executable, __file__, name, "--keep", str(folder), *rest], check=True)
            return
        name = options.families[0]
        family = tiny(FAMILIES[name]) if options.tiny else FAMILIES[name]
        print_result("families", draw_one(name, family, folder / f"{name}-0", options.side, options.steps))


def make(name: str, small: bool, folder: str) -> None:
    save_family(tiny(FAMILIES[name]) if small else FAMILIES[name], Path(folder) / f"{name}-0")


if __name__ == "__main__":
    main()
