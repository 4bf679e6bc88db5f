"""Cases that weights were trained on: a score of them says nothing about new cases."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.datalist import select_cases
from pipeline.datasets.digests import compute_sha256
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError


@dataclass(frozen=True)
class SeenCases:
    """How many cases of a dataset some weights were trained on."""

    weights: str  #: the file
    seen: int  #: cases that were in its training
    of: int  #: all cases
    fold: Any  #: of the training, whose validation cases were not

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.seen} of {self.of} cases were in the training of {self.weights} (fold {self.fold}): "
            "their scores say nothing about new cases"
        )


def find_seen_cases(weights: Path, items: Sequence[Any]) -> SeenCases | None:
    """Compare cases with those that a checkpoint was trained on: by name and by the bytes of the first image.

    They are known if the training's ``run.json`` lies beside the checkpoint, its manifest has not changed since, and
    no case was allowed to be missing.

    Args:
        weights: the checkpoint.
        items: of `pipeline.datasets.load_datalist`, with ``case_id`` and ``image``.

    Returns:
        What was found, or None if no case was seen, or if nobody can tell.
    """
    found = _read_training(weights)
    if found is None:
        return None
    manifest, fold = found
    try:
        trained = {case.case_id: case for case in select_cases(read_manifest(manifest), "train", fold)}
    except InputError:
        return None
    cases = {str(item["case_id"]): item for item in items if isinstance(item, Mapping) and "case_id" in item}
    seen = [name for name, item in cases.items() if name in trained and _is_image(item, trained[name])]
    return SeenCases(str(weights), len(seen), len(cases), fold) if seen else None


def _read_training(weights: Path) -> tuple[Path, Any] | None:
    """Return the manifest and the fold of the training that wrote a checkpoint."""
    try:
        record = json.loads((weights.parent / "run.json").read_text(encoding="utf-8"))
        manifest, config = Path(record["manifest"]["path"]), record["config"]
        is_same = compute_sha256(manifest) == record["manifest"]["sha256"]
        is_complete = str(config.get("allow_missing", False)).lower() == "false"
        return (manifest, config["fold"]) if is_same and is_complete else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # no such file, or not of our trainings
        return None


def _is_image(item: Mapping[str, Any], case: Case) -> bool:
    """Return whether the first image of an item has the bytes that a manifest knows."""
    image, digest = item.get("image"), case.sha256.get(case.image[0])
    first = image[0] if isinstance(image, (list, tuple)) and image else image
    if digest is None or not isinstance(first, (str, Path)):
        return False
    # The image of a DICOM series is its folder.
    file = Path(first) / Path(case.image[0]).name if Path(first).is_dir() else Path(first)
    return file.is_file() and compute_sha256(file) == digest
