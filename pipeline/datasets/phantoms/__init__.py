"""Small synthetic datasets in the layouts of real ones, with known truth.

Every writer takes a folder, the number and the size of the images, and a random seed, which must not be negative. It
writes the data, ``manifest.json`` and ``truth.json`` to the folder, and returns the path of the manifest. The same
arguments give the same bytes. A writer raises `pipeline.issues.InputError` if an argument is out of range, or if the
folder cannot be written or is in use.

Example:
    >>> import tempfile
    >>> write_isic_phantom(tempfile.mkdtemp(), images=3, size=32).name
    'manifest.json'
"""

from pipeline.datasets.phantoms.cells import write_cells_phantom
from pipeline.datasets.phantoms.coco import write_coco_phantom
from pipeline.datasets.phantoms.dicom import write_dicom_phantom
from pipeline.datasets.phantoms.folders import write_folders_phantom
from pipeline.datasets.phantoms.hippocampus import write_hippocampus_phantom
from pipeline.datasets.phantoms.isic import write_isic_phantom
from pipeline.datasets.phantoms.lgg import write_lgg_phantom
from pipeline.datasets.phantoms.nnunet import write_nnunet_phantom

__all__ = [
    "write_cells_phantom",
    "write_coco_phantom",
    "write_dicom_phantom",
    "write_folders_phantom",
    "write_hippocampus_phantom",
    "write_isic_phantom",
    "write_lgg_phantom",
    "write_nnunet_phantom",
]
