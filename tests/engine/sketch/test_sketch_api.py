"""Through the public API of a running site: what comes back shows the named object in the named colour."""

import io

from PIL import Image

from generation.training.judge import Judge
from generation.training.measure import colour_in
from tests.site import wait_for

PROMPTS = (
    ("red", "boat", "a red boat at sea", "sea"),
    ("blue", "car", "a blue car in the desert", "desert"),
    ("yellow", "star", "a yellow star at night", "night"),
    ("purple", "castle", "a purple castle in the snow", "snow"),
    ("green", "apple", "a green apple against a pink background", "plain"),
    ("orange", "cat", "an orange kitten on the grass", "meadow"),
)


def shown_colour(image, seen, thing):
    """The colour of that object, or None where there is none."""
    detected = seen.where(thing)
    return colour_in(image, detected.region) if detected else None


def test_pictures_show_the_named_object_in_its_colour(site):
    with site.user() as person:
        jobs = [person.post("/api/generate", json={"prompt": prompt, "seed": 11}).json() for *_, prompt, _ in PROMPTS]

        def finished():
            states = [person.get(job["status_url"]).json() for job in jobs]
            return states if all(state["status"] not in ("queued", "processing") for state in states) else None

        states = wait_for(finished, seconds=120, what="pictures")
        assert {state["status"] for state in states} == {"completed"}
        images = [Image.open(io.BytesIO(person.get(state["result_url"]).content)).convert("RGB") for state in states]
    shown = Judge().look(images)
    marks = {
        prompt: (seen.where(thing) is not None, shown_colour(image, seen, thing) == colour, seen.place == place)
        for image, seen, (colour, thing, prompt, place) in zip(images, shown, PROMPTS, strict=True)
    }
    # One of the eighteen marks may be missing: another processor rounds differently, and the model is small.
    assert sum(map(sum, marks.values())) >= 3 * len(PROMPTS) - 1, marks
