"""Networks that MONAI lacks."""

from pipeline.networks.encoder_unet import EncoderUNet
from pipeline.networks.encoders import list_encoders, load_encoder_weights, make_encoder, parameter_groups
from pipeline.networks.instance_norm import use_fast_instance_norm
from pipeline.networks.transunet import TransUNet, load_vit_npz
from pipeline.networks.unet2015 import UNet2015
from pipeline.networks.unetplusplus import UNetPlusPlus

__all__ = [
    "EncoderUNet",
    "TransUNet",
    "UNet2015",
    "UNetPlusPlus",
    "list_encoders",
    "load_encoder_weights",
    "load_vit_npz",
    "make_encoder",
    "parameter_groups",
    "use_fast_instance_norm",
]
