"""Warm start: training that begins from a finished model instead of from nothing.

Words that both tokenizers know keep their embeddings. The autoencoder goes on learning within sight of
its old latents, so that these keep the meaning which the UNet has learned.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from .loop import save


def take(folder: Path, work: Path) -> None:
    """Reads a Stable Diffusion folder written by `export` into work/start.pt. Raises OSError if it is none."""
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    token_ids = CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    parts = {"vae": vae.state_dict(), "unet": unet.state_dict(), "text": text.state_dict()}
    save(work / "start.pt", parts | {"words": token_ids})


def take_text(model: CLIPTextModel, tokenizer: CLIPTokenizer, known: dict) -> int:
    """Loads the text encoder of start.pt into `model`; the number of words of `tokenizer` that it knew."""
    state = dict(known["text"])
    key = next(name for name in state if name.endswith("token_embedding.weight"))
    new, old = model.state_dict()[key].clone(), state[key]
    shared = [(here, known["words"][word]) for word, here in tokenizer.get_vocab().items() if word in known["words"]]
    here, there = (torch.tensor(ids) for ids in zip(*shared, strict=True))
    new[here] = old[there]
    model.load_state_dict(state | {key: new})
    return len(shared)
