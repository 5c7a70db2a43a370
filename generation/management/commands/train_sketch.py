"""Trains the built-in model, or draws a sample of what it is trained on.

manage.py train_sketch --preset cpu                the whole thing, from nothing
manage.py train_sketch --preset cpu --resume       the same, taken up where it stopped
manage.py train_sketch --contact-sheet sheet.png   a sample of the drawn data, no torch needed
"""

from functools import partial
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from generation.engine.sketch import WEIGHTS
from generation.engine.sketch.train import STAGES, run


class Command(BaseCommand):
    help = "Trains dreamsketch-tiny from nothing: draw data, tokenizer, autoencoder, latents, text, denoiser, export."

    def add_arguments(self, parser):
        parser.add_argument(
            "--preset", default="cpu", choices=("smoke", "cpu", "full"), help="how much; full wants a GPU"
        )
        parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="FOLDER", help="the finished model")
        parser.add_argument("--work", type=Path, metavar="FOLDER", help="data and checkpoints (var/sketch/<preset>)")
        parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the work folder")
        parser.add_argument(
            "--until", default="export", choices=STAGES, metavar="STAGE", help=f"stop after one of {', '.join(STAGES)}"
        )
        parser.add_argument("--only", default="", choices=STAGES, metavar="STAGE", help="run this one stage again")
        parser.add_argument("--device", default="", help="cpu or cuda; chosen by itself if not given")
        parser.add_argument(
            "--contact-sheet", type=Path, metavar="FILE", help="draw 64 training pictures into FILE and stop"
        )

    def handle(self, *, preset, out, work, resume, until, only, device, contact_sheet, **_):
        if contact_sheet:
            # Not at the top: other processes import this module for its help alone.
            from generation.engine.sketch.drawing import contact_sheet as sheet
            from generation.engine.sketch.drawing import draw
            from generation.engine.sketch.scene import random_scene

            sheet([draw(random_scene(seed)) for seed in range(64)], 8).save(contact_sheet)
            return
        work = work or Path("var") / "sketch" / preset
        if work.exists() and not (resume or only):
            # Hours of work may lie there; only a person throws them away.
            raise CommandError(f"{work} holds an earlier training. Go on from it with --resume, or remove it first.")
        run(preset, out, work, until=until, only=only, device=device, say=partial(print, file=self.stdout, flush=True))
