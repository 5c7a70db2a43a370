import gc
import os

import pytest

# Two busy neighbours share these cores, and tiny models lose time by threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from generation.engine.catalog.models import Catalog
from generation.engine.factory import make_engine


@pytest.fixture(scope="session", autouse=True)
def fp32_on_every_cpu():
    """Some machines would draw in bf16 by themselves, and then nothing equals diffusers' pictures."""
    from generation.engine.networks import precision

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "bf16_gain", lambda: 1.0)
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of tiny models by key."""
    from .models import save_sd, save_sdxl

    root = tmp_path_factory.mktemp("models")
    folders = {
        "sd1": save_sd(root / "sd1"),
        "sd2": save_sd(root / "sd2", prediction="v_prediction", seed=1),
        "other": save_sd(root / "other", seed=2),
        "lcm": save_sd(root / "lcm", seed=3, time_cond_proj_dim=16),
        "sdxl": save_sdxl(root / "sdxl"),
        "inpaint": save_sd(root / "inpaint", seed=4, in_channels=9),
    }
    # Engines collect garbage when they stop; what the imports left need not be searched every time.
    gc.freeze()
    return folders


@pytest.fixture(scope="session")
def catalog(models):
    from .models import tiny_spec

    return Catalog(
        tiny_spec(key, path, family="sdxl" if key == "sdxl" else "sd", default_sampler="Euler")
        for key, path in models.items()
    )


def started(kind, catalog, **options):
    """An engine, stopped in the end; PyTorch's on the CPU, and without the network."""
    if kind == "torch":
        options |= {"device": "cpu", "allow_download": False, "threads": 1}
    engine = make_engine(kind, catalog, preview_interval=0, **options)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def torch_engine(catalog):
    yield from started("torch", catalog)


@pytest.fixture(scope="module")
def wide_engine(catalog):
    """For many rows at once, one for a file of tests."""
    yield from started("torch", catalog, max_rows=16)


@pytest.fixture
def narrow_engine(catalog):
    """With room for one guided image: those of a request are drawn one after another."""
    yield from started("torch", catalog, max_rows=2)


@pytest.fixture
def fake_engine(catalog):
    yield from started("fake", catalog, seconds_per_step=0.002)


@pytest.fixture(params=["torch", "fake"])
def engine(request):
    """Either engine: what a test says of it is the contract of both."""
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture(params=["narrow", "fake"])
def engine_in_turn(request):
    """Either engine, drawing the images of a request one after another."""
    return request.getfixturevalue(f"{request.param}_engine")
