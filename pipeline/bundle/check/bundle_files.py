"""Check which files a bundle has, and that none is too large for the Model Zoo."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.bundle.config_files import DOWNLOADS, read_downloads
from pipeline.issues import Issue

_REQUIRED = {
    "LICENSE": "the licence of configs and weights, which the Model Zoo and receivers ask for",
    "configs/metadata.json": "versions, authors, and the format of the network's input and output",
    "docs/README.md": "the model card",
}
_CONFIGS = ("configs/train.json", "configs/inference.json")
# The largest file that the Model Zoo takes.
_MOST_BYTES = 25_000_000
_CODE = (".py", ".so", ".pyd", ".dll", ".ipynb")


def check_files(bundle: Path) -> Iterator[Issue]:
    """Yield files that are missing, too large, or code.

    Args:
        bundle: folder of the bundle.
    """
    for name, purpose in _REQUIRED.items():
        if not (bundle / name).is_file():
            yield Issue("missing-file", "error", f"there is no {name}", path=name, hint=f"it holds {purpose}")
    for name in _CONFIGS:
        if not (bundle / name).is_file():
            level = "error" if not any((bundle / other).is_file() for other in _CONFIGS) else "warning"
            hint = "MONAI's clients read that file"
            yield Issue("missing-file", level, f"there is no {name}", path=name, hint=hint)  # type: ignore[arg-type]
    downloads = bundle / DOWNLOADS
    named = read_downloads(downloads.read_bytes()) if downloads.is_file() else {}
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        if name.startswith("output/") or name in named or not path.is_file():
            continue
        if path.suffix in _CODE:
            hint = "put it into a package that is installed, and name its classes in full in _target_"
            yield Issue("code", "error", f"{name} is code, which a receiver cannot trust", path=name, hint=hint)
        elif path.stat().st_size > _MOST_BYTES:
            megabytes = f"{path.stat().st_size / 1e6:.0f} MB, more than {_MOST_BYTES / 1e6:.0f} MB"
            hint = "the Model Zoo wants it on a server: large_files.yml with path, url, hash_val, hash_type sha256"
            yield Issue("large-file", "warning", f"{name} has {megabytes}", path=name, hint=hint)
