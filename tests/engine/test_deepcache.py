"""The fast tier: fewer layers at every other step, nearly the same picture, and company that does not notice."""

import numpy as np
import pytest
import torch

from generation.engine.loop.fair_share import FairShare
from generation.engine.request.request import build_request

from .test_batching import together


@pytest.fixture(scope="module")
def engine(wide_engine):
    return wide_engine


def make(catalog, key="sd1", **fields):
    return build_request(catalog.get(key), prompt="a red cat", **{"steps": 8, "seed": 5, "quality": "fast"} | fields)


def draw(engine, request):
    return np.asarray(engine.submit(request).result(60)[0].pixels, int)


class Depths:
    """Counts the passes through a UNet's middle and through its last layer."""

    def __init__(self, monkeypatch, unet):
        self.middle, self.last = 0, 0
        for name, layer in (("middle", unet.mid_block), ("last", unet.conv_out)):
            monkeypatch.setattr(layer, "forward", self.counting(name, layer.forward))

    def counting(self, name, forward):
        def count(*args, **kwargs):
            setattr(self, name, getattr(self, name) + 1)
            return forward(*args, **kwargs)

        return count


@pytest.mark.parametrize("key", ["sd1", "sd2", "sdxl", "lcm"])
def test_every_other_step_is_shallow_and_the_picture_is_close(engine, catalog, monkeypatch, key):
    exact = draw(engine, make(catalog, key, quality="exact"))
    depths = Depths(monkeypatch, engine.models.get(catalog.get(key)).unet)
    fast = draw(engine, make(catalog, key))
    assert (depths.middle, depths.last) == (5, 8), "the last is complete"
    difference = np.abs(fast - exact)
    assert difference.max() > 0 and difference.mean() < np.abs(exact - exact.mean()).mean() / 2


def test_it_is_the_same_alone_and_in_company(engine, catalog):
    requests = [
        make(catalog),
        make(catalog, quality="exact", seed=6),
        make(catalog, steps=11, guidance_scale=1, seed=7),
        make(catalog, steps=5, sampler="DPM++ 2M Karras", seed=8),
        make(catalog, seed=9, hires={"scale": 2}),
    ]
    alone = [draw(engine, request) for request in requests]
    for job, right in zip(together(engine, requests), alone, strict=True):
        assert np.abs(np.asarray(job.result(60)[0].pixels, int) - right).max() <= 1


def multiplications(unet, forward):
    """Of the convolutions and matrices among the UNet's layers, counted by what comes out of them."""
    products = []

    def count(layer, inputs, output):
        products.append(layer.weight[0].numel() * output.numel())

    hooks = [
        layer.register_forward_hook(count)
        for layer in unet.modules()
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    forward()
    for hook in hooks:
        hook.remove()
    return sum(products)


def test_a_shallow_step_is_charged_what_it_costs(engine, catalog, monkeypatch):
    spec, pick, charged = catalog.get("other"), FairShare.pick, []
    monkeypatch.setattr(
        FairShare,
        "pick",
        lambda share, charges, urgent=None: (
            charged.append({group.shape[-1]: charge for group, charge in charges.items()})
            or pick(share, charges, urgent)
        ),
    )
    draw(engine, make(catalog, "other"))
    charged.clear()
    draw(engine, make(catalog, "other"))
    complete, shallow = ({each[depth] for each in charged if depth in each} for depth in (False, True))
    assert len(complete) == len(shallow) == 1
    unet = engine.models.get(spec).unet
    every, outer = (
        multiplications(unet, lambda quality=quality: draw(engine, make(catalog, "other", quality=quality)))
        for quality in ("exact", "fast")
    )
    share = shallow.pop() / complete.pop()
    # Eight complete steps, and five with three shallow ones; attention multiplies too, but less.
    assert 0 < share < 1 and share == pytest.approx((outer - every * 5 / 8) / (every * 3 / 8), rel=0.1)


def test_the_recipe_says_that_it_is_lossy(engine, catalog):
    lossy = [
        engine.submit(make(catalog, quality=quality)).result(60)[0].recipe.get("lossy") for quality in ("fast", "exact")
    ]
    assert lossy[0] and lossy[1] is None
