"""Encoders: networks that turn an image into a pyramid of feature maps, with pretrained weights or without."""

from pipeline.networks.encoders.base import Encoder
from pipeline.networks.encoders.efficientnet import EfficientNetEncoder
from pipeline.networks.encoders.parameter_groups import parameter_groups
from pipeline.networks.encoders.plain import PlainEncoder
from pipeline.networks.encoders.pretrained import adapt_stem, load_encoder_weights
from pipeline.networks.encoders.registry import list_encoders, make_encoder
from pipeline.networks.encoders.resnet import ResNetEncoder

__all__ = [
    "EfficientNetEncoder",
    "Encoder",
    "PlainEncoder",
    "ResNetEncoder",
    "adapt_stem",
    "list_encoders",
    "load_encoder_weights",
    "make_encoder",
    "parameter_groups",
]
