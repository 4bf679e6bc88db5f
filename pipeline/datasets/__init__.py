"""Files on disk -> a list of cases: layouts, manifests, splits, checks, and the one function that configs call."""

from __future__ import annotations

from pipeline.datasets.datalist import find_inputs, load_datalist
from pipeline.datasets.manifest import Case, Manifest, read_manifest, write_manifest

__all__ = ["Case", "Manifest", "find_inputs", "load_datalist", "read_manifest", "write_manifest"]
