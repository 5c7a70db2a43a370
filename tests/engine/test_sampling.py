"""Each sampler's table takes a picture where diffusers' own scheduler takes it, step by step."""

import importlib
import inspect
import sys
import types

import pytest
import torch

from generation.engine.catalog.samplers import SAMPLERS, find_sampler
from generation.engine.sampling import SLOTS, make_table, scheduler_for, update

SHAPE = (1, 4, 6, 5)
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
NAMES = [sampler.name for sampler in SAMPLERS]
STEPS = [1, 2, 4, 7, 20, 50]
SPACINGS = ["leading", "linspace", "trailing"]


def unet(seen, time):
    """Something that depends on all it is told, smoothly and not linearly."""
    return torch.sin(1.7 * seen + time / 300) * 0.8 + 0.3 * seen.roll(1, -1)


class BrownianPath:
    """Stands in for the noise of diffusers' DPMSolverSDEScheduler: a path over sigma, drawn as it is walked."""

    def __init__(self, generator):
        self.generator, self.half = generator, None

    def __call__(self, sigma, after):
        fresh = torch.randn(SHAPE, generator=self.generator)
        if self.half is None:
            self.half = after, fresh
            return fresh
        (middle, first), self.half = self.half, None
        return ((sigma - middle).sqrt() * first + (middle - after).sqrt() * fresh) / (sigma - after).sqrt()


def diffusers_scheduler(config, sampler):
    if not find_sampler(sampler).levels_of:
        return scheduler_for(config, sampler)
    # Nothing of this package is used, but the module wants to import it.
    sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))
    module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")
    known = inspect.signature(module.DPMSolverSDEScheduler.__init__).parameters
    config = config | dict(find_sampler(sampler).options)
    return module.DPMSolverSDEScheduler(**{name: value for name, value in config.items() if name in known})


def path_of_diffusers(config, sampler, steps, begin=0):
    """The samples after each evaluation, by the scheduler's own `step`."""
    scheduler = diffusers_scheduler(config, sampler)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(SHAPE, generator=generator)
    sample, times = noise * scheduler.init_noise_sigma, scheduler.timesteps[begin * scheduler.order :]
    if begin:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin * scheduler.order)
        sample = scheduler.add_noise(picture(), noise, times[:1])
    if find_sampler(sampler).levels_of:
        scheduler.noise_sampler = BrownianPath(generator)
    options = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    path = [sample]
    for time in times:
        answer = unet(scheduler.scale_model_input(path[-1], time), float(time))
        path.append(scheduler.step(answer, time, path[-1], **options, return_dict=False)[0])
    return path


def picture():
    return torch.linspace(-1, 1, 120).reshape(SHAPE)


def path_of_tables(config, choices):
    """The same of several (sampler, steps) at once, all in one batch for as long as each of them lasts."""
    tables = [make_table(config, *choice) for choice in choices]
    generators = [torch.Generator().manual_seed(3) for _ in tables]
    slots = torch.zeros(len(tables), SLOTS, *SHAPE[1:])
    for row, (table, generator) in enumerate(zip(tables, generators, strict=True)):
        noise = torch.randn(SHAPE, generator=generator)
        clean, amount = table.levels[0] if choices[row][2:] else (0.0, table.init_noise_sigma)
        slots[row, :1] = clean * picture() + amount * noise
    paths = [[slots[row, :1]] for row in range(len(tables))]
    for position in range(max(map(len, tables))):
        rows = [row for row, table in enumerate(tables) if position < len(table)]
        seen = torch.cat([paths[row][-1] * tables[row].input_scales[position] for row in rows])
        times = torch.tensor([tables[row].timesteps[position] for row in rows])
        answer = unet(seen, times[:, None, None, None])
        noise = torch.cat(
            [
                torch.randn(SHAPE, generator=generators[row])
                if tables[row].draws_noise[position]
                else torch.zeros(SHAPE)
                for row in rows
            ]
        )
        matrices = torch.stack([tables[row].matrices[position] for row in rows])
        slots = update(slots, answer, noise, matrices)
        for place, row in enumerate(rows):
            paths[row].append(slots[place, None, 0])
        slots = slots[[place for place, row in enumerate(rows) if position + 1 < len(tables[row])]]
    return paths


def assert_same_path(config, choices):
    for choice, ours in zip(choices, path_of_tables(config, choices), strict=True):
        theirs = path_of_diffusers(config, *choice)
        assert len(ours) == len(theirs)
        for position, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            error = (a - b).abs().max() / b.abs().max()
            assert error <= 1e-4, f"{choice}, position {position}: {error:.1e}"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", NAMES)
def test_each_sampler_step_by_step(name, spacing, prediction):
    config = SCHEDULE | {"timestep_spacing": spacing, "prediction_type": prediction}
    assert_same_path(config, [(name, steps) for steps in STEPS])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "PLMS"])
def test_a_picture_that_begins_on_the_way(name, spacing, prediction):
    config = SCHEDULE | {"timestep_spacing": spacing, "prediction_type": prediction}
    assert_same_path(config, [(name, 7, 1), (name, 7, 6), (name, 20, 9), (name, 2, 1)])


def test_plms_begins_on_the_way_as_it_begins_at_the_start():
    """diffusers' own only cuts its list of timesteps, and then takes steps that do not meet."""
    whole = make_table(SCHEDULE, "PLMS", 20)
    late = make_table(SCHEDULE, "PLMS", 20, 12)
    assert late.timesteps[0] == late.timesteps[1] + 50 and late.timesteps[1] == late.timesteps[2]
    assert late.timesteps[2:] == whole.timesteps[-7:] and late.steps == 8
    assert len(make_table(SCHEDULE, "PLMS", 20, 19)) == 1


def test_where_nothing_is_left_to_draw():
    table = make_table(SCHEDULE, "Euler", 20, 20)
    assert len(table) == 0 and table.levels == ((1.0, 0.0),)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_all_samplers_in_one_batch(prediction):
    config = SCHEDULE | {"prediction_type": prediction}
    assert_same_path(config, [(name, steps) for name in NAMES for steps in (3, 9)])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("PLMS", "Euler a") and "++ SDE" not in name])
def test_predicted_samples(name):
    """diffusers' PLMS, Euler a and DPM++ SDE do not take this prediction."""
    assert_same_path(SCHEDULE | {"prediction_type": "sample"}, [(name, 7)])


SCHEDULER_OPTIONS = [
    {"use_karras_sigmas": True},
    {"final_sigmas_type": "sigma_min"},
    {"set_alpha_to_one": False},
    {"use_exponential_sigmas": True},
    {"solver_type": "heun"},
    {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
    {"lower_order_final": False},
    {"euler_at_final": True},
    {"steps_offset": 0},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
]
DIFFUSERS_FAILS = [
    ("UniPC", "lower_order_final"),  # it divides zero by zero
    ("DPM++ 2M Karras", "use_exponential_sigmas"),  # it takes one spacing at a time
    ("DPM++ 2M SDE Karras", "use_exponential_sigmas"),
    ("DPM++ SDE Karras", "use_exponential_sigmas"),
    ("DPM++ 2M Karras", "beta_schedule"),  # it finds its first timestep twice and runs off its table
    ("DPM++ 2M SDE Karras", "beta_schedule"),
    ("DPM++ SDE", "rescale_betas_zero_snr"),  # it does not know that
    ("DPM++ SDE Karras", "rescale_betas_zero_snr"),
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=f"{name},{','.join(f'{key}={value}' for key, value in options.items())}")
        for name in NAMES
        for options in SCHEDULER_OPTIONS
        if (name, next(iter(options))) not in DIFFUSERS_FAILS
    ],
)
def test_what_a_model_may_ask_for(name, options):
    assert_same_path(SCHEDULE | options, [(name, 5), (name, 20)])


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", NAMES)
def test_every_step_count_counts_up_to_itself(name, spacing):
    config = SCHEDULE | {"timestep_spacing": spacing}
    for steps in (1, 2, 3, 5, 10, 30, 50):
        table = make_table(config, name, steps)
        done = [table.steps_done(position) for position in range(len(table) + 1)]
        assert done[0] == 0 and done[-1] == steps and done == sorted(done)


@pytest.mark.parametrize("name", NAMES)
def test_no_timestep_lies_before_the_first(name):
    """diffusers' trailing spacing of 61 steps ends in a 62nd at timestep -1."""
    if name != "LCM":
        table = make_table(SCHEDULE | {"timestep_spacing": "trailing"}, name, 61)
        assert min(table.timesteps) >= 0 and table.steps_done(len(table)) == 61
        assert len(table) == {"Heun": 121, "PLMS": 62, "DPM++ SDE": 121, "DPM++ SDE Karras": 121}.get(name, 61)


def test_a_row_that_is_not_finite_stays_alone():
    table = make_table(SCHEDULE, "UniPC", 4)
    slots = torch.randn(3, SLOTS, *SHAPE[1:])
    answer, noise = torch.randn(3, *SHAPE[1:]), torch.zeros(3, *SHAPE[1:])
    matrices = table.matrices[[1, 2, 3]]
    right = update(slots, answer, noise, matrices)
    answer[1] = float("nan")
    after = update(slots, answer, noise, matrices)
    assert torch.equal(after[[0, 2]], right[[0, 2]]) and after[1, 0].isnan().all()
