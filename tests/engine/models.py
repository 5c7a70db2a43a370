"""Tiny but real models: the true classes, small configurations, random weights, saved to disk."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from generation.engine.catalog import local_model

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tokenizer() -> CLIPTokenizer:
    """Byte-level, with a few merges; CLIP's window of 77."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t</w>"), ("b", "o"), ("bo", "a")]
    words = letters + [letter + "</w>" for letter in letters] + [a + b for a, b in merges]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _text_config(words: int, layers: int = 2) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, projection_dim=32, bos_token_id=words - 2, eos_token_id=words - 1,
        pad_token_id=words - 1,
    )


def _vae(seed: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(16, 32), latent_channels=4, norm_num_groups=8, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )


def _unet(seed: int, **changes) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    config = {
        "block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 32, "in_channels": 4,
        "out_channels": 4, "cross_attention_dim": 32, "attention_head_dim": 8, "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**config | changes)


def save_sd(folder: Path, *, prediction: str = "epsilon", seed: int = 0, **unet) -> Path:
    """A Stable Diffusion 1.x folder, or 2.x with `v_prediction`; 2 x 2 pixels to a latent."""
    words = tokenizer()
    torch.manual_seed(seed)
    scheduler = {"epsilon": PNDMScheduler(**SCHEDULE, steps_offset=1, skip_prk_steps=True),
                 # Spaced as the built-in model is.
                 "v_prediction": DPMSolverMultistepScheduler(**SCHEDULE, timestep_spacing="trailing",
                                                             prediction_type="v_prediction")}[prediction]
    StableDiffusionPipeline(
        vae=_vae(seed), text_encoder=CLIPTextModel(_text_config(len(words))), tokenizer=words,
        unet=_unet(seed, **unet), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save_sdxl(folder: Path) -> Path:
    words = tokenizer()
    torch.manual_seed(0)
    unet = _unet(
        0, cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32, transformer_layers_per_block=(1, 2),
        use_linear_projection=True, attention_head_dim=(4, 8),
    )
    StableDiffusionXLPipeline(
        vae=_vae(0), text_encoder=CLIPTextModel(_text_config(len(words))), tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(_text_config(len(words), layers=3)), tokenizer_2=words,
        unet=unet, scheduler=EulerDiscreteScheduler(**SCHEDULE, steps_offset=1),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_spec(key: str, path: Path, **changes):
    """A spec whose native picture is 32 x 32 pixels."""
    small = {"native_width": 32, "native_height": 32, "min_side": 16, "max_side": 128, "default_steps": 4}
    return local_model(key, path, **small | changes)
