"""Loading diffusers models (ModelManager): device, precision, memory budget, and which models stay resident.

Every part is loaded by its own class from its own folder. `model_index.json` is never followed: it may
name classes to import, and that has been a way to run foreign code (GHSA-98h9-4798-4q5v). Only
safetensors are read, no remote code, and no safety checker comes along with a model.
"""

import gc
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import psutil
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from generation.engine.catalog import model_files
from generation.engine.catalog.addons import Addons
from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import ModelUnavailable

from .components import load_component
from .controlnet import ControlNets
from .ip_adapter import IPAdapters
from .lora import LoraManager
from .precision import DTYPES, best_dtype, dtype_name, make_batch_invariant
from .prompt_encoder import PromptEncoder
from .vae import LatentColours

log = logging.getLogger(__name__)

# Their bars draw over a server's log; what takes long is reported by phase.
transformers.utils.logging.disable_progress_bar()
diffusers.utils.logging.disable_progress_bar()


class NoRoom(Exception):
    """The models in use leave too little of the memory budget; there may be room when they are not."""


# transformers creates weights under a default device and patched initialisers of the whole process.
_ONE_AT_A_TIME = threading.Lock()

DEFAULT_IDLE_SECONDS = 900.0
"""After how long an unused model leaves a GPU."""


@dataclass(eq=False)
class LoadedModel:
    """One model on the device, ready to draw."""

    spec: ModelSpec
    source: model_files.Source
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: PromptEncoder
    loras: LoraManager
    controlnets: ControlNets
    ip_adapters: IPAdapters
    addons: Addons
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

    @property
    def parts(self) -> list[torch.nn.Module]:
        return [self.unet, self.vae, *self.text.encoders]

    def forget(self) -> None:
        """Drop what can be computed or read again."""
        self.text.forget()
        self.loras.forget()
        self.ip_adapters.forget()

    def move(self, device: torch.device) -> None:
        """To the host's memory, or back. Nothing may be drawn with it meanwhile."""
        self.forget()
        _move(self.parts, device, pinned=self.device.type == "cuda" and device.type == "cpu")

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
    for the built-in model, else what the device is best at (see `precision`).
    models_dir: a folder that may hold `<key>/` and add-ons, looked at before the Hub. cache_dir: the Hub
    client's cache. memory_budget: bytes that resident weights may take; by default 60 % of the GPU's memory or
    40 % of the machine's. The least recently used models leave first, and those unused for `idle_unload`
    seconds (None: 900 on a GPU, never on a CPU; 0: never). They are kept in the host's memory, from where they
    come back quickly, as long as they take no more than `host_memory` bytes there (None: half of what is free
    for a GPU, none for a CPU, whose models are there anyway). compile: let torch.compile translate UNets;
    they then draw faster after minutes of translation. A string names its backend.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        dtype: str = "auto",
        models_dir: str | Path | None = None,
        cache_dir: str | Path | None = None,
        allow_download: bool = True,
        hf_token: str | None = None,
        memory_budget: int | None = None,
        idle_unload: float | None = None,
        host_memory: int | None = None,
        compile: bool | str = False,
    ):
        if dtype != "auto" and dtype not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, not {dtype!r}")
        self.device = torch.device(_best_device() if device == "auto" else device)
        self._dtype = dtype
        self.models_dir = models_dir
        self.addons = Addons(models_dir)
        self._paths = {"models_dir": models_dir, "cache_dir": cache_dir}
        self._download = {"allow_download": allow_download, "hf_token": hf_token}
        self._budget = memory_budget or _default_budget(self.device)
        self._resident: OrderedDict[str, LoadedModel] = OrderedDict()
        on_cpu = self.device.type == "cpu"
        self._idle_unload = (0.0 if on_cpu else DEFAULT_IDLE_SECONDS) if idle_unload is None else idle_unload
        self._host_memory = (0 if on_cpu else _free_memory() // 2) if host_memory is None else host_memory
        self._compile = compile
        self._parked: OrderedDict[str, LoadedModel] = OrderedDict()
        """Models in the host's memory."""
        self._used: dict[str, float] = {}
        """When each resident model was last in use, by the monotonic clock."""
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="weights-hash")
        self._controlnets = ControlNets(self.addons, self.device, self._hasher, self._budget // 4)

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
        self._used[spec.key] = time.monotonic()
        if model := self._resident.get(spec.key):
            self._resident.move_to_end(spec.key)
            return model
        if spec.key in self._parked:
            on_phase("loading", None)
            return self._bring_back(spec.key, in_use)
        source = model_files.fetch(
            spec, **self._paths, **self._download, on_fraction=lambda fraction: on_phase("downloading", fraction)
        )
        on_phase("loading", None)
        files = model_files.weight_files(spec, source)
        itemsize = 1 if spec.int8 else self.dtype_for(spec).itemsize
        needed = sum(map(model_files.check_safetensors, files)) * itemsize
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
        log.info(
            "Loaded %s from %s: %d MB, %s on %s",
            spec.key,
            source.name,
            model.nbytes // 10**6,
            dtype_name(model.dtype),
            self.device,
        )
        return model

    def preload(
        self, spec: ModelSpec, on_phase: Callable[[str, float | None], None] = lambda phase, fraction: None
    ) -> model_files.Source:
        """Make the model ready and prove that it loads. Returns the source used; raises ModelUnavailable."""
        return self.get(spec, on_phase).source

    def dtype_for(self, spec: ModelSpec) -> torch.dtype:
        if self._dtype != "auto":
            return DTYPES[self._dtype]
        return torch.float32 if spec.built_in else best_dtype(self.device)

    def resident(self) -> list[str]:
        return list(self._resident)

    def unload(self, *, keep: Collection[str] = ()) -> None:
        """Take every resident model but those keys off the device, and what those ones have cached; give the
        memory back."""
        for key in self.resident():
            if key in keep:
                self._resident[key].forget()
            else:
                self._retire(key)
        self._controlnets.forget()
        free_memory(self.device)

    def unload_idle(self, in_use: Collection[str] = ()) -> None:
        """Take off the device what has not been in use for long. Cheap to call often."""
        now = time.monotonic()
        self._used.update(dict.fromkeys(in_use, now))
        leaving = [key for key in self.resident() if self._idle_for(key, now) >= self._idle_unload > 0]
        for key in leaving:
            self._retire(key)
        if leaving:
            log.info("Unloaded %s, unused for %.0f s", ", ".join(leaving), self._idle_unload)
            if not self._resident:
                self._controlnets.forget()
            if not in_use:  # what is in flight need not wait for that
                free_memory(self.device)

    def next_idle(self) -> float | None:
        """Seconds until `unload_idle` may have something to do if nothing is used; None: never."""
        if not self._idle_unload or not self._resident:
            return None
        now = time.monotonic()
        return max(0.0, self._idle_unload - max(self._idle_for(key, now) for key in self._resident))

    def close(self) -> None:
        """Forget everything."""
        self._resident.clear()
        self._parked.clear()
        self._controlnets.forget()
        free_memory(self.device)

    def _idle_for(self, key, now) -> float:
        return now - self._used.get(key, now)

    def _retire(self, key: str) -> None:
        """From the device to the host's memory, if there is room for it, else away."""
        model = self._resident.pop(key)
        if model.nbytes > self._host_memory or not hasattr(model, "move"):
            return
        while sum(parked.nbytes for parked in self._parked.values()) + model.nbytes > self._host_memory:
            self._parked.popitem(last=False)
        model.move(torch.device("cpu"))
        self._parked[key] = model

    def _bring_back(self, key: str, in_use: Collection[str]) -> "LoadedModel":
        model = self._parked[key]
        self._make_room(model.nbytes, in_use)
        model = self._parked.pop(key)
        try:
            model.move(self.device)
        except Exception:
            model.move(torch.device("cpu"))  # memory ran out half-way
            self._parked[key] = model
            raise
        self._resident[key] = model
        log.info("Brought %s back from the host's memory", key)
        return model

    def _make_room(self, needed: int, in_use: Collection[str]) -> None:
        def is_short():
            taken = self._controlnets.nbytes + sum(model.nbytes for model in self._resident.values())
            return taken and needed + taken > self._budget

        idle = [key for key in self._resident if key not in in_use]
        leaving = []
        while idle and is_short():
            leaving.append(idle.pop(0))
            self._retire(leaving[-1])
        if leaving:
            log.info("Unloaded %s to make room", ", ".join(leaving))
        if is_short():
            self._controlnets.forget()
        if in_use and is_short():
            raise NoRoom
        if leaving and _may_lack(self.device, needed):
            free_memory(self.device)

    def _load(self, spec: ModelSpec, source: model_files.Source):
        """A LoadedModel, or a `pipelines.LoadedPipeline` for the families that the step loop does not draw."""
        dtype = self.dtype_for(spec)
        hashed = model_files.weight_files(spec, source, model_files.main_part(spec))
        if not FAMILIES[spec.family].step_loop:
            from .pipelines import load_pipeline  # a heavy import that most workers never need

            digest = self._hasher.submit(model_files.weights_hash, hashed)
            return load_pipeline(spec, source, dtype, self.device, digest, self.addons)
        load = _load_file if source.path.is_file() else _load_folder
        parts = load(spec, source, dtype)
        modules = [parts["unet"], parts["vae"], *(encoder for _, encoder in parts["encoders"])]
        for module in modules:
            module.requires_grad_(False).eval().to(memory_format=torch.channels_last).to(self.device)
        if self.device.type == "cpu" and dtype == torch.float32:
            make_batch_invariant(parts["unet"])
        if self._compile:
            parts["unet"].compile(**({"backend": self._compile} if isinstance(self._compile, str) else {}))
        return LoadedModel(
            spec=spec,
            source=source,
            unet=parts["unet"],
            vae=parts["vae"],
            text=PromptEncoder(parts["encoders"], self.device, dtype, zero_empty=parts["zero_empty"]),
            loras=LoraManager(self.addons, spec, parts["unet"], [encoder for _, encoder in parts["encoders"]]),
            controlnets=self._controlnets,
            ip_adapters=IPAdapters(self.addons, spec, parts["unet"], self._hasher),
            addons=self.addons,
            scheduler_config=_scheduler_config(spec, parts["scheduler"]),
            colours=LatentColours.of(spec, source.path, parts["vae"].config.latent_channels),
            device=self.device,
            dtype=dtype,
            nbytes=sum(p.numel() * p.element_size() for module in modules for p in module.parameters()),
            digest=self._hasher.submit(model_files.weights_hash, hashed),
        )


def _load_folder(spec: ModelSpec, source: model_files.Source, dtype: torch.dtype) -> dict:
    family, folder = FAMILIES[spec.family], source.path
    parts = {part.name: part for part in family.parts}
    encoders = [
        (
            _tokenizer(folder / part.name.replace("text_encoder", "tokenizer")),
            load_component(part, folder, spec.variant, dtype),
        )
        for part in family.text_encoders
    ]
    if source.unet:
        unet = _unet_from_file(folder, source.unet, dtype)
    else:
        unet = load_component(family.denoiser, folder, spec.variant, dtype)
    return {
        "unet": unet,
        "vae": load_component(parts["vae"], folder, spec.variant, dtype),
        "encoders": encoders,
        "scheduler": json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
        "zero_empty": family.zero_empty_negative and _zeroes_empty(folder / "model_index.json"),
    }


def _zeroes_empty(index: Path) -> bool:
    """Whether SDXL's pipeline takes an empty negative prompt for zeros; diffusers' default is that it does."""
    config = json.loads(index.read_text()) if index.is_file() else {}
    return bool(config.get("force_zeros_for_empty_prompt", True))


def _unet_from_file(folder: Path, file: Path, dtype) -> UNet2DConditionModel:
    """A UNet from a file of its own (SDXL-Lightning's), shaped as the one in the folder."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
    unet.load_state_dict({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, assign=True)
    return unet


def _tokenizer(folder) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _load_file(spec: ModelSpec, source: model_files.Source, dtype: torch.dtype) -> dict:
    """A single checkpoint in the original layout (Civitai, A1111).

    Its configuration and tokenizer come from a folder of the same name beside it, else from the Hub's
    cache or the Hub, as diffusers decides from the tensors inside.
    """
    family, file = FAMILIES[spec.family], source.path
    config_folder = file.with_suffix("")
    options = {}
    if config_folder.is_dir():
        _refuse_foreign_classes(config_folder / "model_index.json")
        options = {"config": str(config_folder), "local_files_only": True}
    pipeline_class = getattr(diffusers, family.pipeline)
    pipeline = pipeline_class.from_single_file(str(file), torch_dtype=dtype, **options, **family.single_file_options)
    components = pipeline.components
    return {
        "unet": pipeline.unet,
        "vae": pipeline.vae,
        "encoders": [(components[part.tokenizer], components[part.name]) for part in family.text_encoders],
        "scheduler": dict(pipeline.scheduler.config),
        "zero_empty": bool(pipeline.config.get("force_zeros_for_empty_prompt", False)),
    }


def _refuse_foreign_classes(index: Path) -> None:
    """For single files alone diffusers follows the index; it may name its own and transformers' classes."""
    for part in json.loads(index.read_text()).values():
        if isinstance(part, list) and part[0] not in (None, "diffusers", "transformers", "stable_diffusion"):
            raise ValueError(f"{index} names a class of {part[0]!r}")


def _scheduler_config(spec, config: dict) -> dict:
    """The model's noise schedule, for any sampler, mended as diffusers' pipeline mends it."""
    config = config | FAMILIES[spec.family].scheduler_overrides
    return config | ({"timestep_spacing": spec.timestep_spacing} if spec.timestep_spacing else {})


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _default_budget(device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * 0.6)
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.4)


def is_out_of_memory(error: Exception) -> bool:
    """CUDA has its own exception; the CPU's and MPS's allocators raise a RuntimeError with these words."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _move(modules, device: torch.device, *, pinned: bool) -> None:
    for module in modules:
        module.to(device)
        if pinned:  # from there the way back is several times as quick
            for part in (*module.parameters(), *module.buffers()):
                part.data = part.data.pin_memory()


def _free_memory() -> int:
    """Bytes of this machine that nobody uses."""
    return psutil.virtual_memory().available


def _may_lack(device: torch.device, needed: int) -> bool:
    """Whether so many bytes of weights, and some for drawing, may not be had without collecting what is lost.

    Models leave no cycles behind, so that seldom finds much; and the search takes a second or more, in which nobody
    is drawn.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "cpu":
        free = _free_memory()
    else:
        return True
    return free < 2 * needed


def free_memory(device: torch.device) -> None:
    """Give back what is lost and what is kept for later. Takes a second or more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
