"""COCO annotations: read as untrusted input, checked, and drawn as masks."""

from pipeline.datasets.coco.annotation_file import parse_annotations, read_annotations
from pipeline.datasets.coco.annotations import AnnotationError, CocoFile
from pipeline.datasets.coco.checks import (
    check_annotations,
    find_annotation_issues,
    probe_annotations,
    read_policy,
)
from pipeline.datasets.coco.drawing import rasterise

__all__ = [
    "AnnotationError",
    "CocoFile",
    "check_annotations",
    "find_annotation_issues",
    "parse_annotations",
    "probe_annotations",
    "rasterise",
    "read_annotations",
    "read_policy",
]
