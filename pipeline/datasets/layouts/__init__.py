"""Readers of datasets as they are downloaded: one module a source layout, one table of them all."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.manifest import Manifest


@dataclass(frozen=True)
class Layout:
    """A source layout.

    Args:
        name: what the user types.
        description: one line for ``--help``.
        module: module with ``read(root, *, checksums=None) -> Manifest``.
        phantom: function in `pipeline.datasets.phantoms` that writes a small dataset of this layout; "" if none.
    """

    name: str
    description: str
    module: str
    phantom: str = ""


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "lgg",
            "LGG brain MRI (kaggle_3m): a folder of TIFF slices a patient",
            "pipeline.datasets.layouts.lgg",
            "write_lgg_phantom",
        ),
    )
}


def read_layout(name: str, root: Path, checksums: Mapping[str, str] | None = None) -> Manifest:
    """Read a downloaded dataset.

    Args:
        name: a key of `LAYOUTS`.
        root: the dataset's folder.
        checksums: published digests by path relative to ``root``; files that are only there are taken from it.

    Raises:
        InputError: the folder does not hold this layout, or a file differs from its published digest.
    """
    manifest: Manifest = importlib.import_module(LAYOUTS[name].module).read(root, checksums=checksums)
    return manifest
