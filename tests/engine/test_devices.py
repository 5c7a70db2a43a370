"""A GPU without a GPU: tensors that know their device and shape alone go through the steps. Whatever mixes those of
the host with those of the device raises, and every copy between the two is seen."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from generation.engine.loop import rows as loop_rows
from generation.engine.loop.denoise import advance, predict_x0
from generation.engine.loop.rows import PassInputs, start_next_pass, start_row
from generation.engine.loop.unet_config import takes_mask
from generation.engine.networks import controlnet as control
from generation.engine.networks import deepcache, ip_adapter, lora
from generation.engine.networks.loader import ModelManager
from generation.engine.networks.vae import Encoded
from generation.engine.request.fields import Picture
from generation.engine.request.passes import passes_of
from generation.engine.request.request import build_request

from .models import save_adapter, save_control, save_lora
from .pictures import hole, scene

GPU = torch.device("meta")
"""Nothing here treats it as something special, and torch lets a machine without a GPU take slices there."""
PICTURE = Picture.of(scene())


class Copies(TorchDispatchMode):
    """Sees what goes from one device to another, and what asks the device for a number."""

    def __init__(self):
        super().__init__()
        self.awaited, self.sent = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        sources = {each.device for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor) and each.ndim}
        made = {each.device for each in tree_leaves(result) if isinstance(each, torch.Tensor)}
        if function is torch.ops.aten._local_scalar_dense.default or function is torch.ops.aten.nonzero.default:
            self.awaited.append(str(function))
        elif sources and made - sources:
            (self.sent if kwargs.get("non_blocking") else self.awaited).append(f"{function}: {sources} to {made}")
        return result


class _AllCounted(dict):
    """As if the work of every evaluation had been counted."""

    def setdefault(self, unet, nothing):
        return self

    def __contains__(self, name):
        return True


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    (root / "loras").mkdir()
    for key in ("sd1", "sdxl"):
        save_lora(root / "loras" / f"{key}.safetensors", models[key], form="peft")
        save_control(root / "controlnet" / f"{key}-canny", models[key])
        save_adapter(root / "ip_adapter" / key, models[key])
    return root


@pytest.fixture
def gpu(monkeypatch):
    """While a test lasts, modules that are moved to the GPU become shapes there."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    move = torch.nn.Module.to

    def to(module, *args, **kwargs):
        device = torch._C._nn._parse_to(*args, **kwargs)[0]
        if device != GPU:
            return move(module, *args, **kwargs)
        with mode:
            for part in module.modules():
                for kind in (part._parameters, part._buffers):
                    for name, tensor in kind.items():
                        if tensor is not None:
                            there = mode.from_tensor(tensor.detach()).to(GPU)
                            kind[name] = torch.nn.Parameter(there, False) if kind is part._parameters else there
        return module

    def on_the_host(function):
        def call(*args):
            with unset_fake_temporarily():
                return function(*args)

        return call

    monkeypatch.setattr(torch.nn.Module, "to", to)
    readers = (loop_rows, "make_table"), (lora, "_read_file"), (control.ControlNets, "_load"), (ip_adapter, "_load")
    for place, name in readers:
        monkeypatch.setattr(place, name, on_the_host(getattr(place, name)))
    monkeypatch.setattr(deepcache, "_operations", _AllCounted())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # shapes have no memory
    return mode


@pytest.fixture
def load(gpu, catalog, files):
    def load(key):
        manager = ModelManager(
            device=str(GPU), dtype="fp32", allow_download=False, models_dir=files, memory_budget=10**9, host_memory=0
        )
        return manager.get(catalog.get(key))

    return load


def make(catalog, key, **fields):
    return build_request(catalog.get(key), **{"prompt": "a red cat", "steps": 2, "seed": 5} | fields)


def inputs_of(model, request):
    """What a pass begins with, as shapes on the device."""
    side = request.width // model.vae_scale
    size = model.vae.config.latent_channels, side, side
    encoded = Encoded(torch.zeros(size, device=GPU), torch.zeros(size, device=GPU))
    mask = torch.zeros(side, side, device=GPU)
    controlnet = image_prompt = None
    if request.control:
        controlnet = model.controlnets.condition(model, request.control, scene())
    if request.reference:
        image_prompt = model.ip_adapters.encode(request.reference, scene())
    image = encoded if request.start else None
    inpaints = takes_mask(model) or (request.start is not None and request.start.inpaints)
    masked_image = encoded if takes_mask(model) else None
    return PassInputs(image, mask if inpaints else None, masked_image, controlnet, image_prompt)


def draw(model, requests):
    """All of them together to the end; the copies that their steps made."""
    rows = [start_row(model, request, 0, inputs_of(model, request)) for request in requests]
    copies, steps = Copies(), 0
    while rows:
        groups = {}
        for row in rows:
            groups.setdefault(row.shape, []).append(row)
        with copies:
            for group in groups.values():
                advance(model, group)
                steps += any(row.table.draws_noise[row.position - 1] for row in group)
        for row in rows:
            assert predict_x0(row).device == row.latents.device == GPU
        rows = [row for row in rows if not row.finished]
    assert not copies.awaited
    return copies.sent, steps


@pytest.mark.parametrize("key", ["sd1", "sdxl", "lcm", "inpaint"])
def test_nothing_is_mixed_and_steps_wait_for_no_copy(gpu, load, catalog, key):
    model = load(key)
    mask = {"image": PICTURE, "mask": Picture.of(hole())}
    requests = [
        make(catalog, key, sampler=name, guidance_scale=1 + 3 * (number % 2))
        for number, name in enumerate(catalog.get(key).samplers)
    ]
    requests += [make(catalog, key, image=PICTURE, strength=0.5), make(catalog, key, **mask, fill="noise")]
    requests += [make(catalog, key, quality="fast", steps=3, guidance_scale=scale) for scale in (1, 4)]
    with gpu:
        sent, noisy = draw(model, requests)
    assert len(sent) == noisy, "one copy for the noise of a step"


@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_add_ons_are_where_they_work(gpu, load, catalog, key):
    model = load(key)
    control = {"key": f"{key}-canny", "image": PICTURE, "preprocess": False}
    with gpu:
        draw(
            model,
            [
                make(catalog, key),
                make(catalog, key, loras=[key]),
                make(catalog, key, control=control),
                make(catalog, key, reference={"image": PICTURE}),
                make(catalog, key, loras=[key], control=control),
            ],
        )


@pytest.mark.parametrize("key", ["sd1", "sdxl"])
def test_second_passes_begin_where_the_first_ones_ended(gpu, load, catalog, key):
    model = load(key)
    request = make(catalog, key, hires={"scale": 1.5})
    with gpu:
        row = start_row(model, request, 0)
        while not row.finished:
            advance(model, [row])
        row = start_next_pass(model, row, passes_of(request)[1], PassInputs())
        while not row.finished:
            advance(model, [row])
        picture = model.vae.decode(row.latents, return_dict=False)[0]
    assert picture.device == GPU and picture.shape[-2:] == request.final_size
