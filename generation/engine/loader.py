"""Loading models: device, precision, memory, and which models stay resident.

Every part is loaded by its own class from its own folder. `model_index.json` is never followed: it may
name classes to import, and that has been a way to run foreign code (GHSA-98h9-4798-4q5v). Only
safetensors are read, no remote code, and no safety checker comes along with a model.
"""

import gc
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from . import sources
from .catalog import ModelSpec
from .errors import ModelUnavailable
from .images import LatentColours
from .text import PromptEncoder

log = logging.getLogger(__name__)

# Their bars draw over a server's log; what takes long is reported by phase.
transformers.utils.logging.disable_progress_bar()
diffusers.utils.logging.disable_progress_bar()


class NoRoom(Exception):
    """The models in use leave too little of the memory budget; there may be room when they are not."""


# transformers creates weights under a default device and patched initialisers of the whole process.
_ONE_AT_A_TIME = threading.Lock()

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(eq=False)
class LoadedModel:
    """One model on the device, ready to draw."""

    spec: ModelSpec
    source: sources.Source
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: PromptEncoder
    scheduler_config: dict
    colours: LatentColours
    device: torch.device
    dtype: torch.dtype
    nbytes: int
    """Bytes of all weights on the device."""
    digest: Future = field(repr=False)
    low_memory: bool = False

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the UNet's weights. Waits if it is still being computed."""
        return self.digest.result()

    @property
    def vae_scale(self) -> int:
        """Pixels per latent, along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def save_memory(self, on: bool) -> None:
        """Low-memory mode: attention in slices, decoding in tiles. Slower, and tiles may show slightly."""
        if on == self.low_memory:
            return
        self.unet.set_attention_slice("max" if on else None)
        self.vae.use_slicing = self.vae.use_tiling = on
        self.low_memory = on


class ModelManager:
    """Finds, loads and keeps models. Used by the engine's thread alone, except `resident()`.

    device: `auto`, `cuda`, `cuda:1`, `mps`, `cpu`. dtype: `auto`, `fp32`, `bf16`, `fp16`; `auto` is fp32
    on a CPU and for the built-in model, else bf16 where the GPU computes in it, else fp16.
    models_dir: a folder that may hold `<key>/`, looked at before the Hub. cache_dir: the Hub client's
    cache. memory_budget: bytes that resident weights may take; by default 60 % of the GPU's memory or
    40 % of the machine's. The least recently used models leave first.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        dtype: str = "auto",
        models_dir=None,
        cache_dir=None,
        allow_download: bool = True,
        hf_token: str | None = None,
        memory_budget: int | None = None,
    ):
        if dtype != "auto" and dtype not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, not {dtype!r}")
        self.device = torch.device(_best_device() if device == "auto" else device)
        self._dtype = dtype
        self._paths = {"models_dir": models_dir, "cache_dir": cache_dir}
        self._download = {"allow_download": allow_download, "hf_token": hf_token}
        self._budget = memory_budget or _default_budget(self.device)
        self._resident: OrderedDict[str, LoadedModel] = OrderedDict()
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="weights-hash")

    def get(
        self,
        spec: ModelSpec,
        on_phase: Callable[[str, float | None], None] = lambda phase, fraction: None,
        *,
        in_use: Collection[str] = (),
    ) -> LoadedModel:
        """The model, loaded if it is not resident.

        `on_phase` hears `("downloading", 0…1)` and `("loading", None)`; what it raises ends the load.
        `in_use`: keys of models that must not leave for it. Raises ModelUnavailable, and NoRoom if the
        budget is too small for this one beside those in use.
        """
        if model := self._resident.get(spec.key):
            self._resident.move_to_end(spec.key)
            return model
        source = sources.fetch(
            spec,
            **self._paths,
            **self._download,
            on_fraction=lambda fraction: on_phase("downloading", fraction),
        )
        on_phase("loading", None)
        files = sources.weight_files(spec, source.path)
        needed = sum(map(sources.check_safetensors, files)) * self.dtype_for(spec).itemsize
        self._make_room(needed, in_use)
        try:
            with _ONE_AT_A_TIME:
                model = self._load(spec, source)
        except Exception as error:  # what a wrong file makes the libraries raise is anything
            if is_out_of_memory(error):
                raise
            log.exception("Cannot load %s from %s", spec.key, source.name)
            details = [f"{source.name}: {type(error).__name__}: {error}"]
            raise ModelUnavailable(f"{spec.title} cannot be loaded.", details) from None
        self._resident[spec.key] = model
        log.info("Loaded %s from %s: %d MB, %s on %s", spec.key, source.name, model.nbytes // 10**6,
                 dtype_name(model.dtype), self.device)
        return model

    def preload(
        self, spec: ModelSpec, on_phase: Callable[[str, float | None], None] = lambda phase, fraction: None
    ) -> sources.Source:
        """Make the model ready and prove that it loads. Returns the source used; raises ModelUnavailable."""
        return self.get(spec, on_phase).source

    def dtype_for(self, spec: ModelSpec) -> torch.dtype:
        if self._dtype != "auto":
            return DTYPES[self._dtype]
        if self.device.type == "cpu" or spec.built_in:
            return torch.float32
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float16

    def resident(self) -> list[str]:
        return list(self._resident)

    def unload(self, *, keep: Collection[str] = ()) -> None:
        """Forget every resident model but those keys, and those ones' cached prompts; give the memory back."""
        for key in self.resident():
            if key in keep:
                self._resident[key].text.forget()
            else:
                del self._resident[key]
        free_memory(self.device)

    def _make_room(self, needed: int, in_use: Collection[str]) -> None:
        def lacking():
            return self._resident and needed + sum(m.nbytes for m in self._resident.values()) > self._budget

        idle = [key for key in self._resident if key not in in_use]
        leaving = []
        while idle and lacking():
            leaving.append(idle.pop(0))
            del self._resident[leaving[-1]]
        if leaving:
            log.info("Unloaded %s to make room", ", ".join(leaving))
            free_memory(self.device)
        if in_use and lacking():
            raise NoRoom

    def _load(self, spec, source) -> LoadedModel:
        dtype = self.dtype_for(spec)
        load = _load_file if source.path.is_file() else _load_folder
        parts = load(spec, source.path, dtype)
        modules = [parts["unet"], parts["vae"], *(encoder for _, encoder in parts["encoders"])]
        for module in modules:
            module.requires_grad_(False).eval().to(self.device)
        hashed = sources.weight_files(spec, source.path, "unet")
        return LoadedModel(
            spec=spec,
            source=source,
            unet=parts["unet"],
            vae=parts["vae"],
            text=PromptEncoder(parts["encoders"], self.device, dtype),
            scheduler_config=_scheduler_config(spec, parts["scheduler"]),
            colours=LatentColours.of(spec, source.path, parts["vae"].config.latent_channels),
            device=self.device,
            dtype=dtype,
            nbytes=sum(p.numel() * p.element_size() for module in modules for p in module.parameters()),
            digest=self._hasher.submit(sources.weights_hash, hashed),
        )


def _load_folder(spec, folder: Path, dtype) -> dict:
    def load(cls, part):
        stem = sources.WEIGHTED_PARTS[spec.family][part]
        _, variant = sources.choose_weights(os.listdir(folder / part), stem, spec.variant)
        return cls.from_pretrained(
            folder / part, variant=variant, dtype=dtype, use_safetensors=True, local_files_only=True
        )

    encoders = [(_tokenizer(folder / "tokenizer"), load(CLIPTextModel, "text_encoder"))]
    if spec.family == "sdxl":
        second = load(CLIPTextModelWithProjection, "text_encoder_2")
        encoders.append((_tokenizer(folder / "tokenizer_2"), second))
    return {
        "unet": load(UNet2DConditionModel, "unet"),
        "vae": load(AutoencoderKL, "vae"),
        "encoders": encoders,
        "scheduler": json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
    }


def _tokenizer(folder) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _load_file(spec, file: Path, dtype) -> dict:
    """A single checkpoint in the original layout (Civitai, A1111).

    Its configuration and tokenizer come from a folder of the same name beside it, else from the Hub's
    cache or the Hub, as diffusers decides from the tensors inside.
    """
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    beside = file.with_suffix("")
    pipeline_class = StableDiffusionXLPipeline if spec.family == "sdxl" else StableDiffusionPipeline
    options = {}
    if beside.is_dir():
        _refuse_foreign_classes(beside / "model_index.json")
        options = {"config": str(beside), "local_files_only": True}
    if spec.family == "sd":
        options["safety_checker"] = None
    pipeline = pipeline_class.from_single_file(str(file), torch_dtype=dtype, **options)
    encoders = [(pipeline.tokenizer, pipeline.text_encoder)]
    if spec.family == "sdxl":
        encoders.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
    return {"unet": pipeline.unet, "vae": pipeline.vae, "encoders": encoders,
            "scheduler": dict(pipeline.scheduler.config)}


def _refuse_foreign_classes(index: Path) -> None:
    """For single files alone diffusers follows the index; it may name its own and transformers' classes."""
    for part in json.loads(index.read_text()).values():
        if isinstance(part, list) and part[0] not in (None, "diffusers", "transformers", "stable_diffusion"):
            raise ValueError(f"{index} names a class of {part[0]!r}")


def _scheduler_config(spec, config: dict) -> dict:
    """The model's noise schedule, for any sampler, mended as StableDiffusionPipeline mends it."""
    if spec.family == "sd":
        config = config | {"steps_offset": 1, "clip_sample": False}
    return config


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _default_budget(device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * 0.6)
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.4)


def dtype_name(dtype: torch.dtype) -> str:
    return next(name for name, value in DTYPES.items() if value is dtype)


def is_out_of_memory(error: Exception) -> bool:
    """CUDA has its own exception; the CPU's and MPS's allocators raise a RuntimeError with these words."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
