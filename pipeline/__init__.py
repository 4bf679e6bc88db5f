"""Medical image segmentation with MONAI: tested additions to MONAI; the experiments are in ``bundles``."""

__version__ = "0.1.0"
