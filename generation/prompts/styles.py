"""Style presets: what each joins to the prompt and to the negative prompt."""

from dataclasses import dataclass

from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ImageRequest


@dataclass(frozen=True, slots=True)
class Style:
    """A preset. `prompt` is joined to the prompt, `negative` to the negative prompt."""

    key: str
    title: str
    prompt: str
    negative: str

    def compose(self, prompt: str, negative_prompt: str) -> tuple[str, str]:
        """Prompt and negative prompt with this style's words behind the user's own."""
        return _join(prompt, self.prompt), _join(negative_prompt, self.negative)


def _join(*parts: str) -> str:
    return ", ".join(part.strip().rstrip(",") for part in parts if part.strip())


STYLES = {
    style.key: style
    for style in (
        Style(
            "standard", "Standard", "professional, balanced composition, fine detail", "blurry, low quality, distorted"
        ),
        Style("anime", "Anime", "anime style, vivid colours, detailed shading", "photograph, dull colours, blurry"),
        Style("line-art", "Line art", "line art, clean lines, minimal, vector", "colour, shading, texture, photograph"),
        Style(
            "flat-logo", "Flat logo", "flat logo, flat design, bold shapes", "gradient, texture, photograph, clutter"
        ),
        Style(
            "watercolour",
            "Watercolour",
            "watercolour, soft blending, visible brush strokes",
            "hard edges, photograph, 3d render",
        ),
        Style("abstract", "Abstract", "abstract, geometric shapes", "realistic, photograph, figure"),
        Style("minimalist", "Minimalist", "minimalist, simple, much negative space", "clutter, busy, ornate"),
        Style("vintage", "Vintage", "vintage, retro, aged texture, faded colours", "modern, neon, glossy"),
        Style("grunge", "Grunge", "grunge, distressed texture, urban, gritty", "clean, polished, pastel"),
    )
}


def composed_prompts(request: ImageRequest, style: Style | None, spec: ModelSpec) -> tuple[str, str]:
    """Prompt and negative prompt of an ImageRequest as they are drawn: with the style's words, and with what the
    model's own prompts begin with."""
    prompt, negative = request.prompt, request.negative_prompt
    if style:
        prompt, negative = style.compose(prompt, negative)
    return f"{spec.prompt_prefix} {prompt}" if spec.prompt_prefix else prompt, negative


def find_style(key: str) -> Style | None:
    """The style of that key, or None for none. Raises InvalidRequest when there is no such style."""
    if not key or key == "none":
        return None
    name = key.strip().casefold().replace(" ", "-").replace("_", "-") if isinstance(key, str) else ""
    if name not in STYLES:
        raise InvalidRequest(f"There is no such style. There are: {', '.join(STYLES)}.", "style")
    return STYLES[name]
