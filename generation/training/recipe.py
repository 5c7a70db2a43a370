"""Hyperparameters of the training, by preset. No torch here, so that commands can read it quickly."""

from dataclasses import dataclass

Size = tuple[int, int, float]
"""Width and height in pixels, and the share of all pictures (and of all batches) that has this size."""

# The shapes that the site offers, the square far ahead.
SIZES: tuple[Size, ...] = (
    (256, 256, 0.79),
    (288, 224, 0.025),
    (224, 288, 0.025),
    (320, 208, 0.025),
    (208, 320, 0.025),
    (336, 192, 0.03),
    (192, 336, 0.03),
    (384, 256, 0.015),
    (256, 384, 0.015),
    (192, 192, 0.01),
    (384, 384, 0.01),
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how the model is trained. Batches count pictures of 256x256; a batch of
    another size holds about as many pixels."""

    pictures: int = 12_000
    sizes: tuple[Size, ...] = SIZES
    vocabulary: int = 2048
    tokens: int = 48
    autoencoder_channels: tuple[int, ...] = (16, 16, 32, 64, 96)
    latent_channels: int = 8
    autoencoder_steps: int = 4_000
    autoencoder_batch: int = 8
    autoencoder_crop: int = 128
    autoencoder_whole: float = 0.12  # share of the steps, at the end, that sees whole pictures
    decoder_steps: int = 4_000
    text_width: int = 192
    text_layers: int = 2
    text_steps: int = 1_200
    text_batch: int = 48
    unet_channels: tuple[int, ...] = (96, 160)
    denoiser_steps: int = 12_000
    denoiser_batch: int = 32
    denoiser_rate: float = 6e-4
    caption_dropout: float = 0.12
    two_things: float = 2.0  # how often the denoiser sees a picture of two different things, for once of any other
    average: float = 0.999
    enlarger_pictures: int = 500
    enlarger_steps: int = 2_000
    enlarger_batch: int = 12
    enlarger_width: int = 24
    enlarger_layers: int = 6
    enlarger_rate: float = 1e-3
    judge_steps: int = 2_000
    judge_batch: int = 32
    save_every: int = 250


PRESETS = {
    "smoke": Recipe(
        pictures=48,
        sizes=((256, 256, 0.75), (320, 192, 0.25)),
        vocabulary=640,
        autoencoder_channels=(8, 8, 8, 8, 16),
        autoencoder_steps=4,
        decoder_steps=4,
        autoencoder_batch=2,
        autoencoder_crop=64,
        text_width=32,
        text_layers=1,
        text_steps=4,
        text_batch=8,
        unet_channels=(32, 32),
        denoiser_steps=4,
        denoiser_batch=4,
        enlarger_pictures=4,
        enlarger_steps=3,
        enlarger_batch=2,
        enlarger_width=8,
        enlarger_layers=1,
        judge_steps=2,
        judge_batch=4,
        save_every=2,
    ),
    "cpu": Recipe(),
    "full": Recipe(
        pictures=60_000,
        autoencoder_steps=40_000,
        decoder_steps=10_000,
        autoencoder_batch=32,
        text_steps=6_000,
        text_layers=3,
        unet_channels=(128, 256),
        denoiser_steps=60_000,
        denoiser_batch=128,
        average=0.9995,
        enlarger_pictures=4_000,
        enlarger_steps=40_000,
        enlarger_width=48,
        enlarger_layers=16,
        judge_steps=10_000,
        judge_batch=64,
        save_every=2_000,
    ),
}
