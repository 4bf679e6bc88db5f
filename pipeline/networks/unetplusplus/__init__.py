"""UNet++ with a plain or a pretrained encoder."""

from pipeline.networks.unetplusplus.network import UNetPlusPlus

__all__ = ["UNetPlusPlus"]
