"""UNet++, with a plain encoder or a pretrained one."""

from pipeline.networks.unetplusplus.network import UNetPlusPlus

__all__ = ["UNetPlusPlus"]
