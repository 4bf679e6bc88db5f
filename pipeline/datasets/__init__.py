"""Files on disk -> a list of cases: layouts, manifests, splits, checks, and the functions that configs call."""

from __future__ import annotations

from pipeline.datasets.datalist import load_datalist
from pipeline.datasets.inputs import find_images, find_inputs
from pipeline.datasets.manifest import Case, Manifest, read_manifest, write_manifest
from pipeline.datasets.volume_inputs import find_volumes

__all__ = [
    "Case",
    "Manifest",
    "find_images",
    "find_inputs",
    "find_volumes",
    "load_datalist",
    "read_manifest",
    "write_manifest",
]
