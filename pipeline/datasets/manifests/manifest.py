"""`Manifest` and `Case`: the frozen description of a dataset."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

SCHEMA_VERSION = 1
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
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
    """One case: a patient's volume or stack of slices, an image, or a frame."""

    case_id: str  #: unique name of the case
    subject: str  #: the patient, or the film of a frame; cases of one subject stay together in a split. "" if unknown.
    image: tuple[str, ...]  #: files of the image in order, relative to the dataset's folder, POSIX
    #: files of the mask in the same order; None if the case has no mask. A picture may have several masks, which are
    #: united. A mask that is drawn from COCO annotations is ``"<file>.json#<image id>"``.
    label: tuple[str, ...] | None = None
    split: Split = "train"  #: ``"train"``, ``"val"`` or ``"test"``
    #: cross-validation fold in which a case that is not ``"test"`` serves as validation; None without folds
    fold: int | None = None
    #: digest of each file, by path; files without a digest are absent
    sha256: Mapping[str, str] = field(default_factory=dict)
    #: measured properties, None where unknown: ``shape`` in voxels, rows first, ``dtype``, ``spacing`` in mm,
    #: ``foreground`` in voxels, ``voxels`` of each label id, ``group`` (the institution), ``sequence`` and ``frame`` of
    #: a film
    facts: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> tuple[str, ...]:
        """Return all files of the case, images first, each once, without the fragments of annotation files."""
        return tuple(dict.fromkeys(split_fragment(path)[0] for path in self.image + (self.label or ())))

    def has_several_masks(self) -> bool:
        """Return whether one image file has several mask files, whose union is the mask."""
        return len(self.image) == 1 and len(self.label or ()) > 1

    def subject_key(self) -> str:
        """Return the subject in the form used for comparison, see `make_subject_key`."""
        return make_subject_key(self.subject, self.case_id)


@dataclass(frozen=True)
class Manifest:
    """A dataset: its source, the meaning of its masks, and its cases."""

    name: str  #: short name of the dataset
    task: str  #: for example ``"segmentation"``
    licence: str  #: the licences of the data, in words
    source: str  #: the page where the data are downloaded
    labels: Mapping[int, str]  #: name of each label id, background included
    mask_values: Mapping[int, int]  #: label id of each value that a mask file may hold (``{0: 0, 255: 1}``)
    channels: tuple[str, ...]  #: names of the image's channels
    cases: tuple[Case, ...]  #: the cases, in a stable order
    #: ``"none"``: the files hold no voxel size, work in voxels; ``"header"``: read it from each file
    spacing_policy: Literal["none", "header"] = "none"
    #: role of several image files of a case: ``"slices"`` of a stack, ``"channels"``, or the files of one DICOM
    #: ``"series"``
    stacking: Stacking = "slices"
    #: ``"semantic"``: a value is a class; ``"instance"``: a value is an object, 0 is background
    mask_type: MaskType = "semantic"
    #: for lossy masks: values from this one on are label 1, the others 0; None: values are used unchanged
    binarize: float | None = None
    #: label id of each colour ``"#rrggbb"`` of coloured or palette masks
    color_map: Mapping[str, int] = field(default_factory=dict)
    ignore_index: int | None = None  #: value of a mask that belongs to no class and is left out of loss and score
    intensity_range: tuple[float, float] | None = None  #: smallest and largest value that an image may hold; None: any
    #: how masks are drawn from annotations: ``categories`` (label id of each category id), ``crowd`` (``"ignore"`` or
    #: ``"merge"``), and for photographs with an EXIF orientation ``orientation`` (``"displayed"`` or ``"stored"``: the
    #: pixels on which the outlines were drawn) and ``turned`` (the tag by which each drawn mask is turned to the stored
    #: pixels, by label path); None for masks that are files
    coco: Mapping[str, Any] | None = None
    #: further validation sets by name: ``{name: {"description": ..., "val": [case ids]}}``, with ``"exclude": [case
    #: ids]`` if cases are left out of training too, such as the frames between two parts of a film
    named_splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layout: str = ""  #: reader in `pipeline.datasets.layouts` that made the manifest
    citations: tuple[str, ...] = ()  #: papers to cite
    schema_version: int = SCHEMA_VERSION  #: version of the file format

    def find_turn(self, label: str) -> int:
        """Return the EXIF orientation by which the drawn mask of a label path is turned to the stored pixels, or 1."""
        return int(((self.coco or {}).get("turned") or {}).get(label, 1))
