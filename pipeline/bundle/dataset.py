"""The dataset that a new bundle is for, checked before the configs are written."""

import fnmatch
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.bundle.kinds import Kind, find_kind_of_data
from pipeline.datasets.datalist import select_cases
from pipeline.datasets.layouts import LAYOUTS
from pipeline.datasets.layouts.volumes import quote_labels
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.datasets.probes import expected_format
from pipeline.issues import InputError, join_lines

# Of an unsigned type with 16 bits.
_HIGHEST = 65_535
# Signs that have a meaning in a pattern, or in MONAI's configs.
_ODD = re.compile(r"[][!*?@%$#:]|[^ -~\w]")
PLACEHOLDERS = ("foreground", "object", "label ", "channel ")


@dataclass(frozen=True)
class UserDataset:
    """A dataset with the names of its channels and labels."""

    manifest: Manifest  #: as it was read
    path: Path  #: of the manifest, absolute
    folder: Path | None  #: that the manifest's paths are relative to, absolute; None if it is not known
    channels: tuple[str, ...]  #: names, in the order of the image's channels
    labels: tuple[str, ...]  #: names by label id, background first

    @cached_property
    def kind(self) -> Kind:
        """The kind of its cases."""
        return find_kind_of_data(self.manifest)

    @cached_property
    def fold(self) -> int:
        """The fold that is used for validation: the first one, 0 without folds."""
        return min((case.fold for case in self.manifest.cases if case.fold is not None), default=0)

    @cached_property
    def parts(self) -> dict[str, list[Case]]:
        """The cases by split, for `fold`."""
        return {split: select_cases(self.manifest, split, self.fold) for split in ("train", "val", "test")}

    @property
    def drawn(self) -> bool:
        """Whether masks are drawn from COCO annotations."""
        return self.manifest.coco is not None

    @property
    def united(self) -> bool:
        """Whether images have several masks, which are united."""
        return any(case.has_several_masks() for case in self.manifest.cases)

    @property
    def is_eight_bit(self) -> bool:
        """Whether all images hold 8-bit values, as far as the manifest knows."""
        return {case.facts.get("dtype") for case in self.manifest.cases} <= {"uint8", None}

    @property
    def has_subjects(self) -> bool:
        """Whether every case names its subject, and no two cases the same."""
        keys = [case.subject_key() for case in self.manifest.cases if case.subject]
        return len(keys) == len(set(keys)) == len(self.manifest.cases)

    def encoding(self) -> dict[str, Any]:
        """Return the arguments of `pipeline.transforms.EncodeMaskd` that turn the masks' values into label ids."""
        return {**self._encode_values(), **({"unite": True} if self.united else {})}

    def _encode_values(self) -> dict[str, Any]:
        if self.manifest.binarize is not None:
            return {"threshold": self.manifest.binarize}
        if self.manifest.color_map:
            return {"colors": dict(self.manifest.color_map)}
        values = dict(self.manifest.mask_values) or {label: label for label in range(len(self.labels))}
        counts_up = list(values.values()) == list(range(len(self.labels)))
        return {"values": list(values) if counts_up else {str(value): label for value, label in values.items()}}

    def grey_values(self) -> list[int]:
        """Return the value with which each label is written: the masks' own where 16 bits hold it."""
        if self.manifest.mask_values and not self.manifest.color_map and self.manifest.binarize is None:
            own = {label: value for value, label in reversed(list(self.manifest.mask_values.items()))}
            if sorted(own) == list(range(len(self.labels))) and all(0 <= value <= _HIGHEST for value in own.values()):
                return [own[label] for label in sorted(own)]
        visible = len(self.labels) == 2 and self.kind.shape != "volumes"
        return [0, 255] if visible else list(range(len(self.labels)))

    def describe_values(self) -> str:
        """Return the value with which each label is written, in words."""
        return ", ".join(f"{value} {name}" for value, name in zip(self.grey_values(), self.labels, strict=True))

    def image_folder(self) -> str:
        """Return a folder of images to predict first, relative to the dataset's: of the test set, if there is one.

        Images are looked for in a folder and in the folders in it, so a folder of folders is named only if it holds no
        others.
        """
        cases = self.parts["test"] or self.parts["val"] or list(self.manifest.cases)
        folders = list(dict.fromkeys(str(PurePosixPath(file).parent) for case in cases for file in case.image))
        common = os.path.commonpath(folders) or "."
        return common if len(folders) > 1 and self._holds_only(common, folders) else folders[0]

    def _holds_only(self, parent: str, folders: Sequence[str]) -> bool:
        """Return whether all files that may be images, in a folder and its subfolders, are in the folders given."""
        root = None if self.folder is None else self.folder / parent
        if root is None or not root.is_dir() or self.kind.shape == "volumes":
            return False
        here = [root, *(child for child in root.iterdir() if child.is_dir() and child.name[0] != ".")]
        full = {os.path.normpath(f"{parent}/{path.relative_to(root)}") for path in here if _has_images(path)}
        return full == set(folders)

    def masks_among_images(self, known: Sequence[str]) -> list[str] | None:
        """Return patterns for the masks in the folders of images.

        Args:
            known: patterns that are left out already.

        Returns:
            Patterns of file names; None if masks and images cannot be told apart by name.
        """
        inside = f"{self.image_folder()}/" if self.image_folder() != "." else ""
        patterns = set()
        for case in self.manifest.cases:
            masks = case.label or ()
            images = case.image * len(masks) if case.has_several_masks() else case.image
            for image, mask in zip(images, masks, strict=False):
                name = PurePosixPath(mask).name
                near = mask.startswith(inside) and "#" not in mask
                if not near or any(fnmatch.fnmatch(name.lower(), pattern) for pattern in known):
                    continue
                pattern = _find_pattern(_stem(image), _stem(mask))
                if not pattern:
                    return None
                patterns.add(pattern)
        return sorted(patterns)


def _has_images(folder: Path) -> bool:
    return any(expected_format(file.name) and file.name[0] != "." for file in folder.iterdir() if file.is_file())


def _stem(path: str) -> str:
    return PurePosixPath(path).name.split(".")[0]


def _find_pattern(image: str, mask: str) -> str:
    """Return a pattern that a mask's name fits and its image's does not.

    Example:
        >>> _find_pattern("scan 1", "scan 1_lesion"), _find_pattern("a", "mask_a"), _find_pattern("a", "a")
        ('*_lesion.*', 'mask_*', '')
    """
    pattern = ""
    if mask.startswith(image):
        pattern = f"*{_ODD.sub('?', mask[len(image) :])}.*"
    elif mask.endswith(image):
        pattern = f"{_ODD.sub('?', mask[: -len(image)])}*"
    return "" if fnmatch.fnmatch(f"{image}.png", pattern) else pattern


def read_dataset(
    path: Path,
    folder: Path | None = None,
    *,
    channels: Sequence[str] | int | None = None,
    labels: Sequence[str] | None = None,
) -> UserDataset:
    """Read the dataset of a new bundle, and check that a network can be trained on it.

    Args:
        path: the manifest.
        folder: that its paths are relative to; None if it is not known yet.
        channels: names of the channels, or their number; None takes those of the manifest.
        labels: names of the labels from 1 on, or from the background on; None takes those of the manifest.

    Returns:
        The dataset.

    Raises:
        InputError: the manifest cannot be read, lists no validation cases, cases without mask, labels that no network
            can be trained on, or is of another dataset than the one in ``folder``.
    """
    from pipeline.datasets.checks.integrity import explain_missing_dataset

    manifest = read_manifest(path)
    dataset = UserDataset(
        manifest,
        Path(os.path.abspath(path)),
        None if folder is None else Path(os.path.abspath(os.path.expanduser(folder))),
        tuple(map(join_lines, _name_channels(path, manifest, channels))),
        tuple(map(join_lines, _name_labels(path, manifest, labels))),
    )
    _require_trainable(path, dataset)
    if dataset.folder is not None:
        cases = [*dataset.parts["train"], *dataset.parts["val"]]
        problem = explain_missing_dataset(manifest, dataset.folder, cases)
        if problem:
            raise InputError("; ".join(part for part in (problem.message, problem.hint) if part))
    return dataset


def _name_channels(path: Path, manifest: Manifest, given: Sequence[str] | int | None) -> tuple[str, ...]:
    if given is None and not manifest.channels:
        raise InputError(f"{path} names no channels; pass their names or their number: --channels red,green,blue")
    known = manifest.channels
    number = given if isinstance(given, int) else len(known if given is None else given)
    if known and number != len(known):
        raise InputError(f"--channels: the images have {len(known)} by {path} ({', '.join(known)}), got {number}")
    if number < 1:
        raise InputError("--channels: expected a number from 1, or names: --channels red,green,blue")
    if given is None or isinstance(given, int):
        return known or tuple(f"channel {index + 1}" for index in range(number))
    return tuple(given)


def _name_labels(path: Path, manifest: Manifest, given: Sequence[str] | None) -> tuple[str, ...]:
    known = dict(sorted(manifest.labels.items()))
    if list(known) != list(range(len(known))) or len(known) < 2:
        shown = ", ".join(f"{label} {name}" for label, name in known.items()) or "none"
        raise InputError(
            f"{path}: a network needs the label ids 0 (background), 1, 2, ... without gaps, got {shown};"
            " build the manifest again: pipeline dataset build numbers them so, and keeps the masks' own values"
        )
    if given is None:
        return tuple(known.values())
    names = list(given) if len(given) == len(known) else [known[0], *given]
    if len(names) != len(known) or len({name.casefold() for name in names}) != len(names):
        raise InputError(
            f"--labels: expected {len(known) - 1} different names, for {', '.join(list(known.values())[1:])}, got"
            f" {', '.join(given)}"
        )
    return tuple(names)


def _require_trainable(path: Path, dataset: UserDataset) -> None:
    manifest, parts = dataset.manifest, dataset.parts
    if manifest.ignore_index is not None:
        raise InputError(
            f"{path}: the value {manifest.ignore_index} of the masks is ignore_index, but no loss of a bundle ignores"
            f" pixels; {_suggest_label(manifest)}, or remove the cases"
        )
    for split in ("train", "val"):
        if not parts[split]:
            hint = f"first: python -m pipeline dataset split {shlex.quote(str(path))} --folds 5"
            raise InputError(f"{path} has no {_WORDS[split]} cases; {hint}")
    bare = [case.case_id for split in ("train", "val") for case in parts[split] if case.label is None]
    if bare:
        raise InputError(
            f"{path}: {len(bare)} cases for training and validation have no mask, for example {bare[0]}; build the"
            " manifest again without them"
        )


def _suggest_label(manifest: Manifest) -> str:
    """Return how the ignored value becomes a label."""
    options = {option.name for option in LAYOUTS[manifest.layout].options} if manifest.layout in LAYOUTS else set()
    if "labels" not in options or manifest.ignore_index is None:
        return "give it a label: name it in labels and mask_values of the manifest, and remove ignore_index"
    names = {value: manifest.labels.get(label, "") for value, label in manifest.mask_values.items()}
    names[manifest.ignore_index] = "unsure"
    return f"make them a label: build the manifest again with --labels {quote_labels(names)}"


_WORDS: Mapping[str, str] = {"train": "training", "val": "validation"}
