"""Tiny models of the families with a pipeline of their own: the true classes, random weights, saved to disk."""

import re
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from generation.engine.catalog.models import local_model

from .models import _text_config, tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _t5(width: int) -> tuple[T5EncoderModel, T5TokenizerFast]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in LETTERS] + [(f"▁{letter}", -3.0) for letter in LETTERS]
    t5_tokenizer = T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=77)
    config = T5Config(
        vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    return T5EncoderModel(config), t5_tokenizer


def _vae(channels: int) -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )


def save_flux(folder: Path, *, guidance: bool = False) -> Path:
    clip_tokenizer = tokenizer()
    torch.manual_seed(0)
    second, second_words = _t5(32)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(4),
        text_encoder=CLIPTextModel(_text_config(len(clip_tokenizer))),
        tokenizer=clip_tokenizer,
        text_encoder_2=second,
        tokenizer_2=second_words,
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance,
        ),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save_sd3(folder: Path) -> Path:
    clip_tokenizer = tokenizer()
    torch.manual_seed(0)
    third, third_words = _t5(64)
    StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16),
        text_encoder=CLIPTextModelWithProjection(_text_config(len(clip_tokenizer))),
        tokenizer=clip_tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_text_config(len(clip_tokenizer), layers=3)),
        tokenizer_2=clip_tokenizer,
        text_encoder_3=third,
        tokenizer_3=third_words,
        transformer=SD3Transformer2DModel(
            sample_size=32,
            patch_size=1,
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=16,
        ),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save_qwen(folder: Path) -> Path:
    torch.manual_seed(0)
    letters = sorted(ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    qwen_tokenizer = Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate([*letters, *special])}, merges=[]
    )
    qwen_tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default", "rope_theta": 1e6}
    text = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": rope,
            "vocab_size": len(qwen_tokenizer),
        },
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
        image_token_id=3,
        video_token_id=4,
        vision_start_token_id=5,
        vision_end_token_id=6,
        vision_token_id=7,
        vocab_size=len(qwen_tokenizer),
    )
    QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=24,
            z_dim=4,
            dim_mult=[1, 2, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(text),
        tokenizer=qwen_tokenizer,
        transformer=QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=3,
            joint_attention_dim=16,
            guidance_embeds=False,
            axes_dims_rope=(8, 4, 4),
        ),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


SAVERS = {"flux": save_flux, "sd3": save_sd3, "qwen-image": save_qwen}


DRESSED = {
    "flux": ("transformer", "text_encoder"),
    "sd3": ("transformer", "text_encoder", "text_encoder_2"),
    "qwen-image": ("transformer",),
}
"""The parts that LoRAs change."""
LAYERS = re.compile(r"attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj)$|ff\.net|img_mlp|self_attn\.[qkv]_proj$|proj_mlp$")
CLASSES = {"flux": FluxPipeline, "sd3": StableDiffusion3Pipeline, "qwen-image": QwenImagePipeline}


def save_family_lora(file: Path, family: str, folder: Path, *, seed: int = 0, rank: int = 2) -> Path:
    """A random LoRA for the model in that folder, as `save_lora_weights` writes them."""
    generator = torch.Generator().manual_seed(seed)
    pipeline, tensors = CLASSES[family].from_pretrained(folder), {}
    for part in DRESSED[family]:
        for path, layer in getattr(pipeline, part).named_modules():
            if isinstance(layer, torch.nn.Linear) and LAYERS.search(path):
                for half, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
                    tensors[f"{part}.{path}.lora_{half}.weight"] = torch.randn(shape, generator=generator) * 0.4
    save_file(tensors, file)
    return file


def family_spec(family: str, folder: Path, **changes):
    """A spec whose native picture is 64 x 64 pixels."""
    small = {
        "native_width": 64,
        "native_height": 64,
        "min_side": 32,
        "max_side": 128,
        "default_steps": 3,
        "default_guidance": 4.0,
        "max_guidance": 20.0,
    }
    return local_model(changes.pop("key", family), folder, family=family, **small | changes)
