"""A sheet of what the model draws, for the documentation and for whoever trains it."""

from dataclasses import replace
from pathlib import Path

from generation.engine.catalog.models import Catalog
from generation.engine.factory import make_engine
from generation.engine.request.request import build_request

from .drawing import contact_sheet

COLUMNS = 8
PROMPTS = (
    "a red boat at sea", "a purple castle in the snow", "an orange cat on a teal background",
    "a white lighthouse at sunset", "a blue butterfly on a meadow", "a yellow train in the mountains",
    "a black whale in the ocean", "a pink umbrella in the rain",
    "a green cactus in the desert", "a white rocket under the stars", "a brown dog on the grass",
    "a red apple and a blue cup", "three red balloons at dawn", "a grey bridge in the city",
    "a yellow crown on a purple background", "a small brown tent in the forest",
    "a red bird, watercolour", "a blue car, anime style", "a green palm, line art", "an orange fish, flat logo",
    "a purple flower, abstract", "a white moon above a brown house at night", "a teal bicycle, vintage",
    "a yellow lamp, grunge",
)  # fmt: skip


def draw_sheet(folder: Path, file: Path) -> None:
    """Draws PROMPTS with the model in `folder` and saves them as one PNG."""
    spec = replace(Catalog().get("dreamsketch-tiny"), sources=(str(folder.resolve()),))
    engine = make_engine("torch", Catalog([spec]))
    engine.start()
    try:
        jobs = [engine.submit(build_request(spec, prompt=prompt, seed=7)) for prompt in PROMPTS]
        contact_sheet([job.result()[0].pixels for job in jobs], COLUMNS).save(file, optimize=True)
    finally:
        engine.stop()
