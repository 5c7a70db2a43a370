"""total_steps of the rows that earlier versions wrote, a batch at a time: no lock is held for long."""

from django.db import migrations

BATCH = 500


def fill(apps, schema_editor):
    """May be run again: it goes on with the rows that still have the default."""
    generation = apps.get_model("generation", "Generation")
    columns = ("pk", "num_images", "steps", "options", "total_steps")
    unfilled, last = generation.objects.filter(total_steps=1).order_by("pk").only(*columns), None
    while rows := list((unfilled if last is None else unfilled.filter(pk__gt=last))[:BATCH]):
        last = rows[-1].pk
        for row in rows:
            row.total_steps = row.num_images * steps_of_one_image(row.steps, row.options)
        generation.objects.bulk_update(rows, ["total_steps"])


def steps_of_one_image(steps: int, options: dict) -> int:
    """ImageRequest.steps_each as it was when these rows were written."""
    if "upscale" in options:
        return 1
    first = drawn_steps(steps, options["start"]["strength"]) if "start" in options else steps
    if "hires" not in options:
        return first
    return first + drawn_steps(options["hires"]["steps"] or steps, options["hires"]["strength"])


def drawn_steps(steps: int, strength: float) -> int:
    return max(1, min(int(steps * strength), steps))


class Migration(migrations.Migration):
    atomic = False  # each batch commits by itself
    dependencies = [("generation", "0006_total_steps")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
