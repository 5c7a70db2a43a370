"""How the model is trained, in numbers. No torch here, so that commands can read it quickly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how the model is trained. Steps and batches count pictures at 256x256."""

    pictures: int = 6_000
    vocabulary: int = 2048
    tokens: int = 48
    autoencoder_channels: tuple[int, ...] = (16, 16, 32, 64, 96)
    latent_channels: int = 8
    autoencoder_steps: int = 2_250
    autoencoder_batch: int = 8
    autoencoder_crop: int = 128
    autoencoder_whole: float = 0.12  # share of the steps, at the end, that sees whole pictures
    decoder_steps: int = 2_700
    text_width: int = 192
    text_layers: int = 2
    text_steps: int = 700
    text_batch: int = 48
    unet_channels: tuple[int, ...] = (96, 160)
    denoiser_steps: int = 5_000
    denoiser_batch: int = 16
    denoiser_rate: float = 6e-4
    caption_dropout: float = 0.12
    average: float = 0.999
    save_every: int = 250


PRESETS = {
    "smoke": Recipe(
        pictures=48,
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
        save_every=2_000,
    ),
}
