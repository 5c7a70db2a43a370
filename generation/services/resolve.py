"""From keyword arguments to the ImageRequest that is drawn: LoRA tags, defaults, add-ons, prompt rules, style.

The one pipeline of the service, of `manage.py generate` and of the page's estimate.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from generation.catalog import addons, model_named, upscalers
from generation.engine.catalog.models import ModelSpec
from generation.engine.request.complete import complete_request
from generation.engine.request.fields import ImageRequest
from generation.engine.request.request import build_request
from generation.prompts import moderation
from generation.prompts.lora_keywords import all_loras
from generation.prompts.styles import Style, composed_prompts, find_style

Rules = Callable[[str, ModelSpec], list[dict[str, Any]]]
"""Which LoRAs the words of a prompt bring along."""


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """A request with everything decided.

    `request`: with the prompts of its author; `composed`: as the engine gets it, with the words of style and model.
    """

    spec: ModelSpec
    style: Style | None
    request: ImageRequest
    composed: ImageRequest


def resolve_request(
    *, model: str | None = None, style: str = "", loras: Any = None, rules: Rules | None = None, **keywords: Any
) -> ResolvedRequest:
    """Check `keywords` (of `build_request`) for the model and this installation, and complete them.

    `rules`: what words bring along, by default those of the staff. Raises InvalidRequest or PromptRejected.
    """
    spec, chosen_style = model_named(model), find_style(style)
    keywords["prompt"], loras = all_loras(keywords.get("prompt", ""), loras, spec, rules)
    request = build_request(spec, loras=loras, upscalers=upscalers(), **keywords)
    request = complete_request(request, spec, addons())
    moderation.check_prompt(request.prompt, param="prompt")
    moderation.check_prompt(request.negative_prompt, param="negative_prompt")
    moderation.check_left_out(request.prompt, request.negative_prompt)
    prompt, negative_prompt = composed_prompts(request, chosen_style, spec)
    composed = replace(request, prompt=prompt, negative_prompt=negative_prompt)
    return ResolvedRequest(spec, chosen_style, request, composed)
