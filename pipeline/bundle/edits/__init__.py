"""Edits that turn the configs of one dataset into those of another; each works on a `pipeline.bundle.draft.Draft`."""

from pipeline.bundle.edits.cases import edit_cases
from pipeline.bundle.edits.channels import edit_channels
from pipeline.bundle.edits.classes import edit_classes
from pipeline.bundle.edits.masks import edit_masks
from pipeline.bundle.edits.memory import edit_memory
from pipeline.bundle.edits.metrics import edit_metrics
from pipeline.bundle.edits.objects import edit_objects
from pipeline.bundle.edits.paths import edit_paths
from pipeline.bundle.edits.pictures import edit_pictures
from pipeline.bundle.edits.postprocessing import edit_postprocessing
from pipeline.bundle.edits.remarks import edit_remarks
from pipeline.bundle.edits.volumes import edit_volumes

#: In the order in which they are made: remarks about the source's data go first, before blocks lose their ids.
EDITS = (
    edit_remarks,
    edit_paths,
    edit_channels,
    edit_masks,
    edit_classes,
    edit_postprocessing,
    edit_metrics,
    edit_cases,
    edit_pictures,
    edit_volumes,
    edit_objects,
    edit_memory,
)

__all__ = [
    "EDITS",
    "edit_cases",
    "edit_channels",
    "edit_classes",
    "edit_masks",
    "edit_memory",
    "edit_metrics",
    "edit_objects",
    "edit_paths",
    "edit_pictures",
    "edit_postprocessing",
    "edit_remarks",
    "edit_volumes",
]
