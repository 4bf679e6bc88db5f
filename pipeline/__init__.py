"""Medical image segmentation with plain MONAI: what MONAI lacks, tested as code; experiments are in ``bundles``."""

__version__ = "0.1.0"
