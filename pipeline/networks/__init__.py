"""Networks that MONAI lacks."""

from pipeline.networks.encoders import list_encoders, load_encoder_weights, make_encoder, parameter_groups
from pipeline.networks.unet2015 import UNet2015
from pipeline.networks.unetplusplus import UNetPlusPlus

__all__ = [
    "UNet2015",
    "UNetPlusPlus",
    "list_encoders",
    "load_encoder_weights",
    "make_encoder",
    "parameter_groups",
]
