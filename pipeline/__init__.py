"""Medical image segmentation as MONAI bundles: what MONAI itself lacks."""
