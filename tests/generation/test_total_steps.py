"""The column `total_steps`: written at submit, filled for rows of earlier versions, harmless where it is not."""

import importlib

import pytest
from django.apps import apps

from generation.catalog import model_named
from generation.engine.request.options import to_options
from generation.engine.request.request import build_request
from generation.models import Generation
from generation.queue import estimates, jobs
from generation.queue.status import describe
from generation.services.generations import create_generation
from generation.storage.image_requests import picture_of, request_of
from generation.storage.uploads import store_upload
from tests.api.test_uploads import encoded, picture

backfill = importlib.import_module("generation.migrations.0007_fill_total_steps")


@pytest.fixture
def options_of_each_mode(free_user):
    """The options that requests of each mode leave in their rows, by how the steps are counted."""
    upload = picture_of(store_upload(free_user, encoded(picture()), param="image"))
    parameters = {
        "plain": {},
        "three images": {"num_images": 3},
        "from a picture": {"image": upload, "strength": 0.35},
        "hardly changed": {"image": upload, "strength": 0.01},
        "second pass": {"hires": {"scale": 2, "strength": 0.6}},
        "second pass with steps of its own": {"hires": {"scale": 2, "strength": 0.5, "steps": 7}, "num_images": 2},
        "from a picture with a second pass": {"image": upload, "strength": 0.7, "hires": {"scale": 1.5}},
        "upscale": {"upscale": {"image": upload}},
    }
    spec = model_named(None)
    requests = {name: build_request(spec, prompt="a boat", steps=20, **extra) for name, extra in parameters.items()}
    return {name: (request.num_images, request.steps, to_options(request)) for name, request in requests.items()}


def test_it_is_written_at_submit(pro_user):
    generation, _ = create_generation(user=pro_user, prompt="a boat", steps=6, num_images=2, hires={"strength": 0.5})
    assert generation.total_steps == request_of(generation).total_steps == 2 * (6 + 3)
    assert describe(generation)["steps"] == 18


def test_the_migration_fills_rows_of_earlier_versions_by_the_same_rule(
    options_of_each_mode, free_user, make_generation, monkeypatch
):
    monkeypatch.setattr(backfill, "BATCH", 3)
    rows = {
        name: make_generation(free_user, num_images=count, steps=steps, options=options)
        for name, (count, steps, options) in options_of_each_mode.items()
    }
    Generation.objects.update(total_steps=1)
    backfill.fill(apps, None)
    filled = dict(Generation.objects.values_list("pk", "total_steps"))
    expected = {name: request_of(row).total_steps for name, row in rows.items()}
    assert {name: filled[row.pk] for name, row in rows.items()} == expected
    assert expected["hardly changed"] == 1 and expected["second pass with steps of its own"] == 2 * (20 + 3)
    backfill.fill(apps, None)
    assert dict(Generation.objects.values_list("pk", "total_steps")) == filled


def test_a_row_that_was_not_filled_can_still_be_shown_and_finished(free_user, make_generation):
    """As a web process of an earlier version writes it after the migration."""
    generation = make_generation(free_user)
    Generation.objects.update(total_steps=1)
    claimed = jobs.claim("w1")
    jobs.heartbeat(claimed, phase="generating", step=3)
    claimed.refresh_from_db()
    assert 0 <= describe(claimed)["progress"] < 1
    assert estimates.seconds_if_submitted(claimed) is None
    Generation.objects.filter(pk=generation.pk).update(status="completed", finished_at=claimed.started_at)
    assert describe(Generation.objects.get())["progress"] == 1
