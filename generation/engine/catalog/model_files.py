"""Model files: local folders, the Hub client's cache, downloads, safetensors checks and SHA-256. No torch: the web
asks too.

Only safetensors count. A folder that holds pickles alone is treated as if it held nothing, because
unpickling a file runs whatever its author wrote into it.

    is_ready(spec, models_dir="/models")              -> True when nothing needs to be downloaded
    fetch(spec, models_dir="/models").path            -> Path, downloading if need be
"""

import hashlib
import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from generation.engine.errors import ModelUnavailable
from generation.engine.sketch import expected_sums

from .families import FAMILIES
from .models import Download, ModelSpec

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 8 * 2**20
MAX_TENSORS = 20_000
HUB_SECONDS = 10
"""How long the Hub may take to say what a model consists of."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model was found: `name` as written in the catalogue, `path` a folder or .safetensors file.

    `unet`: the file of the UNet, where the catalogue names another one than the model's own.
    """

    name: str
    path: Path
    unet: Path | None = None

    def __str__(self) -> str:
        return self.name


def locate(
    spec: ModelSpec, *, models_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> Source | None:
    """The first complete source of `spec` on this machine, or None.

    Looked at in order: local paths of the catalogue, `<models_dir>/<key>`, then what the Hub client has
    in its cache (`cache_dir`, or its own default). Reads directory entries only, no weights.
    """
    unet = _locate_unet(spec, models_dir, cache_dir)
    if spec.unet and unet is None:
        return None
    for name in _candidates(spec, models_dir):
        path = Path(name)
        if _is_single_file(path) or _is_complete(spec, path):
            return Source(name, path, unet)
    for name in _hub_ids(spec):
        path = _cached_snapshot(spec, name, cache_dir)
        if path and _is_complete(spec, path):
            return Source(name, path, unet)
    return None


def is_ready(spec: ModelSpec, *, models_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> bool:
    """Whether the model can be loaded without a network."""
    return locate(spec, models_dir=models_dir, cache_dir=cache_dir) is not None


def fetch(
    spec: ModelSpec,
    *,
    models_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    allow_download: bool = True,
    hf_token: str | None = None,
    on_fraction: Callable[[float], None] = lambda fraction: None,
) -> Source:
    """Find the model here, else download it from the first Hub id that has it.

    `on_fraction` is called with 0.0 to 1.0 while bytes arrive; what it raises ends the download. Raises
    ModelUnavailable, whose `details` say what is wrong with each source; also when a file is damaged.
    """
    if spec.family not in FAMILIES:
        reason = f"no engine here runs the family {spec.family}"
        raise ModelUnavailable(f"{spec.title} cannot be run here.", [reason])
    source = locate(spec, models_dir=models_dir, cache_dir=cache_dir)
    tried = [f"{name}: no complete safetensors model there" for name in _candidates(spec, models_dir)]
    tried += [f"{name}: neither an absolute path nor the id of a Hub repository" for name in invalid_sources(spec)]
    if source is None and allow_download:
        for name in _hub_ids(spec):
            try:
                unet = _locate_unet(spec, models_dir, cache_dir)
                source = _download(spec, name, unet, cache_dir, hf_token, on_fraction)
                break
            except (OSError, ValueError, ModelUnavailable) as error:
                log.warning("Cannot download %s from %s: %s", spec.key, name, error)
                tried.append(f"{name}: {_first_line(error)}")
    elif source is None:
        tried += [f"{name}: not downloaded, and downloading is switched off" for name in _hub_ids(spec)]
    if source is None:
        raise ModelUnavailable(f"{spec.title} is not available here.", tried)
    for file in weight_files(spec, source):
        check_safetensors(file)
    _check_pinned(spec, source)
    return source


def weight_files(spec: ModelSpec, source: Source, part: str | None = None) -> list[Path]:
    """The weight files of one part of the model, or of all parts, in a fixed order."""
    path = source.path
    if path.is_file():
        return [path]
    stems = FAMILIES[spec.family].weight_stems
    files = []
    for name in [part] if part else stems:
        if name == "unet" and source.unet:
            files.append(source.unet)
            continue
        chosen, _ = choose_weights(_names_in(path / name), stems[name], spec.variant)
        files += [path / name / file for file in chosen]
    return files


def main_part(spec: ModelSpec) -> str:
    """The part that draws, whose hash names the model: `unet` or `transformer`."""
    return FAMILIES[spec.family].denoiser.name


def check_hashes(spec: ModelSpec, source: Source, on_fraction: Callable[[float], None] = lambda fraction: None) -> int:
    """Read all weight files and compare them with what their SHA-256 should be; returns for how many it is known.

    Known are those in `spec.hashes`, and files in the Hub client's cache, which are named by it. Raises
    ModelUnavailable, saying which file differs.
    """
    files = weight_files(spec, source)
    sizes = [file.stat().st_size for file in files]
    known = done = 0
    for file, size in zip(files, sizes, strict=True):
        digest = _sha256_of(file)
        done += size
        on_fraction(done / max(sum(sizes), 1))
        expected = _pinned(spec, source, file) | _shipped(file)
        if re.fullmatch("[0-9a-f]{64}", file.resolve().name):
            expected.add(file.resolve().name)
        if expected - {digest}:
            raise _wrong_digest(file, digest, expected)
        known += bool(expected)
    return known


def _check_pinned(spec: ModelSpec, source: Source) -> None:
    """Refuse weight files that differ from `spec.hashes`, or of the built-in model from what was shipped.

    Each is read once for as long as it stays the same.
    """
    for file in weight_files(spec, source):
        _check_digest(file, _pinned(spec, source, file) | _shipped(file))


def check_shipped(file: Path) -> None:
    """Refuse a file of weights of this repository that is not as it was shipped. Raises ModelUnavailable."""
    _check_digest(file, _shipped(file))


def _check_digest(file: Path, expected: set[str]) -> None:
    if expected and expected != {digest := _cached_sha256(file.resolve())}:
        raise _wrong_digest(file, digest, expected)


def _shipped(file: Path) -> set[str]:
    """What the SHA-256 of a file is that came with this repository; nothing for others."""
    digest = expected_sums().get(file)
    return {digest} if digest else set()


def _pinned(spec: ModelSpec, source: Source, file: Path) -> set[str]:
    """The SHA-256 that `spec.hashes` gives for a weight file."""
    inside = file != source.path and file.is_relative_to(source.path)
    path = file.relative_to(source.path).as_posix() if inside else file.name
    return {value.lower() for name, value in spec.hashes if name == path}


def choose_weights(names: Iterable[str], stem: str, variant: str | None) -> tuple[list[str], str | None]:
    """Of the file names in a part's folder, those to load, and the variant that they are.

    The wanted variant comes first, then the plain files; whole before sharded. `([], None)` if there are
    no safetensors, or if some of their shards are missing.
    """
    names = set(names)
    for tag, tag_variant in ((f".{variant}", variant), ("", None)) if variant else (("", None),):
        whole = f"{stem}{tag}.safetensors"
        if whole in names:
            return [whole], tag_variant
        pattern = re.compile(rf"{re.escape(stem + tag)}-\d{{5}}-of-(\d{{5}})\.safetensors")
        shards = {name: int(match[1]) for name in names if (match := pattern.fullmatch(name))}
        indexed = f"{stem}.safetensors.index{tag}.json" in names
        if indexed and set(shards.values()) == {len(shards)}:
            return sorted(shards), tag_variant
    return [], None


def check_safetensors(file: Path) -> int:
    """Refuse a file that is not whole, well-formed safetensors; return how many numbers it holds.

    Raises ModelUnavailable.

    Reads the header only. The format: eight bytes of little-endian length, that much JSON, then the data
    (huggingface/safetensors, README "Format").
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise _damaged(file, "is not a safetensors file")
        try:
            header = json.loads(stream.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            end = max(entry["data_offsets"][1] for entry in tensors)
            values = sum(math.prod(entry["shape"]) for entry in tensors)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise _damaged(file, "is not a safetensors file") from None
    if len(tensors) > MAX_TENSORS or 8 + length + end != size:
        raise _damaged(file, "is damaged or was not downloaded to its end")
    return values


def _damaged(file: Path, problem: str) -> ModelUnavailable:
    return ModelUnavailable("The files of this model are damaged.", [f"{file} {problem}"])


def _wrong_digest(file: Path, digest: str, expected: set[str]) -> ModelUnavailable:
    return _damaged(file, f"has the SHA-256 {digest}, and should have {' and '.join(sorted(expected))}")


def weights_hash(files: list[Path]) -> str:
    """SHA-256 in hex of one weight file, or of the concatenated digests of several.

    For one whole file this is the number that Civitai and A1111 show (they cut it to ten digits).
    """
    digests = [_sha256(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


_digests: dict[tuple, str] = {}


def _sha256(file: Path) -> str:
    real = file.resolve()
    if re.fullmatch("[0-9a-f]{64}", real.name):
        return real.name  # the Hub cache names its large files by their SHA-256
    return _cached_sha256(real)


def _cached_sha256(real: Path) -> str:
    stat = real.stat()
    key = (real, stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        _digests[key] = _sha256_of(real)
    return _digests[key]


def _sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _candidates(spec, models_dir) -> list[str]:
    local = [name for name in spec.sources if Path(name).is_absolute()]
    if models_dir:
        folder = Path(models_dir).absolute()
        local += [str(folder / key) for key in (spec.key, spec.based_on) if key]
    return local


def _locate_unet(spec, models_dir, cache_dir) -> Path | None:
    """The file of the catalogue's own UNet for this model, where it names one that is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    for name in spec.unet:
        repository, _, file = name.partition(":")
        paths = [Path(name)] if Path(name).is_absolute() else [Path(models_dir).absolute() / file] if models_dir else []
        if _is_hub_id(repository):
            cached = try_to_load_from_cache(repository, file, cache_dir=cache_dir)
            paths += [Path(cached)] if isinstance(cached, str) else []
        for path in paths:
            if _is_single_file(path):
                return path
    return None


def _hub_ids(spec) -> list[str]:
    return [name for name in spec.sources if _is_hub_id(name)]


def invalid_sources(spec: ModelSpec) -> list[str]:
    """Sources that nothing can be had from, such as relative paths. The Hub's client would raise for them."""
    return [name for name in spec.sources if not (Path(name).is_absolute() or _is_hub_id(name))]


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _is_single_file(path) -> bool:
    # The exact suffix: loaders that fold case have been led to unpickle a ".Safetensors".
    return path.suffix == ".safetensors" and path.is_file()


def _is_complete(spec, path) -> bool:
    family = FAMILIES.get(spec.family)
    if family is None or not path.is_dir():
        return False
    optional = family.optional_parts
    for part, stem in family.weight_stems.items():
        names = _names_in(path / part)
        weights = choose_weights(names, stem, spec.variant)[0] or (part == "unet" and spec.unet)
        if not ("config.json" in names and weights) and part not in optional:
            return False
    return all(_names_in(path / part) for part in family.plain_parts if part not in optional)


def _names_in(folder) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _cached_snapshot(spec, repository, cache_dir) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if spec.family not in FAMILIES:
        return None
    config = try_to_load_from_cache(
        repository, f"{main_part(spec)}/config.json", cache_dir=cache_dir, revision=spec.revision
    )
    return Path(config).parent.parent if isinstance(config, str) else None


def _listing(api, repository: str, revision: str | None = None):
    """What the Hub says of a repository and its files. Raises OSError or ValueError where it does not."""
    import httpx2  # what the Hub's client connects with; its errors on the way there are no OSError

    try:
        return api.model_info(repository, revision=revision, files_metadata=True, timeout=HUB_SECONDS)
    except httpx2.RequestError as error:
        raise ConnectionError(f"the Hub cannot be reached: {error}") from error


def _download(spec, repository, unet, cache_dir, token, on_fraction) -> Source:
    from huggingface_hub import HfApi, hf_hub_download

    api = HfApi(token=token)
    info = _listing(api, repository, spec.revision)
    listed = {(repository, entry.rfilename): entry for entry in info.siblings}
    downloads = [(repository, name) for name in _needed_files(spec, [name for _, name in listed])]
    if spec.unet and unet is None:
        other, _, file = next((name for name in spec.unet if _is_hub_id(name.partition(":")[0])), "").partition(":")
        if not other:
            raise ModelUnavailable(f"nowhere to have the UNet from: {' and '.join(spec.unet)}")
        listed |= {(other, entry.rfilename): entry for entry in _listing(api, other).siblings}
        if (other, file) not in listed:
            raise ModelUnavailable(f"{other} has no file “{file}”")
        downloads.append((other, file))
    meter = _meter(sum(listed[entry].size or 0 for entry in downloads), on_fraction)
    for origin, name in downloads:
        # By branch and not by commit: the cache then knows the branch, and finds it without a network.
        path = Path(
            hf_hub_download(
                origin,
                name,
                revision=spec.revision if origin == repository else None,
                cache_dir=cache_dir,
                token=token,
                tqdm_class=meter,
            )
        )
        _compare_with_hub(path, listed[origin, name])
        if origin == repository:
            folder = path.parents[name.count("/")]
        else:
            unet = path
    if not _is_complete(spec, folder):
        raise ModelUnavailable("it changed while it was being downloaded")
    return Source(repository, folder, unet)


def _compare_with_hub(path: Path, entry) -> None:
    """Refuse a download that is not what the Hub lists; it must not be found in the cache the next time."""
    lfs = entry.lfs or {}
    expected = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    if expected and _sha256_of(path) != expected:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise ModelUnavailable(f"{entry.rfilename} did not arrive as the Hub lists it")


def fetch_addon(
    addon: Download,
    models_dir: str | Path,
    *,
    allow_download: bool = True,
    hf_token: str | None = None,
    on_fraction: Callable[[float], None] = lambda fraction: None,
) -> bool:
    """Download a well-known add-on into the models' folder. False where it was there. Raises ModelUnavailable."""
    from huggingface_hub import HfApi, hf_hub_download

    targets = {name: Path(models_dir, path) for name, path in addon.files}
    missing = {name: target for name, target in targets.items() if not target.is_file()}
    if missing and not allow_download:
        raise ModelUnavailable(
            f"{addon.key} is not installed.", [f"{target} is missing" for target in missing.values()]
        )
    try:
        if missing:
            info = _listing(HfApi(token=hf_token), addon.repository)
            listed = {entry.rfilename: entry for entry in info.siblings}
            meter = _meter(sum(listed[name].size or 0 for name in missing), on_fraction)
        for name, target in missing.items():
            # Downloaded beside its target and moved there whole: what lies there is complete.
            part = target.parent / f".{target.name}.download"
            try:
                path = Path(hf_hub_download(addon.repository, name, local_dir=part, token=hf_token, tqdm_class=meter))
                _compare_with_hub(path, listed[name])
                path.replace(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnavailable(
            f"{addon.key} cannot be downloaded.", [f"{addon.repository}: {_first_line(error)}"]
        ) from None
    for target in targets.values():
        if target.suffix == ".safetensors":
            check_safetensors(target)
    return bool(missing)


def _needed_files(spec: ModelSpec, names: list[str]) -> list[str]:
    """Of the files in a repository, those that loading reads. Raises ModelUnavailable where weights are missing."""
    needed = []
    family = FAMILIES[spec.family]
    for part, stem in family.weight_stems.items():
        inside = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        if not (part == "unet" and spec.unet):
            weights, _ = choose_weights(inside, stem, spec.variant)
            if not weights and part not in family.optional_parts:
                raise ModelUnavailable(f"it has no safetensors weights for “{part}”")
            needed += [f"{part}/{name}" for name in weights]
        configs = [name for name in inside if name == "config.json" or ".safetensors.index" in name]
        needed += [f"{part}/{name}" for name in configs]
    # It says what SDXL makes of an empty negative prompt.
    needed += [name for name in names if name == "model_index.json" and family.zero_empty_negative]
    for part in family.plain_parts:
        needed += [name for name in names if name.startswith(f"{part}/") and name.endswith((".json", ".txt", ".model"))]
    return needed


def _meter(total, on_fraction):
    """A tqdm class that prints nothing and adds up the bytes of all files."""
    from tqdm import tqdm

    done = 0

    class Meter(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs | {"disable": True})

        def update(self, n=1):
            nonlocal done
            done += n or 0
            on_fraction(min(done / total, 1.0) if total else 0.0)

    return Meter


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
