"""`Manifest` and `Case`: the frozen description of a dataset."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1
Split = Literal["train", "val", "test"]


Stacking = Literal["slices", "channels", "series"]
MaskType = Literal["semantic", "instance"]
UNKNOWN_SUBJECTS = frozenset({"", "-", "?", "unknown", "n/a", "na", "none", "null", "anonymous", "anon"})


def normalise_subject(subject: str) -> str:
    """Return a subject's name stripped, in composed Unicode (NFC) and case-folded; "" for names that mean "unknown".

    Example:
        >>> normalise_subject(" Patient_7 "), normalise_subject("N/A")
        ('patient_7', '')
    """
    key = unicodedata.normalize("NFC", subject).strip().casefold()
    return "" if key in UNKNOWN_SUBJECTS else key


def split_fragment(path: str) -> tuple[str, str]:
    """Split the path of an annotated mask into its file and the id of its image; other paths have no fragment.

    Example:
        >>> split_fragment("train/_annotations.coco.json#12"), split_fragment("odd#name.png")
        (('train/_annotations.coco.json', '12'), ('odd#name.png', ''))
    """
    file, mark, fragment = path.rpartition("#")
    return (file, fragment) if mark and file.lower().endswith(".json") else (path, "")


def make_subject_key(subject: str, case_id: str) -> str:
    """Return a case's subject in the form used for comparison; an unknown subject gets a key unique to the case.

    Example:
        >>> make_subject_key(" TCGA_1 ", "a"), make_subject_key("unknown", "b")
        ('tcga_1', 'case:b')
    """
    return normalise_subject(subject) or f"case:{case_id}"


@dataclass(frozen=True)
class Case:
    """One case: a patient's volume or stack of slices, an image, or a frame.

    Args:
        case_id: unique name of the case.
        subject: the patient, or the film of a frame; cases of one subject stay together in a split. "" if unknown.
        image: files of the image in order, relative to the dataset's folder, POSIX.
        label: files of the mask in the same order; None if the case has no mask. A mask that is drawn from COCO
            annotations is ``"<file>.json#<image id>"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        fold: cross-validation fold in which a case that is not ``"test"`` serves as validation; None without folds.
        sha256: digest of each file, by path; files without a digest are absent.
        facts: measured properties, None where unknown: ``shape`` in voxels, rows first, ``dtype``, ``spacing``
            in mm, ``foreground`` in voxels, ``voxels`` of each label id, ``group`` (the institution), ``sequence`` and
            ``frame`` of a film.
    """

    case_id: str
    subject: str
    image: tuple[str, ...]
    label: tuple[str, ...] | None = None
    split: Split = "train"
    fold: int | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> tuple[str, ...]:
        """Return all files of the case, images first, each once, without the fragments of annotation files."""
        return tuple(dict.fromkeys(split_fragment(path)[0] for path in self.image + (self.label or ())))

    def subject_key(self) -> str:
        """Return the subject in the form used for comparison, see `make_subject_key`."""
        return make_subject_key(self.subject, self.case_id)


@dataclass(frozen=True)
class Manifest:
    """A dataset: its source, the meaning of its masks, and its cases.

    Args:
        name: short name of the dataset.
        task: for example ``"segmentation"``.
        licence: the licences of the data, in words.
        source: the page where the data are downloaded.
        labels: name of each label id, background included.
        mask_values: label id of each value that a mask file may hold (``{0: 0, 255: 1}``).
        channels: names of the image's channels.
        cases: the cases, in a stable order.
        spacing_policy: ``"none"``: the files hold no voxel size, work in voxels; ``"header"``: read it from each file.
        stacking: role of several image files of a case: ``"slices"`` of a stack, ``"channels"``, or the files of one
            DICOM ``"series"``.
        mask_type: ``"semantic"``: a value is a class; ``"instance"``: a value is an object, 0 is background.
        binarize: for lossy masks: values from this one on are label 1, the others 0; None: values are used unchanged.
        color_map: label id of each colour ``"#rrggbb"`` of coloured or palette masks.
        ignore_index: value of a mask that belongs to no class and is left out of loss and score.
        intensity_range: smallest and largest value that an image may hold; None: any.
        coco: how masks are drawn from annotations: ``categories`` (label id of each category id) and ``crowd``
            (``"ignore"`` or ``"merge"``); None for masks that are files.
        named_splits: further validation sets by name: ``{name: {"description": ..., "val": [case ids]}}``, with
            ``"exclude": [case ids]`` if cases are left out of training too, such as the frames between two parts of a
            film.
        layout: reader in `pipeline.datasets.layouts` that made the manifest.
        citations: papers to cite.
        schema_version: version of the file format.
    """

    name: str
    task: str
    licence: str
    source: str
    labels: Mapping[int, str]
    mask_values: Mapping[int, int]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]
    spacing_policy: Literal["none", "header"] = "none"
    stacking: Stacking = "slices"
    mask_type: MaskType = "semantic"
    binarize: float | None = None
    color_map: Mapping[str, int] = field(default_factory=dict)
    ignore_index: int | None = None
    intensity_range: tuple[float, float] | None = None
    coco: Mapping[str, Any] | None = None
    named_splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layout: str = ""
    citations: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
