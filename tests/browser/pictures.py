"""Many pictures at once for a running site: rows and files, without drawing."""

MAKE = """
import colorsys
from PIL import Image
from django.utils import timezone
from accounts.models import User
from generation.engine.protocol import EngineImage
from generation.models import GeneratedImage, Generation
from generation.storage import files
from generation.storage.image_requests import request_of
owner = User.objects.get(email={email!r})
shapes = [(384, 256), (256, 384), (256, 256), (455, 256), (341, 256)]
for n in range({count}):
    width, height = shapes[n % len(shapes)]
    now = timezone.now()
    style = "anime" if n % 10 == 0 else ""
    generation = Generation.objects.create(
        owner=owner, prompt=f"picture number {{n}} of a boat", composed_prompt="x", model="dreamsketch-tiny",
        width=width, height=height, steps=2, guidance_scale=4, sampler="Euler", seed=n, priority=20, style=style,
        status="completed", image_count=1, started_at=now, finished_at=now, deadline_at=now)
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(n / {count}, 0.5, 0.8))
    stored = files.store_image(EngineImage(0, n, Image.new("RGB", (width, height), colour), {{}}, 1.0),
                               request_of(generation))
    GeneratedImage.objects.create(
        id=stored.id, generation=generation, owner=owner, index=0, seed=n, file=stored.file,
        thumbnail=stored.thumbnail, thumbnail_size=stored.thumbnail_size, width=width, height=height,
        file_size=stored.file_size, sha256=stored.sha256, colour=stored.colour, generation_time=1.0)
"""


def hang_pictures(site, email: str, count: int) -> None:
    """`count` pictures of five shapes for an account, the first the oldest; every tenth in the style anime."""
    site.manage("shell", "--no-imports", "-c", MAKE.format(email=email, count=count))
