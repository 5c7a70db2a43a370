"""Exports the trained parts as a diffusers StableDiffusionPipeline folder."""

import json
import os
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from . import autoencoder, denoiser
from .loop import load
from .recipe import Recipe


def pipeline(recipe: Recipe, work: Path) -> StableDiffusionPipeline:
    """The averaged weights of a finished or running training, in float32."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    shadow = load(work / "denoiser.pt")["average"]["shadow"]
    text, unet = denoiser.build_text(recipe, tokenizer), denoiser.build_unet(recipe)
    for name, part in (("text", text), ("unet", unet)):
        part.load_state_dict({k.removeprefix(name + "."): v for k, v in shadow.items() if k.startswith(name + ".")})
        part.eval().requires_grad_(False)
    return StableDiffusionPipeline(
        vae=autoencoder.trained(recipe, work),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=denoiser.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(recipe: Recipe, work: Path, out: Path, say=print) -> None:
    """Saves the pipeline in half precision to `out`, whole or not at all, and keeps its README."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline(recipe, work).to(torch.float16).save_pretrained(part, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work / "tokenizer" / name, part / "tokenizer" / name)
    fit = load(work / "latents.pt")["preview"]
    # rgb = latent @ matrix + bias, per 16x16 patch: scaled latents in, -1..1 out.
    (part / "preview.json").write_text(json.dumps({"matrix": fit[:-1].tolist(), "bias": fit[-1].tolist()}) + "\n")
    if (out / "README.md").exists():
        shutil.copy(out / "README.md", part / "README.md")
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(part, out)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    say(f"export: {out} {size / 2**20:.1f} MiB")
