"""Files on disk -> a list of cases: layouts, manifests, splits, checks, and the functions that configs call."""

from pipeline.datasets.datalist import load_datalist
from pipeline.datasets.inputs.images import find_images, find_inputs
from pipeline.datasets.inputs.volumes import find_volumes
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest

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
