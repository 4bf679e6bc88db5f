"""Readers of datasets as they are downloaded: one module a source layout, one table of them all."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.datasets.layouts.building import Progress
    from pipeline.datasets.layouts.listing import Draft


@dataclass(frozen=True)
class LayoutOption:
    """What a reader can be told, as ``--name VALUE`` of ``dataset build``.

    Args:
        name: keyword argument of the reader's `read`, in snake_case.
        help: one line.
        default: value if it is not given.
        choices: allowed values; () takes any text.
    """

    name: str
    help: str
    default: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A source layout.

    Args:
        name: what the user types.
        description: one line for ``--help``.
        phantom: function in `pipeline.datasets.phantoms` that writes a small dataset of this layout; "" if none.
        unit: what the phantom counts, its keyword and the option's name: ``"patients"``, ``"images"``, ``"cases"``.
        folder: name of the dataset's folder in examples.
        options: what its reader can be told.
    """

    name: str
    description: str
    phantom: str = ""
    unit: str = "cases"
    folder: str = "DATASET"
    options: tuple[LayoutOption, ...] = ()

    @property
    def module(self) -> str:
        """Module with ``read(listing, **options) -> Draft``."""
        return f"pipeline.datasets.layouts.{self.name}"


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "lgg",
            "LGG brain MRI (kaggle_3m): a folder of TIFF slices a patient",
            "write_lgg_phantom",
            "patients",
            "kaggle_3m",
        ),
        Layout(
            "coco",
            "COCO annotations: a Roboflow export, or instances_*.json with folders of images",
            "write_coco_phantom",
            "images",
            "export",
            (
                LayoutOption(
                    "categories", "merge: all are one label; keep; or CATEGORY=LABEL,... (0: left out)", "merge"
                ),
                LayoutOption(
                    "unannotated", "images without annotation: left out, or empty", "drop", ("drop", "negative")
                ),
                LayoutOption("crowd", "annotations marked iscrowd: left out, or drawn", "ignore", ("ignore", "merge")),
            ),
        ),
        Layout(
            "cell_tracking",
            "Cell Tracking Challenge, 2-D: films 01/t000.tif with masks 01_GT/SEG/man_seg000.tif",
            "write_cells_phantom",
            "frames",
            "PhC-C2DH-U373",
            (
                LayoutOption("masks", "gold, silver or gold-else-silver; or one a film: 01=silver,02=gold", "gold"),
                LayoutOption("unlabelled", "frames without mask: left out, or without label", "drop", ("drop", "keep")),
            ),
        ),
        Layout(
            "folders",
            "any images and masks of the same names: images/a.png and masks/a.png, pictures or NIfTI",
            "write_folders_phantom",
            "images",
            "dataset",
            (
                LayoutOption("image", "pattern of the images, in quotes: 'scans/*.png'"),
                LayoutOption(
                    "mask", "pattern of the masks: 'drawn/*_mask.png'; * stands for the same part of the name"
                ),
                LayoutOption("subject", "where the subject stands in an image's name: '{subject}_*'"),
                LayoutOption("mask_values", "values, background first: 0,255 or 0,1=cyst,2=tumour; or instances"),
                LayoutOption("binarize", "for lossy masks: values from this number on are label 1"),
                LayoutOption(
                    "unpaired",
                    "images without mask where others have one, masks without image",
                    "refuse",
                    ("refuse", "drop"),
                ),
            ),
        ),
        Layout(
            "isic",
            "ISIC 2016 to 2018 skin lesions: folders ISIC2018_Task1-2_*_Input and ISIC2018_Task1_*_GroundTruth",
            "write_isic_phantom",
            "images",
            "isic2018",
            (
                LayoutOption(
                    "unpaired",
                    "images without mask where others have one, masks without image",
                    "refuse",
                    ("refuse", "drop"),
                ),
            ),
        ),
        Layout(
            "decathlon",
            "Medical Segmentation Decathlon: imagesTr, labelsTr, imagesTs of NIfTI, with or without dataset.json",
            "write_hippocampus_phantom",
            "cases",
            "Task04_Hippocampus",
            (
                LayoutOption(
                    "labels", "names of the masks' values: 0=background,1=anterior,... (default: dataset.json)"
                ),
            ),
        ),
        Layout(
            "nnunet",
            "nnU-Net raw data, versions 1 and 2: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json",
            "write_nnunet_phantom",
            "cases",
            "Dataset004_Hippocampus",
            (
                LayoutOption(
                    "labels", "names of the masks' values: 0=background,1=anterior,... (default: dataset.json)"
                ),
            ),
        ),
        Layout(
            "dicom",
            "DICOM series in any tree of folders, without labels: for inference",
            "write_dicom_phantom",
            "cases",
            "series",
        ),
    )
}


def read_layout(
    name: str,
    root: Path,
    checksums: Mapping[str, str] | None = None,
    *,
    progress: Progress | None = None,
    skip_broken: bool = False,
    **options: Any,
) -> Draft:
    """Read a downloaded dataset.

    Args:
        name: a key of `LAYOUTS`.
        root: the dataset's folder.
        checksums: published digests by path relative to ``root``; files that are only there are taken from it.
        progress: wraps the stream of measured cases, given their number, for a progress bar.
        skip_broken: leave out cases with files that cannot be read, and say so in the notes, instead of an error.
        options: what `LAYOUTS` lists for this layout.

    Returns:
        The manifest with digests of all files and facts of all cases on disk, and notes on what was left out.

    Raises:
        InputError: the folder does not hold this layout, a file cannot be read, or differs from its published digest.
    """
    from pipeline.datasets.layouts.building import complete_draft
    from pipeline.datasets.layouts.listing import list_files

    published = checksums or {}
    listing = list_files(root, published)
    draft: Draft = importlib.import_module(LAYOUTS[name].module).read(listing, **options)
    return complete_draft(draft, listing, published, progress=progress, skip_broken=skip_broken)
