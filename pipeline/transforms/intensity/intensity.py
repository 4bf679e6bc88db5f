"""Intensities of multi-channel images (the sequences of an MR study), channel by channel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, Transform
from monai.transforms.utils_pytorch_numpy_unification import percentile

__all__ = [
    "NormalizeForeground",
    "NormalizeForegroundd",
    "RandCopyChannel",
    "RandCopyChanneld",
    "RandGammaByChannel",
    "RandGammaByChanneld",
]


class NormalizeForeground(Transform):
    """Z-score every channel of a volume by the statistics of its foreground (the head, without the air around it).

    Values above the ``upper`` percentile are clipped first, so that a few bright voxels (vessels, fat) cannot set the
    scale; foreground is what exceeds ``threshold`` times that percentile. All voxels are mapped, so air becomes a low
    value: MONAI's ``NormalizeIntensity(nonzero=True)`` leaves it at 0, the mean of the tissue, and takes noise in the
    air for tissue.

    Args:
        upper: percentile at which the channel is clipped.
        threshold: lower limit of the foreground, as a share of that percentile.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[0.0, 0.0, 8.0, 12.0]]])
        >>> NormalizeForeground(upper=100)(image).tolist()
        [[[-5.0, -5.0, -1.0, 1.0]]]
    """

    def __init__(self, upper: float = 99.5, threshold: float = 0.05) -> None:
        if not 0 < upper <= 100:
            raise ValueError(f"upper must be a percentile in (0, 100], got {upper}")
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must lie in [0, 1), got {threshold}")
        self.upper = upper
        self.threshold = threshold

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image ``(C, *spatial)`` normalised; a channel without any foreground becomes 0.

        A constant foreground, which has no spread, is divided by its value instead.
        """
        result = image.clone() if image.is_floating_point() else image.float()
        for channel in range(image.shape[0]):
            # plain tensors: meta data would be copied through every step
            result[channel] = self._normalize(torch.as_tensor(result[channel].detach().cpu().numpy()))
        return result

    def _normalize(self, channel: torch.Tensor) -> torch.Tensor:
        high = float(percentile(channel, self.upper))
        clipped = channel.clamp(max=high)
        foreground = clipped[clipped > self.threshold * high]
        if foreground.numel() == 0:
            return torch.zeros_like(channel)
        spread = float(foreground.std(correction=0))
        # the spread of a constant is rounding error, not exactly 0
        return (clipped - foreground.mean()) / (spread if spread > 1e-6 * high else high)


class NormalizeForegroundd(MapTransform):
    """Dictionary version of :class:`NormalizeForeground`.

    Args:
        keys: items that hold images ``(C, *spatial)``.
        upper: percentile at which each channel is clipped.
        threshold: lower limit of the foreground, as a share of that percentile.
        allow_missing_keys: skip keys that a case does not have.
    """

    def __init__(
        self, keys: KeysCollection, upper: float = 99.5, threshold: float = 0.05, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.normalize = NormalizeForeground(upper, threshold)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise the image under each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.normalize(result[key])
        return result


class RandCopyChannel(RandomizableTransform):
    """Replace channels at random by a copy of another one, as datasets do for a sequence that was not acquired.

    Args:
        source: channel that is copied.
        targets: channels that may be replaced; each is, independently, with probability ``prob``.
        prob: probability for each target.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
        >>> RandCopyChannel(source=1, targets=[0, 2], prob=1.0)(image).flatten().tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, source: int, targets: Sequence[int], prob: float = 0.1) -> None:
        super().__init__(prob)
        if source in targets:
            raise ValueError(f"source channel {source} is among its own targets {list(targets)}")
        self.source = source
        self.targets = list(targets)
        self._chosen: list[int] = []

    def randomize(self, data: Any = None) -> None:
        """Draw which targets are replaced."""
        self._chosen = [target for target in self.targets if self.R.random() < self.prob]

    def __call__(self, image: torch.Tensor, randomize: bool = True) -> torch.Tensor:
        """Return the image ``(C, *spatial)``, a copy where a channel was replaced."""
        if randomize:
            self.randomize()
        if not self._chosen:
            return image
        result = image.clone()
        for target in self._chosen:
            result[target] = image[self.source]
        return result


class RandCopyChanneld(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandCopyChannel`; one draw holds for all keys.

    Args:
        keys: items that hold images ``(C, *spatial)``.
        source: channel that is copied.
        targets: channels that may be replaced.
        prob: probability for each target.
        allow_missing_keys: skip keys that a case does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        source: int,
        targets: Sequence[int],
        prob: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.copy_channel = RandCopyChannel(source, targets, prob)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandCopyChanneld:
        """Seed the draws."""
        super().set_random_state(seed, state)
        self.copy_channel.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply one draw to the image under each key."""
        result = dict(data)
        self.copy_channel.randomize()
        for key in self.key_iterator(result):
            result[key] = self.copy_channel(result[key], randomize=False)
        return result


class RandGammaByChannel(RandomizableTransform):
    """Change the contrast of every channel by a gamma of its own; MONAI's draws one gamma for all channels.

    ``x -> ((x - min) / range) ** gamma * range + min`` with the channel's own minimum and range, then scaled and
    shifted back to the channel's mean and standard deviation, so that only the shape of the histogram changes.

    Args:
        gamma: smallest and largest gamma; the logarithm is drawn uniformly, so brighter and darker are balanced.
        prob: probability for each channel.
    """

    def __init__(self, gamma: Sequence[float] = (0.6, 1.7), prob: float = 0.5) -> None:
        super().__init__(prob)
        if len(gamma) != 2 or not 0 < gamma[0] <= gamma[1]:
            raise ValueError(f"gamma must be a pair of positive numbers, smaller first, got {list(gamma)}")
        self.gamma = (float(gamma[0]), float(gamma[1]))
        self._gammas: list[float] = []

    def randomize(self, data: int) -> None:
        """Draw a gamma (1 = unchanged) for each of ``data`` channels."""
        low, high = np.log(self.gamma[0]), np.log(self.gamma[1])
        self._gammas = [
            float(np.exp(self.R.uniform(low, high))) if self.R.random() < self.prob else 1.0 for _ in range(data)
        ]

    def __call__(self, image: torch.Tensor, randomize: bool = True) -> torch.Tensor:
        """Return the image ``(C, *spatial)`` with changed contrast; the input is left as it was."""
        if randomize:
            self.randomize(image.shape[0])
        if all(gamma == 1.0 for gamma in self._gammas):
            return image
        result = image.clone()
        for channel, gamma in enumerate(self._gammas):
            if gamma != 1.0:
                result[channel] = _apply_gamma(result[channel], gamma)
        return result


def _apply_gamma(channel: torch.Tensor, gamma: float) -> torch.Tensor:
    low, high = channel.min(), channel.max()
    if high <= low:
        return channel
    mean, spread = channel.mean(), channel.std()
    changed = ((channel - low) / (high - low)).pow(gamma)
    return (changed - changed.mean()) / changed.std().clamp_min(1e-8) * spread + mean


class RandGammaByChanneld(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandGammaByChannel`; one draw holds for all keys.

    Args:
        keys: items that hold images ``(C, *spatial)`` with equal numbers of channels.
        gamma: smallest and largest gamma.
        prob: probability for each channel.
        allow_missing_keys: skip keys that a case does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        gamma: Sequence[float] = (0.6, 1.7),
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.change = RandGammaByChannel(gamma, prob)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandGammaByChanneld:
        """Seed the draws."""
        super().set_random_state(seed, state)
        self.change.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply one draw to the image under each key."""
        result = dict(data)
        first = True
        for key in self.key_iterator(result):
            result[key] = self.change(result[key], randomize=first)
            first = False
        return result
