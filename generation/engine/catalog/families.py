"""Model families (Stable Diffusion, SDXL, SD3, FLUX, Qwen-Image): what all models of one architecture have in common.

Data only, without torch: class names are looked up in diffusers and transformers by the code that loads models.
To add a family, add one record to FAMILIES. If diffusers' pipelines for it take other arguments than those
known to `networks.pipelines`, add these there.
"""

from dataclasses import dataclass, field

MODES = ("txt2img", "img2img", "inpaint", "outpaint")
FEATURES = ("hires", "variation", "loras", "control", "reference", "tiling", "clip_skip", "quality", "guidance_rescale")
"""What a model may offer beside its modes; fields of ImageRequest. `quality`: tiers other than `exact`."""

DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
"""What weight files are called by the library that wrote them, before `.fp16` and `.safetensors`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a diffusers pipeline: its subfolder, its class there, and the stem of its weight files."""

    name: str
    class_name: str
    stem: str = ""
    """"" for a part without weights (tokenizer, scheduler)."""
    optional: bool = False
    """Whether the pipeline draws without it, and copies of a model may lack it."""

    @property
    def tokenizer(self) -> str:
        """The subfolder of a text encoder's tokenizer."""
        return self.name.replace("text_encoder", "tokenizer")


@dataclass(frozen=True, slots=True)
class UNetVariant:
    """Models of one family that differ in the text they attend to, as Stable Diffusion 1.x and 2.x do."""

    key: str
    text_width: int
    """`cross_attention_dim` of the UNet."""
    native_side: int
    """Side in pixels of the square pictures it was trained on."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One architecture. Models of a family differ in their weights only."""

    key: str
    title: str
    base_model: str
    """Key of the catalogue's model whose bounds and defaults a local model of this family has."""
    parts: tuple[Part, ...]
    """The first is the denoiser, whose hash names the model."""
    pipeline: str
    """diffusers' class for text to image."""
    img2img_pipeline: str = ""
    inpaint_pipeline: str = ""
    step_loop: bool = True
    """Whether its denoiser is a UNet that the step loop batches; otherwise diffusers' pipelines draw."""

    # What its models offer, unless their own spec says otherwise
    modes: tuple[str, ...] = MODES
    features: tuple[str, ...] = FEATURES
    samplers: tuple[str, ...] | None = None
    """None: all."""
    size_multiple: int = 8
    min_side: int = 64

    # Prompts and guidance
    guidance: str = "cfg"
    """`cfg`: an unconditional half (Ho & Salimans 2022). `embedded`: a number that a distilled transformer reads.
    `true_cfg`: an unconditional half that diffusers' pipeline takes as `true_cfg_scale`."""
    prompt_understands: tuple[str, ...] = ("negative_prompt",)
    """Of `negative_prompt`, `emphasis` (A1111's brackets) and `long_prompt` (more than one window of tokens)."""
    zero_empty_negative: bool = False
    """Whether `force_zeros_for_empty_prompt` in the model's index decides what an empty negative prompt is."""
    size_conditioning: bool = False
    """Whether the UNet is told original size, crop and target size (Podell et al. 2023, section 2.2)."""

    # Text encoders and LoRAs
    variants: tuple[UNetVariant, ...] = ()
    lora_encoders: tuple[str, ...] = ()
    """Text encoders that a LoRA may change."""
    lora_layers: str = ""
    """A regular expression that matches only names of layers of this family, for transformers."""
    lora_translated: bool = False
    """Whether the pipeline's `lora_state_dict` translates the names that other tools give to layers."""

    # Latents
    vae_scale: int = 8
    """Pixels per latent, along one side."""
    latent_rgb: tuple[tuple[float, float, float], ...] = ()
    """For previews: RGB in -1…1 of one scaled latent, a row for each channel; () where no such fit is known."""
    latent_rgb_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unshifted_inpainting: bool = False
    """Whether diffusers' inpainting forgets to shift the latents back before it decodes them (0.42)."""

    # Loading
    scheduler_overrides: dict = field(default_factory=dict)
    """Scheduler settings that diffusers' pipeline mends when it is made."""
    single_file_options: dict = field(default_factory=dict)
    """Further arguments of `from_single_file`."""

    @property
    def denoiser(self) -> Part:
        """The UNet or the transformer."""
        return self.parts[0]

    @property
    def weight_stems(self) -> dict[str, str]:
        """The parts that have weights, with the stem of their files."""
        return {part.name: part.stem for part in self.parts if part.stem}

    @property
    def plain_parts(self) -> tuple[str, ...]:
        """The parts without weights."""
        return tuple(part.name for part in self.parts if not part.stem)

    @property
    def optional_parts(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts if part.optional)

    @property
    def text_encoders(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.name.startswith("text_encoder"))

    @property
    def spec_defaults(self) -> dict:
        """Fields of ModelSpec that are the same for all of the family, unless a model has others."""
        defaults = {"modes": self.modes, "features": self.features}
        defaults |= {"size_multiple": self.size_multiple, "min_side": self.min_side}
        return defaults | ({"samplers": self.samplers} if self.samplers else {})


def _part(name: str, class_name: str, optional: bool = False) -> Part:
    stem = TRANSFORMERS_STEM if name.startswith("text_encoder") else DIFFUSERS_STEM
    return Part(name, class_name, stem, optional)


def _tokenizer(number: str, class_name: str = "CLIPTokenizer", optional: bool = False) -> Part:
    return Part(f"tokenizer{number}", class_name, optional=optional)


_SCHEDULER = Part("scheduler", "")
"""Only its configuration is read."""
_FLOW_SCHEDULER = Part("scheduler", "FlowMatchEulerDiscreteScheduler")
_FLOW_OFFERS = {
    "step_loop": False,
    "features": ("loras",),
    "samplers": ("Euler",),
    "size_multiple": 16,
    "min_side": 256,
}
"""What the families offer that match flows and run through diffusers' own pipelines."""

# SD 1.x and 2.x: the fit posted by keturn, discuss.huggingface.co, "Decoding latents to RGB without upscaling". SDXL:
# T. A. Vass, "Explaining the SDXL latent space", huggingface.co/blog, given there for 0…255 and rescaled here.
_SD_RGB = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))
_SDXL_RGB_255 = ((60, 60, 60), (-60, -5, 10), (25, 15, -5), (-70, -50, -35))
_SDXL_BIAS_255 = (150, 140, 130)

FAMILIES = {
    family.key: family
    for family in (
        Family(
            key="sd",
            title="Stable Diffusion 1.x and 2.x",
            base_model="stable-diffusion-v1-5",
            parts=(
                _part("unet", "UNet2DConditionModel"),
                _part("vae", "AutoencoderKL"),
                _part("text_encoder", "CLIPTextModel"),
                _tokenizer(""),
                _SCHEDULER,
            ),
            pipeline="StableDiffusionPipeline",
            prompt_understands=("negative_prompt", "emphasis", "long_prompt"),
            variants=(UNetVariant("sd", 768, 512), UNetVariant("sd2", 1024, 768)),
            lora_encoders=("text_encoder",),
            latent_rgb=_SD_RGB,
            scheduler_overrides={"steps_offset": 1, "clip_sample": False},
            single_file_options={"safety_checker": None},
        ),
        Family(
            key="sdxl",
            title="Stable Diffusion XL",
            base_model="sdxl-base",
            parts=(
                _part("unet", "UNet2DConditionModel"),
                _part("vae", "AutoencoderKL"),
                _part("text_encoder", "CLIPTextModel"),
                _part("text_encoder_2", "CLIPTextModelWithProjection"),
                _tokenizer(""),
                _tokenizer("_2"),
                _SCHEDULER,
            ),
            pipeline="StableDiffusionXLPipeline",
            prompt_understands=("negative_prompt", "emphasis", "long_prompt"),
            zero_empty_negative=True,
            size_conditioning=True,
            variants=(UNetVariant("sdxl", 2048, 1024),),
            lora_encoders=("text_encoder", "text_encoder_2"),
            latent_rgb=tuple((red / 127.5, green / 127.5, blue / 127.5) for red, green, blue in _SDXL_RGB_255),
            latent_rgb_bias=(
                _SDXL_BIAS_255[0] / 127.5 - 1,
                _SDXL_BIAS_255[1] / 127.5 - 1,
                _SDXL_BIAS_255[2] / 127.5 - 1,
            ),
        ),
        Family(
            key="sd3",
            title="Stable Diffusion 3",
            base_model="stable-diffusion-3.5-medium",
            parts=(
                _part("transformer", "SD3Transformer2DModel"),
                _part("vae", "AutoencoderKL"),
                _part("text_encoder", "CLIPTextModelWithProjection"),
                _part("text_encoder_2", "CLIPTextModelWithProjection"),
                # It draws without its largest text encoder, and many copies leave those 10 GB out.
                _part("text_encoder_3", "T5EncoderModel", optional=True),
                _tokenizer(""),
                _tokenizer("_2"),
                _tokenizer("_3", "T5TokenizerFast", optional=True),
                _FLOW_SCHEDULER,
            ),
            pipeline="StableDiffusion3Pipeline",
            img2img_pipeline="StableDiffusion3Img2ImgPipeline",
            inpaint_pipeline="StableDiffusion3InpaintPipeline",
            lora_encoders=("text_encoder", "text_encoder_2"),
            lora_layers=r"joint_blocks[._]\d",
            unshifted_inpainting=True,
            **_FLOW_OFFERS,
        ),
        Family(
            key="flux",
            title="FLUX.1",
            base_model="flux-schnell",
            parts=(
                _part("transformer", "FluxTransformer2DModel"),
                _part("vae", "AutoencoderKL"),
                _part("text_encoder", "CLIPTextModel"),
                _part("text_encoder_2", "T5EncoderModel"),
                _tokenizer(""),
                _tokenizer("_2", "T5TokenizerFast"),
                _FLOW_SCHEDULER,
            ),
            pipeline="FluxPipeline",
            img2img_pipeline="FluxImg2ImgPipeline",
            inpaint_pipeline="FluxInpaintPipeline",
            guidance="embedded",
            prompt_understands=(),
            lora_encoders=("text_encoder",),
            lora_layers=r"(single_transformer|single|double)_blocks[._]\d",
            lora_translated=True,
            **_FLOW_OFFERS,
        ),
        Family(
            key="qwen-image",
            title="Qwen-Image",
            base_model="qwen-image",
            parts=(
                _part("transformer", "QwenImageTransformer2DModel"),
                _part("vae", "AutoencoderKLQwenImage"),
                _part("text_encoder", "Qwen2_5_VLForConditionalGeneration"),
                _tokenizer("", "Qwen2Tokenizer"),
                _FLOW_SCHEDULER,
            ),
            pipeline="QwenImagePipeline",
            img2img_pipeline="QwenImageImg2ImgPipeline",
            inpaint_pipeline="QwenImageInpaintPipeline",
            guidance="true_cfg",
            lora_layers=r"transformer_blocks[._]\d+[._](img|txt)_(mlp|mod)",
            lora_translated=True,
            **_FLOW_OFFERS,
        ),
    )
}

UNET_VARIANTS = {variant.key: variant for family in FAMILIES.values() for variant in family.variants}


def denoiser_family(class_name: str | None) -> Family | None:
    """The family whose transformer has that class in its `config.json`; None for a UNet, which many share."""
    return next((f for f in FAMILIES.values() if not f.step_loop and f.denoiser.class_name == class_name), None)
