"""Small synthetic datasets in the layouts of real ones, with known truth."""

from pipeline.datasets.phantoms.cells import write_cells_phantom
from pipeline.datasets.phantoms.coco import write_coco_phantom
from pipeline.datasets.phantoms.folders import write_folders_phantom
from pipeline.datasets.phantoms.isic import write_isic_phantom
from pipeline.datasets.phantoms.lgg import write_lgg_phantom

__all__ = [
    "write_cells_phantom",
    "write_coco_phantom",
    "write_folders_phantom",
    "write_isic_phantom",
    "write_lgg_phantom",
]
