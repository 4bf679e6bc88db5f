"""The base class of the encoders: the channels of the pyramid, and the freezing of layers."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.flags import read_flag


class Encoder(nn.Module):
    """Base of the encoders: a network that turns an image into a pyramid of feature maps.

    ``forward(image, levels)`` takes ``(B, in_channels, *spatial)`` and returns the first ``levels`` maps, the finest
    first. ``channels`` has one entry per level; the grid of level k is ``strides[k]`` times coarser than the image.

    `freeze` says which layers train, and holds through any later ``train()``: BatchNorm with frozen statistics stays in
    evaluation mode. Loading weights whose BatchNorm was folded into the convolutions (mean 0, variance 1 - eps) freezes
    its statistics automatically, because those weights are for features that are no longer normalised.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.name = "plain"  # selects the named weights that fit
        self.in_channels = in_channels
        self.channels = channels
        self.strides = strides
        self.stem_key = ""  # the weights of the first layer
        self.foreign_keys: tuple[str, ...] = ()  # prefixes of the original network's keys that this encoder leaves out
        self.frozen_stages = 0
        self.frozen_norm = False
        self.folded_norms: tuple[str, ...] = ()  # BatchNorm that keeps its statistics; scale and shift may train
        self.register_load_state_dict_post_hook(_keep_folded_norms)

    def rename_key(self, key: str) -> str:
        """Return the name here of a tensor that other files of the same network call otherwise."""
        return key

    def list_stages(self) -> list[list[nn.Module]]:
        """List the modules of each level, the finest first; modules in none of them are never frozen."""
        raise NotImplementedError

    def freeze(self, stages: bool | int | str = 0, norm: bool | str = False) -> None:
        """Freeze layers, so that they do not train.

        Args:
            stages: number of stages, the finest first, that keep weights and BatchNorm statistics; True for all.
            norm: keep scale, shift and statistics of every BatchNorm.

        Raises:
            ValueError: there are fewer stages.
        """
        self.frozen_stages = _count_stages(stages, len(self.list_stages()))
        self.frozen_norm = read_flag(norm, "encoder_frozen_norm")
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        """Switch all but the frozen layers to training mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        for name in self.folded_norms:
            self.get_submodule(name).eval()
        return self

    def _frozen_modules(self) -> Iterator[nn.Module]:
        for stage in self.list_stages()[: self.frozen_stages]:
            yield from stage
        if self.frozen_norm:
            yield from (layer for layer in self.modules() if isinstance(layer, _BatchNorm))


def is_folded(norm: _BatchNorm) -> bool:
    """Return whether a BatchNorm only scales and shifts, because it was folded into the convolution before it.

    A new BatchNorm has variance 1, a folded one 1 - eps; a trained one has a mean.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or bool(mean.any()):
        return False
    return bool(((variance + norm.eps - 1).abs() < norm.eps / 10).all())


def _keep_folded_norms(encoder: nn.Module, _: Any) -> None:
    assert isinstance(encoder, Encoder)
    norms = ((name, layer) for name, layer in encoder.named_modules() if isinstance(layer, _BatchNorm))
    encoder.folded_norms = tuple(name for name, norm in norms if is_folded(norm))
    encoder.train(encoder.training)


def _count_stages(stages: bool | int | str, available: int) -> int:
    if isinstance(stages, str) and stages.strip().isdigit():
        stages = int(stages)
    if isinstance(stages, bool | str):
        return available if read_flag(stages, "encoder_frozen") else 0
    if not 0 <= stages <= available:
        raise ValueError(f"frozen must be true, false or a number of stages from 0 to {available}, got {stages}")
    return stages
