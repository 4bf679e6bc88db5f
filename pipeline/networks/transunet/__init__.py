"""TransUNet, and Google's weights for its encoder."""

from pipeline.networks.transunet.network import TransUNet
from pipeline.networks.transunet.vit_weights import load_vit_npz

__all__ = ["TransUNet", "load_vit_npz"]
