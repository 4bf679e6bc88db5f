"""Load pretrained weights into an encoder: match keys, adapt the first layer, report misfits in one line."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.flags import read_flag
from pipeline.issues import InputError
from pipeline.networks.encoders.base import Encoder
from pipeline.networks.encoders.weight_sources import read_weights

_LOGGER = logging.getLogger(__name__)


def load_encoder_weights(encoder: Encoder, weights: str | Path, *, partial: bool | str = False) -> None:
    """Load pretrained weights into an encoder.

    Keys may have any prefix (``encoder.`` of segmentation-models-pytorch, ``module.`` of DistributedDataParallel ...);
    keys without it, the classifier and layers beyond the encoder's depth are left out. The kernels of the first layer
    are adapted to the encoder's number of channels, see `adapt_stem`.

    Args:
        encoder: gets the weights.
        weights: a file, a name such as ``"imagenet"``, or ``hf://owner/repository/file@sha256``.
        partial: load the tensors that fit, if any, and log the others.

    Raises:
        InputError: the weights cannot be read, or do not fit.
    """
    state, source = read_weights(weights, encoder.name)
    match = match_keys(encoder, state)
    if not match.fitting:
        raise InputError(f"{source} holds no weights of the encoder {encoder.name}: {match.describe()}")
    if not match.is_complete:
        if not read_flag(partial, "partial"):
            raise InputError(
                f"{source} does not fit the encoder {encoder.name}: {match.describe()}; "
                "is it from another network? to load the tensors that fit, set partial to true"
            )
        _LOGGER.warning("%s fits the encoder %s in part: %s", source, encoder.name, match.describe())
    encoder.load_state_dict(match.fitting, strict=False)
    _LOGGER.info("encoder %s: %d tensors from %s", encoder.name, len(match.fitting), source)
    if encoder.folded_norms:
        _LOGGER.info(
            "BatchNorm of these weights is folded into the convolutions: %d layers keep their statistics",
            len(encoder.folded_norms),
        )


def adapt_stem(kernel: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Adapt kernels for red, green and blue to another number of channels.

    Every channel gets the mean of the three kernels times ``3 / in_channels``, so an image whose channels are all
    equal gives the response of a grey RGB image. For one channel that is the sum of the three.

    Args:
        kernel: ``(out, 3, height, width)``.
        in_channels: the new number of channels.

    Returns:
        ``(out, in_channels, height, width)``; the kernel itself if it has as many channels.

    Example:
        >>> adapt_stem(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1), 4).flatten().tolist()
        [1.5, 1.5, 1.5, 1.5]
    """
    if kernel.shape[1] == in_channels:
        return kernel
    mean = kernel.mean(dim=1, keepdim=True) * (3 / in_channels)
    return mean.repeat(1, in_channels, *[1] * (kernel.ndim - 2))


@dataclass
class KeyMatch:
    """The tensors of a file that fit an encoder, and the keys that do not."""

    total: int = 0
    fitting: dict[str, torch.Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the encoder is there, and nothing else."""
        return not (self.missing or self.unexpected or self.other_shape)

    def describe(self) -> str:
        """Return counts and first names, as one line."""
        parts = (
            (self.missing, f"of {self.total} tensors missing"),
            (self.other_shape, "of another shape"),
            (self.unexpected, "unexpected"),
        )
        return ", ".join(f"{len(keys)} {kind} ({_name_first(keys)})" for keys, kind in parts if keys)


def _name_first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")


def match_keys(encoder: Encoder, state: Mapping[str, torch.Tensor]) -> KeyMatch:
    """Compare the tensors of a file with those of an encoder."""
    wanted = encoder.state_dict()
    state = {encoder.rename_key(key): value for key, value in state.items()}
    prefix = _find_prefix(list(wanted), list(state))
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    match = KeyMatch()
    for key, own in wanted.items():
        value = found.pop(key, None)
        if key.endswith("num_batches_tracked"):  # missing in old files, and not used
            continue
        match.total += 1
        if value is None:
            match.missing.append(key)
            continue
        if key == encoder.stem_key and value.ndim == own.ndim and value.shape[1] == 3:
            value = adapt_stem(value, encoder.in_channels)
        if value.shape == own.shape:
            match.fitting[key] = value
        else:
            match.other_shape.append(f"{key} {tuple(value.shape)}, expected {tuple(own.shape)}")
    match.unexpected = [key for key in found if not key.startswith(encoder.foreign_keys)]
    return match


def _find_prefix(wanted: list[str], given: list[str]) -> str:
    """Return the prefix under which most of the wanted keys are given, the shortest of equals."""
    known = set(given)
    candidates = {""}
    for key in given:
        parts = key.split(".")
        candidates.update(".".join(parts[:cut]) + "." for cut in range(1, len(parts)))
    ordered = sorted(candidates, key=lambda prefix: (len(prefix), prefix))
    return max(ordered, key=lambda prefix: sum(prefix + name in known for name in wanted))
