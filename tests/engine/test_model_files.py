"""Finding models, refusing what is not safetensors, and fetching from a Hub (one on this machine)."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from safetensors.torch import load_file, save_file

from generation.engine.catalog import model_files
from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.models import Catalog
from generation.engine.errors import ModelUnavailable
from generation.engine.request.request import build_request
from generation.operations import doctor

from .models import extended

ROOT = Path(__file__).parents[2]


class Canary:
    """Unpickling this leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture
def spec(catalog):
    return catalog.get("sd1")


@pytest.fixture
def copy(models, tmp_path):
    return Path(shutil.copytree(models["sd1"], tmp_path / "models" / "sd1"))


def at(spec, *names, **changes):
    return replace(spec, sources=tuple(map(str, names)), **changes)


@pytest.mark.parametrize("name", ["var/bench/x", "../x", "models/x.git", "", "a--b", "~/models"])
class TestASourceThatIsNeitherAPathNorAHubId:
    def test_it_is_told_by_name_and_nobody_is_asked(self, spec, name):
        strange = at(spec, name)
        assert model_files.locate(strange) is None and not model_files.is_ready(strange)
        with pytest.raises(ModelUnavailable) as caught:
            model_files.fetch(strange)
        assert caught.value.details == [f"{name}: neither an absolute path nor the id of a Hub repository"]

    def test_the_next_source_is_taken(self, spec, models, name):
        assert model_files.fetch(at(spec, name, models["sd1"]), allow_download=False).path == models["sd1"]

    def test_as_the_place_of_a_unet(self, spec, models, name):
        strange = replace(spec, unet=(f"{name}:unet.safetensors",))
        assert not model_files.is_ready(strange)
        with pytest.raises(ModelUnavailable):
            model_files.fetch(strange, allow_download=False)

    def test_an_engine_says_that_the_model_is_not_there(self, torch_engine, catalog, spec, name):
        strange = at(spec, name, key="strange")
        torch_engine.catalog = extended(catalog, strange)
        with pytest.raises(ModelUnavailable, match="not available here"):
            torch_engine.submit(build_request(strange, prompt="a cat")).result(60)

    def test_operators_are_told(self, spec, name, monkeypatch, settings, tmp_path, capsys):
        settings.MODELS_DIR = tmp_path
        strange = Catalog([at(spec, name, key="strange")])
        for place in ("generation.management.commands.preload_models", "generation.operations.doctor"):
            monkeypatch.setattr(f"{place}.catalog", lambda: strange)
        monkeypatch.setattr("generation.operations.doctor.model_named", lambda name: strange.get("strange"))
        with pytest.raises(CommandError, match="strange"):
            call_command("preload_models", "--all")
        assert f"strange: {name}: neither" in capsys.readouterr().err
        [(state, message, mend)] = doctor.models()
        assert state == "wrong" and f"“{name}”" in message and "ENABLED_MODELS" in mend


def test_a_folder_is_found(spec, models):
    assert model_files.is_ready(spec)
    assert model_files.fetch(spec, allow_download=False).path == models["sd1"]


def test_the_models_folder_is_looked_at_before_the_hub(spec, copy):
    hub_only = at(spec, "somebody/something")
    weights = model_files.fetch(hub_only, models_dir=copy.parent, cache_dir="/nowhere", allow_download=False)
    assert weights.path == copy
    assert not model_files.is_ready(hub_only, cache_dir="/nowhere")


def test_the_first_source_that_is_complete_wins(spec, copy, models):
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert model_files.locate(at(spec, "/nowhere", copy, models["sd1"])).path == models["sd1"]


@pytest.mark.parametrize(
    "missing",
    [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer",
        "scheduler",
    ],
)
def test_an_incomplete_folder_is_not_ready(spec, copy, missing):
    gone = copy / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert not model_files.is_ready(at(spec, copy))
    with pytest.raises(ModelUnavailable) as caught:
        model_files.fetch(at(spec, copy), allow_download=False)
    assert str(copy) in caught.value.details[0]
    assert str(copy) not in str(caught.value), "users need not know our folders"


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model.bin",
        "pytorch_model.bin",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.Safetensors",
        "diffusion_pytorch_model.ckpt",
        "diffusion_pytorch_model.fp16.safetensors",
    ],
)
def test_a_pickle_is_refused_and_never_run(torch_engine, catalog, spec, copy, tmp_path, name):
    from generation.engine.request.request import build_request

    canary = tmp_path / "canary"
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (copy / "unet" / name).write_bytes(pickle.dumps(Canary(canary)))
    evil = at(spec, copy, key="evil", variant="fp16")
    torch_engine.catalog = extended(catalog, evil)
    with pytest.raises(ModelUnavailable):
        torch_engine.submit(build_request(evil, prompt="a cat")).result(30)
    assert not canary.exists()


def test_code_named_by_a_model_is_never_imported(torch_engine, catalog, spec, copy, tmp_path):
    from generation.engine.request.request import build_request

    canary = tmp_path / "canary"
    code = f"import pathlib; pathlib.Path({str(canary)!r}).touch()\nclass Evil: pass\n"
    for folder in (copy, copy / "unet", copy / "text_encoder", copy / "tokenizer"):
        (folder / "evil.py").write_text(code)
    files = ("model_index.json", "unet/config.json", "text_encoder/config.json")
    for file in (*files, "tokenizer/tokenizer_config.json"):
        config = json.loads((copy / file).read_text())
        reference = "evil.Evil"
        config |= {"auto_map": {"AutoModel": reference, "AutoTokenizer": [reference, reference]}}
        if file == "model_index.json":
            config |= {"unet": ["evil", "Evil"], "_class_name": ["evil", "Evil"]}
        (copy / file).write_text(json.dumps(config))
    odd = at(spec, copy, key="odd")
    torch_engine.catalog = extended(catalog, odd)
    assert torch_engine.submit(build_request(odd, prompt="a cat", steps=1)).result(30)
    assert not canary.exists()


@pytest.mark.parametrize("harm", ["cut", "grown", "header", "empty", "huge header", "no json"])
def test_a_damaged_file_is_refused(spec, copy, harm):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(
        {
            "cut": data[:-10],
            "grown": data + b"x",
            "header": b"\0" * 8 + data[8:],
            "empty": b"",
            "huge header": b"\xff" * 8 + data[8:],
            "no json": data[:8] + b"[" * (len(data) - 8),
        }[harm]
    )
    with pytest.raises(ModelUnavailable):
        model_files.fetch(at(spec, copy), allow_download=False)


def test_a_model_that_cannot_be_built_is_unavailable_and_the_next_is_right(torch_engine, catalog, spec, copy):
    from generation.engine.request.request import build_request

    (copy / "unet" / "config.json").write_text('{"block_out_channels": "x"}')
    broken = at(spec, copy, key="broken")
    torch_engine.catalog = extended(catalog, broken)
    with pytest.raises(ModelUnavailable):
        torch_engine.submit(build_request(broken, prompt="a cat")).result(30)
    assert torch_engine.submit(build_request(spec, prompt="a cat", steps=1)).result(30)


def test_half_precision_files_and_shards_are_chosen(tmp_path):
    choose = model_files.choose_weights
    both = ["m.safetensors", "m.fp16.safetensors", "m.bin"]
    assert choose(both, "m", "fp16") == (["m.fp16.safetensors"], "fp16")
    assert choose(both, "m", None) == (["m.safetensors"], None)
    assert choose(["m.safetensors"], "m", "fp16") == (["m.safetensors"], None)
    assert choose(["m.non_ema.safetensors", "m.bin", "../m.safetensors"], "m", None) == ([], None)
    shards = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors", "m.safetensors.index.json"]
    assert choose(shards, "m", None) == (shards[:2], None)
    assert choose(shards[1:], "m", None) == ([], None), "one is missing"
    half = ["m.fp16-00001-of-00001.safetensors", "m.safetensors.index.fp16.json"]
    assert choose(half + shards, "m", "fp16") == (half[:1], "fp16")


def test_a_variant_is_loaded(torch_engine, catalog, spec, copy):
    from generation.engine.request.request import build_request

    for part, stem in FAMILIES["sd"].weight_stems.items():
        file = copy / part / f"{stem}.safetensors"
        save_file(
            {name: tensor.half() for name, tensor in load_file(file).items()},
            file.with_name(f"{stem}.fp16.safetensors"),
            metadata={"format": "pt"},
        )
        file.unlink()
    half = at(spec, copy, key="half", variant="fp16")
    torch_engine.catalog = extended(catalog, half)
    assert torch_engine.submit(build_request(half, prompt="a cat", steps=1)).result(30)


def test_the_hash_is_that_of_the_unets_file(spec, models):
    files = model_files.weight_files(spec, model_files.locate(spec), "unet")
    assert model_files.weights_hash(files) == hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert model_files.weights_hash(files * 2) != model_files.weights_hash(files)


def test_the_budget_keeps_the_models_used_last(catalog):
    from generation.engine.networks.loader import ModelManager

    first = ModelManager(device="cpu", allow_download=False)
    size = first.get(catalog.get("sd1")).nbytes
    manager = ModelManager(device="cpu", allow_download=False, memory_budget=int(size * 2.5))
    for key in ("sd1", "sd2", "sd1", "other"):
        manager.get(catalog.get(key))
    assert manager.resident() == ["sd1", "other"]
    tight = ModelManager(device="cpu", allow_download=False, memory_budget=1)
    for key in ("sd1", "sd2"):
        assert tight.get(catalog.get(key)).spec.key == key
    assert tight.resident() == ["sd2"]


def test_preload_says_the_source_and_fails_loudly(catalog, models, spec):
    from generation.engine.networks.loader import ModelManager

    manager = ModelManager(device="cpu", allow_download=False, cache_dir="/nowhere")
    assert manager.preload(spec).name == str(models["sd1"])
    with pytest.raises(ModelUnavailable) as caught:
        manager.preload(at(spec, "somebody/something", key="hub"))
    assert caught.value.details == ["somebody/something: not downloaded, and downloading is switched off"]


class Hub(BaseHTTPRequestHandler):
    """As much of huggingface.co as the client asks for. `root` holds `<owner>/<name>/` folders."""

    root, sha = None, "0123456789abcdef0123456789abcdef01234567"
    requests: list = []
    lies: dict = {}
    """What the listing says of a file's SHA-256, by name, where that is wrong."""

    def do_GET(self):
        self.requests.append((self.path, self.headers.get("authorization")))
        path = self.path.split("?")[0].strip("/").split("/")
        if path[:2] == ["api", "models"]:
            return self._listing(self.root / "/".join(path[2:4]))
        file = self.root / "/".join(path[:2]) / "/".join(path[4:])
        return self._send(file.read_bytes(), file) if file.is_file() else self.send_error(404)

    do_HEAD = do_GET

    def _listing(self, folder):
        if not folder.is_dir():
            return self.send_error(404)
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        siblings = [
            {"rfilename": str(file.relative_to(folder)), "size": file.stat().st_size, **self._stored_large(file)}
            for file in files
        ]
        body = {
            "id": "test/sd1",
            "modelId": "test/sd1",
            "sha": self.sha,
            "siblings": siblings,
            "tags": [],
            "private": False,
            "downloads": 0,
        }
        return self._send(json.dumps(body).encode())

    def _stored_large(self, file):
        if file.suffix != ".safetensors":
            return {}
        sha = self.lies.get(file.name) or hashlib.sha256(file.read_bytes()).hexdigest()
        return {"lfs": {"sha256": sha, "size": file.stat().st_size, "pointerSize": 134}}

    def _send(self, body, file=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if file:
            self.send_header("X-Repo-Commit", self.sha)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, models):
    shutil.copytree(models["sd1"], tmp_path / "hub" / "test" / "sd1")
    Hub.root, Hub.requests, Hub.lies = tmp_path / "hub", [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


FETCH = """
import json, sys
from generation.engine.catalog import model_files
from generation.engine.catalog.models import local_model
from dataclasses import replace
spec = replace(local_model("sd1", "x"), sources=("test/missing", "test/sd1"), variant="fp16")
fractions = []
kind = sys.argv[2]
def on_fraction(fraction):
    fractions.append(fraction)
    if kind == "cancel":
        raise RuntimeError("cancelled by the test")
before = model_files.is_ready(spec, cache_dir=sys.argv[1])
try:
    weights = model_files.fetch(spec, cache_dir=sys.argv[1], hf_token="hf_secret", on_fraction=on_fraction)
except model_files.ModelUnavailable as error:
    sys.exit("; ".join(error.details))
assert "torch" not in sys.modules
after = model_files.is_ready(spec, cache_dir=sys.argv[1])
print(json.dumps([before, weights.name, str(weights.path), fractions[-1], after]))
"""


def fetch(hub, cache, kind="all"):
    return subprocess.run(
        [sys.executable, "-c", FETCH, str(cache), kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "HF_ENDPOINT": hub,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        },
    )


def test_a_model_is_fetched_from_the_first_hub_id_that_has_it(hub, tmp_path, spec):
    (tmp_path / "hub/test/sd1/unet/pytorch_model.bin").write_bytes(b"never asked for")
    result = fetch(hub, tmp_path / "cache")
    assert result.returncode == 0, result.stderr
    before, name, path, fraction, after = json.loads(result.stdout)
    assert (before, name, fraction, after) == (False, "test/sd1", 1.0, True)
    assert model_files.locate(at(spec, path)).path == Path(path)
    assert not [url for url, _ in Hub.requests if url.endswith((".bin", "model_index.json"))]
    assert "Bearer hf_secret" in {authorization for _, authorization in Hub.requests}
    assert "hf_secret" not in result.stdout + result.stderr


def test_a_download_can_be_broken_off(hub, tmp_path):
    result = fetch(hub, tmp_path / "cache", "cancel")
    assert "cancelled by the test" in result.stderr


def test_a_hub_that_is_away_is_said_plainly(hub, tmp_path):
    shutil.rmtree(tmp_path / "hub" / "test")
    result = fetch(hub, tmp_path / "cache")
    assert "test/missing: " in result.stderr and "test/sd1: " in result.stderr


def test_a_hub_that_cannot_be_reached_is_no_riddle(tmp_path):
    result = fetch("http://127.0.0.1:9", tmp_path / "cache")
    assert result.returncode and result.stderr.splitlines()[-1].count("the Hub cannot be reached") == 2


def test_a_download_that_is_not_what_the_hub_lists_is_refused_and_not_kept(hub, tmp_path):
    Hub.lies = {"model.safetensors": "0" * 64}
    result = fetch(hub, tmp_path / "cache")
    assert result.returncode and "did not arrive as the Hub lists it" in result.stderr
    Hub.lies = {}
    result = fetch(hub, tmp_path / "cache")
    assert result.returncode == 0 and json.loads(result.stdout)[0] is False, result.stderr


OTHERS = """
import sys
from dataclasses import replace
from generation.engine.catalog import model_files
from generation.engine.catalog.models import Download, local_model
cache, models_dir = sys.argv[1:]
spec = replace(local_model("fast", "x"), sources=("test/sd1",), unet=("test/other:fast_unet.safetensors",))
weights = model_files.fetch(spec, cache_dir=cache)
print(weights.path.name, weights.unet.name, model_files.locate(spec, cache_dir=cache) == weights)
addon = Download("lcm", "", "test/other", (("fast_unet.safetensors", "loras/lcm.safetensors"),), "")
print(model_files.fetch_addon(addon, models_dir), model_files.fetch_addon(addon, models_dir))
missing = Download("no", "", "test/other", (("no.safetensors", "loras/no.safetensors"),), "")
try:
    model_files.fetch_addon(missing, models_dir)
except model_files.ModelUnavailable as error:
    print(error.details)
"""


def test_another_unet_and_add_ons_are_fetched_too(hub, tmp_path):
    other = tmp_path / "hub" / "test" / "other"
    other.mkdir()
    shutil.copy(tmp_path / "hub/test/sd1/unet/diffusion_pytorch_model.safetensors", other / "fast_unet.safetensors")
    result = subprocess.run(
        [sys.executable, "-c", OTHERS, str(tmp_path / "cache"), str(tmp_path / "models")],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env=os.environ | {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"},
    )
    assert result.returncode == 0, result.stderr
    first, second, third = result.stdout.splitlines()
    assert first == f"{Hub.sha} fast_unet.safetensors True" and second == "True False"
    assert third == "['test/other: 'no.safetensors'']" or "no.safetensors" in third
    assert [file.name for file in (tmp_path / "models").rglob("*") if file.is_file()] == ["lcm.safetensors"]
    paths = [path for path, _ in Hub.requests]
    assert not [path for path in paths if "sd1" in path and path.endswith("unet/diffusion_pytorch_model.safetensors")]


class TestPinnedHashes:
    """`ModelSpec.hashes`: what an operator has looked up for the files of a model."""

    UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"

    @pytest.fixture
    def pinned(self, spec, copy):
        """The copy in a catalogue with these hashes, by file."""

        def make(**changes):
            right = {name: hashlib.sha256((copy / name).read_bytes()).hexdigest() for name in (self.UNET, self.TEXT)}
            return at(spec, copy, key="pinned", hashes=tuple((right | changes).items()))

        return make

    def test_with_the_right_ones_it_draws_and_is_ready(self, torch_engine, catalog, pinned, monkeypatch, capsys):
        spec = pinned()
        torch_engine.catalog = extended(catalog, spec)
        assert torch_engine.submit(build_request(spec, prompt="a cat", steps=1)).result(60)
        self.offer(monkeypatch, spec)
        call_command("preload_models", "--models", "pinned", "--check")
        assert "2 of 3 weight files have the hash they should" in capsys.readouterr().out

    def test_with_a_wrong_one_it_is_refused_and_the_file_is_named(
        self, torch_engine, catalog, pinned, copy, monkeypatch, capsys
    ):
        spec = pinned(**{self.TEXT: "0" * 64})
        torch_engine.catalog = extended(catalog, spec)
        with pytest.raises(ModelUnavailable, match="damaged") as caught:
            torch_engine.submit(build_request(spec, prompt="a cat", steps=1)).result(60)
        assert str(copy / self.TEXT) in caught.value.details[0] and "0" * 64 in caught.value.details[0]
        assert torch_engine.submit(build_request(catalog.get("sd1"), prompt="a cat", steps=1)).result(60)
        self.offer(monkeypatch, spec)
        with pytest.raises(CommandError, match="pinned"):
            call_command("preload_models", "--models", "pinned", "--check")
        assert str(copy / self.TEXT) in capsys.readouterr().err

    def test_a_file_that_changes_is_read_again(self, pinned, copy):
        spec = pinned()
        assert model_files.fetch(spec, allow_download=False)
        save_file({name: tensor + 1 for name, tensor in load_file(copy / self.UNET).items()}, copy / self.UNET)
        with pytest.raises(ModelUnavailable) as caught:
            model_files.fetch(spec, allow_download=False)
        assert self.UNET in caught.value.details[0]

    def test_a_single_file_is_pinned_by_its_name(self, spec, copy):
        file = copy / self.UNET
        right = hashlib.sha256(file.read_bytes()).hexdigest()
        single = at(spec, file, hashes=((file.name, right),))
        assert model_files.check_hashes(single, model_files.fetch(single)) == 1
        with pytest.raises(ModelUnavailable):
            model_files.fetch(replace(single, hashes=((file.name, "0" * 64),)))

    def offer(self, monkeypatch, spec):
        monkeypatch.setattr("generation.management.commands.preload_models.catalog", lambda: Catalog([spec]))


def test_a_built_in_model_with_one_byte_changed_is_not_loaded(tmp_path):
    """In a copy of the library, whose own files they then are."""
    shutil.copytree(ROOT / "generation" / "engine", tmp_path / "generation" / "engine")
    (tmp_path / "generation" / "__init__.py").touch()
    unet = tmp_path / "generation/engine/sketch/weights/unet/diffusion_pytorch_model.safetensors"
    fetch = (
        "from generation.engine.catalog import model_files, models\n"
        "print(model_files.fetch(models.Catalog().get('dreamsketch-tiny')).path)"
    )

    def run():
        return subprocess.run([sys.executable, "-c", fetch], cwd=tmp_path, capture_output=True, text=True)

    whole = run()
    assert whole.returncode == 0 and str(tmp_path) in whole.stdout, whole.stderr
    content = bytearray(unet.read_bytes())
    content[len(content) // 2] ^= 1
    unet.write_bytes(content)
    damaged = run()
    assert damaged.returncode != 0 and "ModelUnavailable" in damaged.stderr, damaged.stdout
