"""Trains the built-in model, or draws a sample of what it is trained on or has learned.

manage.py train_sketch --preset cpu                the whole thing, from nothing
manage.py train_sketch --preset cpu --resume       the same, taken up where it stopped
manage.py train_sketch --start-from FOLDER         from a finished model instead of from nothing
manage.py train_sketch --judge                     the judge that measures the model (bench/prompt_adherence.py)
manage.py train_sketch --upscaler                  the upscaler for drawings, sketch-2x
manage.py train_sketch --contact-sheet sheet.png   a sample of the drawn data, no torch needed
manage.py train_sketch --samples docs/contact-sheet.png   a sample of what the model in --out draws
"""

from functools import partial
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from generation.engine.sketch import WEIGHTS, write_sums
from generation.training.recipe import PRESETS
from generation.training.train import STAGES, run


class Command(BaseCommand):
    help = "Trains dreamsketch-tiny from nothing: draw data, tokenizer, autoencoder, latents, text, denoiser, export."

    def add_arguments(self, parser):
        parser.add_argument("--preset", default="cpu", choices=list(PRESETS), help="how much; full wants a GPU")
        parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="FOLDER", help="the finished model")
        parser.add_argument("--work", type=Path, metavar="FOLDER", help="data and checkpoints (var/sketch/<preset>)")
        parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the work folder")
        parser.add_argument(
            "--start-from", type=Path, metavar="FOLDER", help="begin with the weights of this finished model"
        )
        parser.add_argument(
            "--until", default="export", choices=STAGES, metavar="STAGE", help=f"stop after one of {', '.join(STAGES)}"
        )
        parser.add_argument("--only", default="", choices=STAGES, metavar="STAGE", help="run this one stage again")
        parser.add_argument("--device", default="", help="cpu or cuda; chosen by itself if not given")
        parser.add_argument("--processes", type=int, default=0, help="that draw at once; one a core if not given")
        parser.add_argument("--judge", action="store_true", help="train the judge on the work folder's data and stop")
        parser.add_argument("--upscaler", action="store_true", help="train the upscaler sketch-2x and stop")
        parser.add_argument(
            "--contact-sheet", type=Path, metavar="FILE", help="draw 64 training pictures into FILE and stop"
        )
        parser.add_argument("--samples", type=Path, metavar="FILE", help="let the model draw a sheet and stop")

    def handle(
        self, *, preset, out, work, resume, start_from, until, only, contact_sheet, samples, judge, upscaler, **options
    ):
        if contact_sheet:
            return self.draw_data(contact_sheet)
        if samples:
            return self.draw_samples(samples, out)
        work = work or Path("var") / "sketch" / preset
        options = {name: options[name] for name in ("device", "processes")}
        options["say"] = partial(print, file=self.stdout, flush=True)
        if judge:
            self.train_judge(preset, work, **options)
            return write_sums()
        if upscaler:
            self.train_upscaler(preset, **options)
            return write_sums()
        if work.exists() and not (resume or only):
            # Hours of work may lie there; only a person throws them away.
            raise CommandError(f"{work} holds an earlier training. Go on from it with --resume, or remove it first.")
        if start_from and not (start_from / "model_index.json").exists():
            raise CommandError(f"{start_from} is not the folder of a finished model.")
        run(preset, out, work, until=until, only=only, start_from=start_from, **options)
        if out == WEIGHTS:
            write_sums()

    # Imported within: other processes import this module for its help alone.

    def train_judge(self, preset, work, **options):
        from generation.training.train import train_judge

        train_judge(preset, work, **options)

    def train_upscaler(self, preset, **options):
        from generation.training.train import train_enlarger

        train_enlarger(preset, **options)

    def draw_data(self, file):
        from generation.training.drawing import contact_sheet, draw
        from generation.training.scene import overview

        contact_sheet([draw(scene) for scene in overview(64)], 8).save(file)

    def draw_samples(self, file, folder):
        from generation.training.samples import draw_sheet

        draw_sheet(folder, file)
        self.stdout.write(f"{file}")
