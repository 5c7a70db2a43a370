"""Trains the text encoder and the UNet: captions to latents.

Two stages. First the text encoder alone learns to name what a caption says (object, colour, place,
style, per side), which costs a minute and gives the UNet words that already mean something. Then
both are trained together: v-prediction with weights like min-SNR's and caption dropout for guidance.

Sources: v-prediction, Salimans & Ho 2022 (arXiv 2202.00512); min-SNR, Hang et al. 2023
(arXiv 2303.09556); guidance, Ho & Salimans 2022 (arXiv 2207.12598).
"""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import start
from .captions import caption, nothing
from .dataset import Shelf, choose, odds, scene_of, with_latents
from .loop import Average, Progress, checkpoint, load, rate, restore, save
from .recipe import Recipe
from .scene import Scene, random_scene
from .vocabulary import COLOURS, PLACES, STYLES, THINGS

UNTOLD = 0.03
SCALES = ("", "small", "big")
RELATIONS = ("", "beside", "above", "group")
# What the text encoder must be able to name. A group is its first item and how many there are.
HEADS = {
    "thing0": len(THINGS) + 1,
    "colour0": len(COLOURS) + 1,
    "scale0": len(SCALES),
    "thing1": len(THINGS) + 1,
    "colour1": len(COLOURS) + 1,
    "scale1": len(SCALES),
    "relation": len(RELATIONS),
    "count": 4,
    "place": len(PLACES),
    "backdrop": len(COLOURS) + 1,
    "style": len(STYLES),
}


def scheduler() -> DPMSolverMultistepScheduler:
    """The noise schedule, in the form the exported pipeline uses.

    beta_end is above Stable Diffusion's 0.012: a 16x16 latent shows its mean colour through more
    noise than that, and then pictures cannot become as dark or bright as their words.
    """
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def build_text(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=recipe.text_width * 4,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=max(1, recipe.text_width // 32),
            projection_dim=recipe.text_width,
            max_position_embeddings=recipe.tokens,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_unet(recipe: Recipe) -> UNet2DConditionModel:
    """Plain convolutions at full size, attention from half size on: obedience per second was best."""
    wide = recipe.unet_channels
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=wide,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (len(wide) - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (len(wide) - 1) + ("UpBlock2D",),
        cross_attention_dim=recipe.text_width,
        attention_head_dim=tuple(max(1, c // 32) for c in wide),
        norm_num_groups=16,
    )


class Captioner:
    """Captions as padded token ids; words differ at every visit."""

    def __init__(self, recipe: Recipe, work: Path):
        self.tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
        self.length = recipe.tokens

    @staticmethod
    def caption_of(scene: Scene, rng: random.Random) -> str:
        """A caption; now and then of the place alone, so that a prompt may leave open what is there."""
        return caption(replace(scene, items=()) if rng.random() < UNTOLD else scene, rng)

    def ids(self, scenes: list[Scene], rng: random.Random, dropout: float) -> torch.Tensor:
        """(n, length) token ids, padded as in use; a dropped caption asks for nothing."""
        return self.tokens([nothing(rng) if rng.random() < dropout else self.caption_of(s, rng) for s in scenes])

    def tokens(self, texts: list[str], padding: str = "max_length") -> torch.Tensor:
        return self.tokenizer(
            texts, padding=padding, truncation=True, max_length=self.length, return_tensors="pt"
        ).input_ids


def answers(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """The class index of every head for every scene; the last class of an item's head means none."""
    things, colours = [t.key for t in THINGS], [c.key for c in COLOURS]
    out: dict[str, list[int]] = {k: [] for k in HEADS}
    for s in scenes:
        items = s.items[:1] if s.relation == "group" else s.items
        for k in (0, 1):
            item = items[k] if k < len(items) else None
            out[f"thing{k}"].append(things.index(item.thing) if item else len(things))
            out[f"colour{k}"].append(colours.index(item.colour) if item and item.named else len(colours))
            out[f"scale{k}"].append(SCALES.index(item.scale) if item else 0)
        out["relation"].append(RELATIONS.index(s.relation))
        out["count"].append(len(s.items))
        out["place"].append([p.key for p in PLACES].index(s.place))
        out["backdrop"].append(colours.index(s.backdrop) if s.backdrop else len(colours))
        out["style"].append([y.key for y in STYLES].index(s.style))
    return {k: torch.tensor(v) for k, v in out.items()}


def train_text(recipe: Recipe, work: Path, device: str, say=print) -> None:
    """Teaches the text encoder what captions say, from the mean of its output; work/text.pt."""
    captioner = Captioner(recipe, work)
    model = build_text(recipe, captioner.tokenizer)
    if known := load(work / "start.pt"):
        taken = start.take_text(model, captioner.tokenizer, known)
        say(f"text: knows {taken} of {len(captioner.tokenizer)} words already")
    model = model.to(device).train()
    heads = torch.nn.ModuleDict({k: torch.nn.Linear(recipe.text_width, n) for k, n in HEADS.items()}).to(device)
    optimiser = torch.optim.AdamW([*model.parameters(), *heads.parameters()], 1e-3, (0.9, 0.98), weight_decay=0.01)
    progress = Progress("text", recipe.text_steps, say=say)
    for step in range(recipe.text_steps):
        rng = random.Random(step)
        # Seeds far from the pictures': words need no drawing, so they can be new every time.
        scenes = [random_scene(10**7 + step * recipe.text_batch + i) for i in range(recipe.text_batch)]
        ids = captioner.tokens([caption(scene, rng) for scene in scenes], padding="longest").to(device)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * rate(step, recipe.text_steps)
        pooled = model(input_ids=ids).last_hidden_state.mean(1)
        right = answers(scenes)
        losses = [F.cross_entropy(heads[k](pooled), right[k].to(device)) for k in HEADS]
        optimiser.zero_grad(set_to_none=True)
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        correct = [
            (heads[k](pooled).argmax(1).cpu() == right[k]).float().mean().item() for k in ("thing0", "colour0", "place")
        ]
        progress.step(step, loss=sum(losses).item(), **dict(zip(("thing", "colour", "place"), correct, strict=True)))
    save(work / "text.pt", {"model": model.state_dict()})


def train(recipe: Recipe, work: Path, device: str, say=print) -> None:
    """Trains UNet and text encoder on the latents; checkpoints with averages in work/denoiser.pt."""
    path = work / "denoiser.pt"
    captioner = Captioner(recipe, work)
    stock = with_latents(recipe, work)
    chances = {shelf.size: odds(recipe, shelf) for shelf in stock}
    model = torch.nn.ModuleDict({"text": build_text(recipe, captioner.tokenizer), "unet": build_unet(recipe)})
    model["text"].load_state_dict(load(work / "text.pt")["model"])
    if known := load(work / "start.pt"):
        model["unet"].load_state_dict(known["unet"])
    model = model.to(device).train()
    optimiser = torch.optim.AdamW(
        [{"params": model["unet"].parameters(), "scale": 1.0}, {"params": model["text"].parameters(), "scale": 0.3}],
        recipe.denoiser_rate,
        (0.9, 0.99),
        weight_decay=0.01,
        fused=True,
    )
    average = Average(model, recipe.average)
    done = restore(path, model, optimiser, average)
    signal = scheduler().alphas_cumprod.to(device)
    progress = Progress("denoiser", recipe.denoiser_steps, done, say=say)
    for step in range(done, recipe.denoiser_steps):
        loss = denoising_loss(recipe, model, captioner, stock, chances, signal, step, device)
        for group in optimiser.param_groups:
            group["lr"] = recipe.denoiser_rate * group["scale"] * rate(step, recipe.denoiser_steps, warm=200)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model)
        progress.step(step, loss=loss.item())
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.denoiser_steps:
            checkpoint(path, step + 1, model, optimiser, average)


def denoising_loss(
    recipe: Recipe,
    model,
    captioner: Captioner,
    stock: list[Shelf],
    chances: dict[int, np.ndarray],
    signal: torch.Tensor,
    step: int,
    device: str,
) -> torch.Tensor:
    """One batch of one size, whose rows have these `chances`: noise the latents, predict v, compare.

    The weight is min-SNR's for v-prediction with snr + 1 in place of snr: it holds back nearly clean
    samples, and leaves noisy ones, where words decide colours and layout, their full say.
    """
    rng = np.random.default_rng(step)
    torch.manual_seed(step)
    shelf = choose(stock, rng)
    n = shelf.batch(recipe.denoiser_batch)
    picked = rng.choice(len(shelf.latents), n, p=chances[shelf.size])
    clean = torch.from_numpy(shelf.latents[picked].astype(np.float32)).to(device)
    scenes = [scene_of(recipe, shelf.size, int(row)) for row in picked]
    ids = captioner.ids(scenes, random.Random(step), recipe.caption_dropout).to(device)
    noise = torch.randn_like(clean)
    # Stratified timesteps: each batch covers the whole schedule, which quietens the gradient.
    times = ((torch.arange(n, device=device) + torch.rand(n, device=device)) / n * len(signal)).long()
    a, b = signal[times].sqrt()[:, None, None, None], (1 - signal[times]).sqrt()[:, None, None, None]
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        states = model["text"](input_ids=ids).last_hidden_state
        out = model["unet"](a * clean + b * noise, times, states).sample
    snr = signal[times] / (1 - signal[times])
    weight = (5 / (snr + 1)).clamp(max=1)
    return (weight * (out.float() - (a * noise - b * clean)).square().mean((1, 2, 3))).mean()
