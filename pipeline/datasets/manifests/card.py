"""Dataset cards: expected counts and labels of datasets without a committed manifest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.datasets.manifests.manifest import SPLITS, Manifest
from pipeline.issues import InputError, Issue


def compare_with_card(manifest: Manifest, path: Path) -> list[Issue]:
    """Return ``card-mismatch`` warnings, [] if a manifest is the dataset that a card describes.

    A card is a YAML file with ``name``, ``layout``, ``labels`` and ``expected: {train: {cases: 1502}, ...}``. Raises
    `InputError` if it cannot be read or is not a card.
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
