"""Networks that MONAI lacks."""

from pipeline.networks.unet2015 import UNet2015

__all__ = ["UNet2015"]
