"""Encoders by name."""

import difflib
from pathlib import Path

from pipeline.issues import InputError
from pipeline.networks.encoders.base import Encoder
from pipeline.networks.encoders.efficientnet import EfficientNetEncoder
from pipeline.networks.encoders.pretrained import load_encoder_weights
from pipeline.networks.encoders.resnet import ResNetEncoder

#: blocks of layer1 to layer4, and whether they are bottlenecks
_RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}
_EFFICIENTNETS = tuple(f"efficientnet-b{number}" for number in range(9))
_LITES = tuple(f"efficientnet-lite{number}" for number in range(3))


def list_encoders() -> list[str]:
    """List the names that `make_encoder` knows.

    Example:
        >>> list_encoders()[:4]
        ['resnet18', 'resnet34', 'resnet50', 'efficientnet-b0']
    """
    return [*_RESNETS, *_EFFICIENTNETS, *_LITES]


def make_encoder(
    name: str,
    in_channels: int = 3,
    depth: int = 5,
    weights: str | Path | None = None,
    *,
    partial: bool | str = False,
    frozen: bool | int | str = 0,
    frozen_norm: bool | str = False,
) -> Encoder:
    """Make an encoder for 2-D images.

    Args:
        name: one of `list_encoders`.
        in_channels: channels of the image; pretrained kernels for RGB are adapted to any number.
        depth: levels of the pyramid, 1 to 5; layers beyond are not built.
        weights: pretrained weights, as `load_encoder_weights` takes them; None for random ones.
        partial: accept weights that do not cover the whole encoder.
        frozen: number of stages, the finest first, that do not train; True for all.
        frozen_norm: no BatchNorm trains, neither its scale and shift nor its statistics.

    Raises:
        InputError: no encoder has this name; the nearest one is suggested.
        ValueError: an argument is out of range.
        InputError: the weights cannot be read or do not fit.

    Example:
        >>> make_encoder("resnet18", in_channels=1, depth=2).channels
        (64, 64)
        >>> make_encoder("resnet43")
        Traceback (most recent call last):
        ...
        pipeline.issues.InputError: no encoder 'resnet43', did you mean 'resnet34'? known: resnet18, resnet34, resnet50,
        efficientnet-b0 to efficientnet-b8, efficientnet-lite0 to efficientnet-lite2
    """
    if name in _RESNETS:
        blocks, bottleneck = _RESNETS[name]
        encoder: Encoder = ResNetEncoder(blocks, bottleneck=bottleneck, in_channels=in_channels, depth=depth)
    elif name in (*_EFFICIENTNETS, *_LITES):
        encoder = EfficientNetEncoder(name, in_channels, depth)
    else:
        raise InputError(
            f"no encoder {name!r}{_suggest(name)} known: {', '.join(_RESNETS)}, "
            f"{_EFFICIENTNETS[0]} to {_EFFICIENTNETS[-1]}, {_LITES[0]} to {_LITES[-1]}"
        )
    encoder.name = name
    if weights is not None:
        load_encoder_weights(encoder, weights, partial=partial)
    encoder.freeze(frozen, frozen_norm)
    return encoder


def _suggest(name: str) -> str:
    near = difflib.get_close_matches(str(name).lower(), list_encoders(), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ";"
