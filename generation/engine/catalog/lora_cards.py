"""What people want to know of an installed LoRA: its trigger words, usual weight and preview picture. No torch.

Beside `<key>.safetensors` may lie what the web UI (`<key>.json`) and its Civitai helper (`<key>.civitai.info`) write
down, and a picture (`<key>.preview.png`, `<key>.png` …). Files may come and go while the site runs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .addons import AddOn, read_metadata

PREVIEW_SUFFIXES = (".preview.png", ".preview.jpg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")
MAX_NOTE_BYTES = 200_000
MAX_TRIGGER_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class LoraCard:
    """`trigger`: words that bring it out, as they would stand in a prompt, or "". `weight`: the one that its author
    recommends, or 1."""

    key: str
    title: str
    trigger: str
    weight: float
    preview: Path | None


def lora_card(addon: AddOn) -> LoraCard:
    """What is known of this LoRA; files that cannot be read count as none."""
    note = _note(addon.path.with_suffix(".json"))
    civitai = _note(addon.path.with_suffix(".civitai.info"))
    trained = civitai.get("trainedWords")
    triggers = [
        note.get("activation text"),
        ", ".join(map(str, trained[:3])) if isinstance(trained, list) else None,
        read_metadata(addon).get("modelspec.trigger_phrase"),
    ]
    trigger = next((text.strip() for text in triggers if isinstance(text, str) and text.strip()), "")
    return LoraCard(
        addon.key,
        addon.title,
        trigger[:MAX_TRIGGER_CHARACTERS].strip(" ,"),
        _weight(note.get("preferred weight")),
        preview_of(addon),
    )


def preview_of(addon: AddOn) -> Path | None:
    """The picture that lies beside the LoRA."""
    candidates = (addon.path.with_name(addon.path.stem + suffix) for suffix in PREVIEW_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _weight(value: Any) -> float:
    """The preferred weight as the web UI writes it, where 0 stands for none."""
    try:
        weight = float(value or 1)
    except (TypeError, ValueError):
        return 1.0
    return weight if -4 <= weight <= 4 and weight else 1.0


def _note(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_NOTE_BYTES:
            return {}
        note = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}
