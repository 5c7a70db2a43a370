"""LoRAs that words bring along: `<lora:key:0.8>` in a prompt, and the keyword rules that staff made."""

import re

from django.conf import settings

from generation.catalog import addons
from generation.engine.catalog.addons import text_width
from generation.engine.catalog.models import ModelSpec
from generation.models import LoraRule

WORD = re.compile(r"\w+")
TAG = re.compile(r"<lora:([^:<>]{1,120})(?::(-?(?:\d{1,2}(?:\.\d{1,4})?|\.\d{1,4})))?>")


def all_loras(prompt: str, asked: list | None, spec: ModelSpec, rules=None) -> tuple[str, list | None]:
    """The prompt without LoRA tags, and all LoRAs. One that is asked for outright counts as asked.

    `rules`: what words bring along, by default `matched_rules`.
    """
    if not isinstance(prompt, str):
        return prompt, asked  # which `build_request` refuses
    words, tagged = take_loras(prompt)
    if asked is not None and not isinstance(asked, list):
        return words, asked  # the same
    loras = list(asked or ())
    for more in (tagged, (rules or matched_rules)(words, spec)):
        # A list, because what was asked for is checked later and may be anything.
        named = [each.get("key") if isinstance(each, dict) else each for each in loras]
        loras += [lora for lora in more if lora["key"] not in named]
    return words, loras


def take_loras(prompt: str) -> tuple[str, list[dict]]:
    """The prompt without its LoRA tags, and what they ask for.

    `take_loras("a cat <lora:ink:0.5>") == ("a cat", [{"key": "ink", "weight": 0.5}])`
    """
    found = [{"key": key.strip(), "weight": float(weight or 1)} for key, weight in TAG.findall(prompt)]
    return re.sub(r"[ \t]{2,}", " ", TAG.sub("", prompt)).strip() if found else prompt, found


def matched_rules(prompt: str, spec: ModelSpec) -> list[dict]:
    """The LoRAs whose keyword stands in the prompt as whole words.

    Only those that are installed and made for this model: nobody asked for them, so they refuse nobody.
    """
    words = _words(prompt)
    matching = [rule for rule in LoraRule.objects.filter(enabled=True) if _words(rule.keyword) in words]
    if not matching or "loras" not in spec.features:
        return []
    installed, width = addons().loras, text_width(spec, settings.MODELS_DIR)
    return [
        {"key": rule.lora, "weight": rule.weight}
        for rule in matching
        if rule.lora in installed and installed[rule.lora].fits(width)
    ]


def _words(text: str) -> str:
    """The words alone, each with a space on both sides."""
    return f" {' '.join(WORD.findall(text.casefold()))} "
