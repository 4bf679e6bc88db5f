"""Read and write manifests as JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.manifests.schema import parse_manifest
from pipeline.issues import InputError, summarise


def read_manifest(path: str | os.PathLike[str], root: Path | None = None) -> Manifest:
    """Read a manifest.

    Args:
        path: the JSON file.
        root: the dataset's folder, an absolute path; with it, absolute paths inside it are allowed.

    Returns:
        The manifest, its syntax and schema checked. Whether the files exist is the business of
        `pipeline.datasets.checks.integrity` and `load_datalist`.

    Raises:
        InputError: the file is missing or unreadable, not JSON, or not a manifest; one line with the place.
    """
    manifest, issues = parse_manifest(read_bytes(path), root)
    errors = [issue for issue in issues if issue.severity == "error"]
    if manifest is None or errors:
        raise InputError(f"{path}: {summarise(errors)}")
    return manifest


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a manifest file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        card = Path(path).with_suffix(".yaml")
        builds = f"{card} says how to build it" if card.is_file() else "pipeline dataset build makes one"
        message = f"cannot read the manifest {path}: {reason}; {builds}, the suite's are in data_manifests/"
        raise InputError(message) from None


def write_manifest(manifest: Manifest, path: str | os.PathLike[str]) -> Path:
    """Write a manifest as JSON with one line a file, so that a diff can be read.

    The file is written beside its place and renamed, so a crash never leaves half a manifest.

    Args:
        manifest: what to write.
        path: the JSON file; its folder is created.

    Returns:
        The path written.
    """
    target = Path(path)
    with write_atomically(target) as stream:
        stream.write(dump_manifest(manifest))
    return target


def dump_manifest(manifest: Manifest) -> str:
    """Return the JSON text of a manifest, ending in a line break; equal manifests give equal text."""
    head: dict[str, Any] = {
        "schema_version": manifest.schema_version,
        "name": manifest.name,
        "layout": manifest.layout,
        "task": manifest.task,
        "licence": manifest.licence,
        "source": manifest.source,
        "citations": list(manifest.citations),
        "labels": {str(number): name for number, name in manifest.labels.items()},
        "mask_values": {str(value): number for value, number in manifest.mask_values.items()},
        "channels": list(manifest.channels),
        "spacing_policy": manifest.spacing_policy,
        **{key: value for key, value in _optional_head(manifest).items() if value is not None},
    }
    lines = [f"  {_json(key)}: {_json(value)}," for key, value in head.items()]
    # The only part of the head that grows, so it is spread over lines.
    named = json.dumps(manifest.named_splits, ensure_ascii=False, allow_nan=False, indent=2)
    lines.append(f'  "named_splits": {named},'.replace("\n", "\n  "))
    blocks = [",\n".join(_case_lines(case)) for case in manifest.cases]
    cases = ",\n".join(f"    {{\n{block}\n    }}" for block in blocks)
    return "\n".join(["{", *lines, '  "cases": [', cases, "  ]", "}", ""])


def _optional_head(manifest: Manifest) -> dict[str, Any]:
    """Return the keys that most manifests do not need, None where the default holds."""
    return {
        "stacking": None if manifest.stacking == "slices" else manifest.stacking,
        "mask_type": None if manifest.mask_type == "semantic" else manifest.mask_type,
        "binarize": manifest.binarize,
        "color_map": dict(manifest.color_map) or None,
        "ignore_index": manifest.ignore_index,
        "intensity_range": None if manifest.intensity_range is None else list(manifest.intensity_range),
        "coco": manifest.coco,
    }


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
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
