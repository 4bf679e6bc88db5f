"""Read and write manifests as JSON files."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.manifests.schema import parse_manifest
from pipeline.issues import InputError, summarise

_HEAD = (
    *("schema_version", "name", "layout", "task", "licence", "source", "citations"),
    *("labels", "mask_values", "channels", "spacing_policy"),
)
_KEPT = "nothing was written; --overwrite replaces it, or choose another -o"
# Keys that are written unless they have their default, which most manifests do.
_OPTIONAL: dict[str, Any] = {
    **{"stacking": "slices", "mask_type": "semantic", "binarize": None, "color_map": {}},
    **{"ignore_index": None, "intensity_range": None, "coco": None},
}


def read_manifest(path: str | os.PathLike[str], root: Path | None = None) -> Manifest:
    """Read a manifest.

    Args:
        path: the JSON file.
        root: the dataset's folder, an absolute path; with it, absolute paths inside it are allowed.

    Returns:
        The manifest, its syntax and schema checked. `pipeline.datasets.checks.integrity` and `load_datalist` check
        whether the files exist.

    Raises:
        InputError: the file is missing or unreadable, not JSON, or not a manifest; one line with the place.
    """
    manifest, issues = parse_manifest(read_bytes(path), root)
    errors = [issue for issue in issues if issue.severity == "error"]
    if manifest is None or errors:
        raise InputError(f"{path}: {summarise(errors)}")
    return manifest


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a manifest file; raise `InputError` if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        card = Path(f"{os.path.splitext(path)[0]}.yaml")
        hint = f"{card} says how to build it" if card.is_file() else "pipeline dataset build makes one"
        hint = f"{hint}, the suite's are in data_manifests/"
        raise InputError(f"cannot read the manifest {path}: {reason}; {hint}") from None


def write_manifest(manifest: Manifest, path: str | os.PathLike[str]) -> Path:
    """Write a manifest as JSON with one line per file, for readable diffs, and return its path.

    The file is replaced as a whole, so a crash never leaves half a manifest; its folder is created.
    """
    target = Path(path)
    with write_atomically(target) as stream:
        stream.write(dump_manifest(manifest))
    return target


def require_replaceable(path: Path) -> None:
    """Refuse, before a dataset is read, to write a manifest over a file that it would not be equal to.

    Raises:
        InputError: the file exists and holds folds or named splits, which only a split makes, or is not a manifest.
    """
    if not path.exists():
        return
    manifest, _ = parse_manifest(read_bytes(path))
    if manifest is None:
        raise InputError(f"{path} exists and is not a manifest; {_KEPT}")
    if manifest.named_splits or any(case.fold is not None for case in manifest.cases):
        raise InputError(f"{path} exists and holds folds or named splits, which would be lost; {_KEPT}")


def write_new_manifest(manifest: Manifest, path: Path, *, overwrite: bool = False) -> Path:
    """Write a manifest where none is, or an equal one; with ``overwrite`` over another one too.

    Raises:
        InputError: the file exists and differs.
    """
    if not overwrite and path.exists() and read_bytes(path) != dump_manifest(manifest).encode():
        raise InputError(f"{path} exists and differs; {_KEPT}")
    return write_manifest(manifest, path)


def dump_manifest(manifest: Manifest) -> str:
    """Return the JSON text of a manifest, ending in a line break; equal manifests give equal text."""
    head = {key: getattr(manifest, key) for key in _HEAD}
    head |= {key: getattr(manifest, key) for key, default in _OPTIONAL.items() if getattr(manifest, key) != default}
    lines = [f"  {_json(key)}: {_json(value)}," for key, value in head.items()]
    # The only part of the head that grows, so it is spread over lines.
    named = json.dumps(manifest.named_splits, ensure_ascii=False, allow_nan=False, indent=2)
    lines.append(f'  "named_splits": {named},'.replace("\n", "\n  "))
    blocks = [",\n".join(_case_lines(case)) for case in manifest.cases]
    cases = ",\n".join(f"    {{\n{block}\n    }}" for block in blocks)
    return "\n".join(["{", *lines, '  "cases": [', cases, "  ]", "}", ""])


def _case_lines(case: Case) -> Iterator[str]:
    for key in ("case_id", "subject", "split", "fold"):
        yield f'      "{key}": {_json(getattr(case, key))}'
    yield f'      "facts": {_json(dict(case.facts))}'
    for key, paths in (("image", case.image), ("label", case.label)):
        if paths is not None:
            rows = ",\n".join(f"        {_json(_file_entry(path, case.sha256))}" for path in paths)
            yield f'      "{key}": [\n{rows}\n      ]'


def _file_entry(path: str, sha256: Mapping[str, str]) -> str | dict[str, str]:
    digest = sha256.get(split_fragment(path)[0])
    return {"path": path, "sha256": digest} if digest else path


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=dict)
