"""Dataset cards: expected counts and labels of datasets without a committed manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.datasets.manifests.manifest import Manifest
from pipeline.issues import InputError, Issue

SPLITS = ("train", "val", "test")


def compare_with_card(manifest: Manifest, path: Path) -> list[Issue]:
    """Compare a manifest with the counts and labels of a dataset card.

    Args:
        manifest: the manifest that was built.
        path: YAML file with ``name``, ``layout``, ``labels`` and ``expected: {train: {cases: 1502}, ...}``.

    Returns:
        ``card-mismatch`` warnings; [] if the manifest is the dataset that the card describes.

    Raises:
        InputError: the file cannot be read or is not a card.
    """
    return list(_compare(manifest, _read_card(path), str(path)))


def _read_card(path: Path) -> dict[str, Any]:
    import yaml

    try:
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else error
        raise InputError(f"cannot read the dataset card {path}: {reason}") from None
    if not isinstance(card, dict) or not isinstance(card.get("expected"), dict):
        raise InputError(f"{path} is not a dataset card: expected YAML with 'expected: {{train: {{cases: 100}}}}'")
    return card


def _compare(manifest: Manifest, card: dict[str, Any], name: str) -> Iterator[Issue]:
    def differ(message: str) -> Issue:
        return Issue("card-mismatch", "warning", message, record=name, hint="is it a part, or another version?")

    if card.get("layout") not in (None, manifest.layout):
        yield differ(f"the card is of layout {card['layout']!r}, the manifest of {manifest.layout!r}")
    labels = {str(number): text for number, text in (card.get("labels") or {}).items()}
    found = {str(number): text for number, text in manifest.labels.items()}
    if labels and set(labels) != set(found):
        yield differ(f"the card has the labels {', '.join(labels)}, the manifest {', '.join(found)}")
    for split in SPLITS:
        expected = (card["expected"].get(split) or {}).get("cases", 0)
        cases = sum(case.split == split for case in manifest.cases)
        if cases != expected:
            yield differ(f"{cases} {split} cases, the card says {expected}")
