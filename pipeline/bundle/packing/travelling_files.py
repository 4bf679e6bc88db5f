"""Choose the files of a bundle that travel, and make their settings hold wherever a receiver unpacks them."""

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.bundle.config_files import DOWNLOADS, MANIFEST, METADATA, read_downloads, read_json
from pipeline.bundle.formatting import format_config
from pipeline.issues import InputError

WEIGHTS, SAFE_WEIGHTS = "models/model.pt", "models/model.safetensors"
MANIFEST_PATH = f"configs/{MANIFEST}"
RUN_RECORD = "run.json"
_TRAVELLING = ("LICENSE*", "NOTICE*", "CITATION*", DOWNLOADS, "configs/**/*", "docs/**/*", "models/**/*")
_TEXTS = (".json", ".yaml", ".yml", ".conf", ".md", ".txt", ".csv", ".cff", "")
_IN_BUNDLE = f"$@bundle_root + '/{MANIFEST_PATH}'"


def collect_files(bundle: Path, manifest: Path | None = None) -> dict[str, bytes]:
    """Return the files of a bundle that travel, by path with slashes.

    Weights that a receiver downloads, run records, hidden files and outputs stay at home. In configs ``bundle_root`` is
    ``.``, as in MONAI's zoo: right in the bundle's folder, and `pipeline.bundle.StartupCheck` finds it from elsewhere.

    Args:
        bundle: its folder.
        manifest: travels as ``configs/manifest.json``, and the configs name it.

    Raises:
        InputError: a config or the manifest cannot be read, or weights differ from their digest in large_files.yml.
    """
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in _find(bundle)}
    for path, digest in read_downloads(files.get(DOWNLOADS, b"")).items():
        if path in files and hashlib.sha256(files.pop(path)).hexdigest() != digest:
            raise InputError(
                f"{bundle / path} is not the file that {DOWNLOADS} names; write its SHA-256 into hash_val there"
            )
    if manifest is not None:
        read_json(manifest)
        files[MANIFEST_PATH] = manifest.read_bytes()
    for path in files:
        if Path(path).suffix in _TEXTS:
            files[path] = files[path].replace(b"\r\n", b"\n")
        if path.startswith("configs/") and path.endswith(".json") and Path(path).name not in (MANIFEST, METADATA):
            files[path] = _adapt_config(bundle / path, files[path], given=manifest is not None)
    return files


def _find(bundle: Path) -> Iterator[Path]:
    found = {path for pattern in _TRAVELLING for path in bundle.glob(pattern)}
    for path in sorted(found):
        hidden = any(part[0] == "." for part in path.relative_to(bundle).parts)
        if path.is_file() and not hidden and path.name != RUN_RECORD:
            yield path


def _adapt_config(path: Path, content: bytes, *, given: bool) -> bytes:
    config = read_json(path)
    before = dict(config) if isinstance(config, dict) else {}
    changed = {**before, **({"bundle_root": "."} if "bundle_root" in before else {})}
    if given and isinstance(before.get("manifest"), str):
        changed["manifest"] = _IN_BUNDLE
    return content if changed == before else format_config(changed).encode()


def list_left_out(bundle: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return the files and top folders of a bundle of which nothing travels."""
    tops = {path.partition("/")[0] for path in files}
    return sorted(path.name for path in bundle.iterdir() if path.name not in tops)


def add_safe_weights(files: dict[str, bytes]) -> None:
    """Add ``model.safetensors`` beside ``model.pt``, or the other way round, if there are weights.

    Raises:
        InputError: the weights cannot be read, or are no state dict.
    """
    import safetensors.torch
    import torch

    from pipeline.weights import read_weights

    if WEIGHTS not in files and SAFE_WEIGHTS not in files:
        return
    if WEIGHTS not in files:
        buffer = io.BytesIO()
        torch.save(safetensors.torch.load(files[SAFE_WEIGHTS]), buffer)
        files[WEIGHTS] = buffer.getvalue()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        path.write_bytes(files[WEIGHTS])
        state = {name: tensor.contiguous().clone() for name, tensor in read_weights(path).items()}
    files[SAFE_WEIGHTS] = safetensors.torch.save(state)


def write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
