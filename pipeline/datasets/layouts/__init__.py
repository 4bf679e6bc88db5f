"""Readers of datasets as they are downloaded: one module per source layout, and the table of all layouts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.datasets.layouts.building import Progress
    from pipeline.datasets.layouts.listing import ManifestDraft


@dataclass(frozen=True)
class LayoutOption:
    """An option of a reader, as ``--name VALUE`` of ``dataset build``."""

    name: str  #: keyword argument of the reader's `read`, in snake_case
    help: str  #: one line
    default: str | None = None  #: value if it is not given
    choices: tuple[str, ...] = ()  #: allowed values; () takes any text


@dataclass(frozen=True)
class Layout:
    """A source layout."""

    name: str  #: the name that users type; also that of the reader's module
    description: str  #: one line for ``--help``
    #: function in `pipeline.datasets.phantoms` that writes a small dataset of this layout; "" if none
    phantom: str = ""
    #: unit in which the phantom is counted, its keyword and the option's name: ``"patients"``, ``"images"``
    unit: str = "cases"
    folder: str = "DATASET"  #: name of the dataset's folder in examples
    options: tuple[LayoutOption, ...] = ()  #: options of its reader

    @property
    def module(self) -> str:
        """Module with ``read(listing, **options) -> ManifestDraft``."""
        return f"pipeline.datasets.layouts.{self.name}"


_COCO_OPTIONS = (
    LayoutOption("categories", "merge: all are one label; keep; or CATEGORY=LABEL,... (0: left out)", "merge"),
    LayoutOption("unannotated", "images without annotation: left out, or empty", "drop", ("drop", "negative")),
    LayoutOption(
        "orientation",
        "where photographs have an EXIF orientation: outlines drawn as viewers show them, or on the stored pixels;"
        " auto: as their size says",
        "auto",
        ("auto", "displayed", "stored"),
    ),
    LayoutOption("crowd", "annotations marked iscrowd: left out, or drawn", "ignore", ("ignore", "merge")),
)
_CELL_OPTIONS = (
    LayoutOption("masks", "gold, silver or gold-else-silver; or one per film: 01=silver,02=gold", "gold"),
    LayoutOption("unlabelled", "frames without mask: left out, or without label", "drop", ("drop", "keep")),
)
_UNPAIRED = LayoutOption(
    "unpaired", "images without mask where others have one, masks without image", "refuse", ("refuse", "drop")
)
_FOLDER_OPTIONS = (
    LayoutOption("image", "pattern of the images, in quotes: 'scans/*.png'"),
    LayoutOption("mask", "pattern of the masks: 'drawn/*_mask.png'; * matches the same part of the name"),
    LayoutOption("subject", "position of the subject in an image's name: '{subject}_*'"),
    LayoutOption("mask_values", "values, background first: 0,255 or 0,1=cyst,2=tumour; or instances"),
    LayoutOption("binarize", "for lossy masks: values from this number on are label 1"),
    LayoutOption("channels", "names of the channels, or their number, for volumes with a fourth axis: T1,FLAIR"),
    _UNPAIRED,
)
_LABELS = LayoutOption("labels", "names of the masks' values: 0=background,1=anterior,... (default: dataset.json)")
_DESCRIPTIONS = {
    "lgg": "LGG brain MRI (kaggle_3m): one folder of TIFF slices per patient",
    "coco": "COCO annotations: a Roboflow export, or instances_*.json with folders of images",
    "cell_tracking": "Cell Tracking Challenge, 2-D: films 01/t000.tif with masks 01_GT/SEG/man_seg000.tif",
    "folders": "any images and masks of the same names: images/a.png and masks/a.png, 2-D files or volumes",
    "isic": "ISIC 2016 to 2018 skin lesions: folders ISIC2018_Task1-2_*_Input and ISIC2018_Task1_*_GroundTruth",
    "decathlon": "Medical Segmentation Decathlon: imagesTr, labelsTr, imagesTs of NIfTI, with or without dataset.json",
    "nnunet": "nnU-Net raw data, versions 1 and 2: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json",
    "dicom": "DICOM series in any tree of folders, without labels: for inference",
}
_REST: dict[str, tuple[Any, ...]] = {
    "lgg": ("write_lgg_phantom", "patients", "kaggle_3m"),
    "coco": ("write_coco_phantom", "images", "export", _COCO_OPTIONS),
    "cell_tracking": ("write_cells_phantom", "frames", "PhC-C2DH-U373", _CELL_OPTIONS),
    "folders": ("write_folders_phantom", "images", "dataset", _FOLDER_OPTIONS),
    "isic": ("write_isic_phantom", "images", "isic2018", (_UNPAIRED,)),
    "decathlon": ("write_hippocampus_phantom", "cases", "Task04_Hippocampus", (_LABELS,)),
    "nnunet": ("write_nnunet_phantom", "cases", "Dataset004_Hippocampus", (_LABELS,)),
    "dicom": ("write_dicom_phantom", "cases", "series"),
}
LAYOUTS = {name: Layout(name, text, *_REST[name]) for name, text in _DESCRIPTIONS.items()}


def read_layout(
    name: str,
    root: Path,
    checksums: Mapping[str, str] | None = None,
    *,
    progress: Progress | None = None,
    skip_broken: bool = False,
    **options: Any,
) -> ManifestDraft:
    """Read a downloaded dataset.

    Args:
        name: a key of `LAYOUTS`.
        root: the dataset's folder.
        checksums: published digests by path relative to ``root``; files that only it lists count as known. Unless it
            is empty, every file on disk must be in it and have this digest.
        progress: wraps the stream of measured cases, given their number, for a progress bar.
        skip_broken: leave out cases with files that cannot be read, with a note, instead of an error.
        options: those that `LAYOUTS` lists for this layout.

    Returns:
        The manifest with digests of all files and facts of all cases on disk, and notes on files left out.

    Raises:
        InputError: the folder does not hold this layout, a file cannot be read, or differs from its published digest.
    """
    from pipeline.datasets.layouts.building import complete_draft
    from pipeline.datasets.layouts.listing import list_files
    from pipeline.datasets.layouts.naming import clean_texts

    published = checksums or {}
    listing = list_files(root, published)
    draft: ManifestDraft = importlib.import_module(LAYOUTS[name].module).read(listing, **options)
    draft = replace(draft, manifest=clean_texts(draft.manifest))
    return complete_draft(draft, listing, published, progress=progress, skip_broken=skip_broken)
