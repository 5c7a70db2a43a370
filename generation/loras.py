"""LoRAs that words bring along: `<lora:key:0.8>` in a prompt, and the keyword rules that staff made."""

import re

from .models import LoraRule

WORD = re.compile(r"\w+")
TAG = re.compile(r"<lora:([^:<>]{1,120})(?::(-?\d{1,2}(?:\.\d{1,4})?))?>")


def take_loras(prompt: str) -> tuple[str, list[dict]]:
    """The prompt without its LoRA tags, and what they ask for.

    `take_loras("a cat <lora:ink:0.5>") == ("a cat", [{"key": "ink", "weight": 0.5}])`
    """
    found = [{"key": key.strip(), "weight": float(weight or 1)} for key, weight in TAG.findall(prompt)]
    return re.sub(r"[ \t]{2,}", " ", TAG.sub("", prompt)).strip() if found else prompt, found


def matched_rules(prompt: str) -> list[dict]:
    """The LoRAs whose keyword stands in the prompt as whole words."""
    words = _words(prompt)
    rules = LoraRule.objects.filter(enabled=True)
    return [{"key": rule.lora, "weight": rule.weight} for rule in rules if _words(rule.keyword) in words]


def _words(text: str) -> str:
    """The words alone, each with a space on both sides."""
    return f" {' '.join(WORD.findall(text.casefold()))} "
