"""LoRAs chosen by the prompt: tags such as `<lora:key:0.8>`, and the keyword rules that staff made."""

import re
from collections.abc import Callable

from django.conf import settings

from generation.catalog import addons
from generation.engine.catalog.addons import text_width
from generation.engine.catalog.models import ModelSpec
from generation.models import LoraRule

WORD = re.compile(r"\w+")
TAG = re.compile(r"<lora:([^:<>]{1,120})(?::(-?(?:\d{1,2}(?:\.\d{1,4})?|\.\d{1,4})))?>")


def all_loras(
    prompt: str, loras: list | None, spec: ModelSpec, rules: Callable[[str, ModelSpec], list[dict]] | None = None
) -> tuple[str, list | None]:
    """The prompt without LoRA tags, and all LoRAs: `loras` first, whose weight counts where a key comes twice.

    `rules`: which LoRAs a prompt brings along by keyword, by default `matched_rules`. Values that are no text and no
    list are handed back as they are, for `build_request` to refuse.
    """
    if not isinstance(prompt, str):
        return prompt, loras
    plain, tagged = take_loras(prompt)
    if loras is not None and not isinstance(loras, list):
        return plain, loras
    chosen = list(loras or ())
    for additions in (tagged, (rules or matched_rules)(plain, spec)):
        # A list, because `loras` is checked later and may hold anything.
        keys = [lora.get("key") if isinstance(lora, dict) else lora for lora in chosen]
        chosen += [lora for lora in additions if lora["key"] not in keys]
    return plain, chosen


def take_loras(prompt: str) -> tuple[str, list[dict]]:
    """The prompt without its LoRA tags, and the LoRAs that they name.

    `take_loras("a cat <lora:ink:0.5>") == ("a cat", [{"key": "ink", "weight": 0.5}])`
    """
    loras = [{"key": key.strip(), "weight": float(weight or 1)} for key, weight in TAG.findall(prompt)]
    return re.sub(r"[ \t]{2,}", " ", TAG.sub("", prompt)).strip() if loras else prompt, loras


def matched_rules(prompt: str, spec: ModelSpec) -> list[dict]:
    """The LoRAs whose keyword stands in the prompt as whole words.

    Only those that are installed and made for this model: nobody asked for them, so they refuse nobody.
    """
    padded_prompt = _padded_words(prompt)
    matches = [rule for rule in LoraRule.objects.filter(enabled=True) if _padded_words(rule.keyword) in padded_prompt]
    if not matches or "loras" not in spec.features:
        return []
    installed, width = addons().loras, text_width(spec, settings.MODELS_DIR)
    return [
        {"key": rule.lora, "weight": rule.weight}
        for rule in matches
        if rule.lora in installed and installed[rule.lora].fits(width)
    ]


def _padded_words(text: str) -> str:
    """The words alone, each with a space on both sides."""
    return f" {' '.join(WORD.findall(text.casefold()))} "
