"""Random changes of single channels of an image, such as the sequences of an MR study."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTransform

from pipeline.transforms.dictionary import RandDictTransform


class RandCopyChannel(RandomizableTransform):
    """Replace channels at random by a copy of another one, as some datasets do when a sequence was not acquired.

    Args:
        source: channel that is copied.
        targets: channels that may be replaced, each independently of the others.
        prob: probability of replacing a target.

    Example:
        >>> image = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
        >>> RandCopyChannel(source=1, targets=[0, 2], prob=1.0)(image).flatten().tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, source: int, targets: Sequence[int], prob: float = 0.1) -> None:
        super().__init__(prob)
        if source in targets:
            raise ValueError(f"source channel {source} is among the targets {list(targets)}")
        self.source = source
        self.targets = list(targets)
        self._chosen: list[int] = []

    def randomize(self, data: Any = None) -> None:
        """Draw which targets are replaced."""
        self._chosen = [target for target in self.targets if self.R.random() < self.prob]

    def __call__(self, image: torch.Tensor, randomize: bool = True) -> torch.Tensor:
        """Return the image ``(C, *spatial)``, a copy if a channel was replaced."""
        if randomize:
            self.randomize()
        if not self._chosen:
            return image
        result = image.clone()
        for target in self._chosen:
            result[target] = image[self.source]
        return result


class RandCopyChanneld(RandDictTransform, array=RandCopyChannel):
    """Dictionary version of :class:`RandCopyChannel`, with the same further arguments; one draw holds for all keys.

    Args:
        keys: items that hold images ``(C, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """


class RandGammaByChannel(RandomizableTransform):
    """Change the contrast of every channel by a separate gamma; MONAI draws one gamma for all channels.

    ``x -> ((x - min) / range) ** gamma * range + min`` with the minimum and range of the channel, then scaled
    and shifted back to the channel's mean and standard deviation, so that only the shape of the histogram changes.

    Args:
        gamma: smallest and largest gamma; its logarithm is drawn uniformly, so brightening and darkening are balanced.
        prob: probability of changing a channel.
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
        """Return the image ``(C, *spatial)`` with changed contrast; the input is not modified."""
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


class RandGammaByChanneld(RandDictTransform, array=RandGammaByChannel):
    """Dictionary version of :class:`RandGammaByChannel`, with the same further arguments; one draw holds for all keys.

    Args:
        keys: items that hold images ``(C, *spatial)`` with equal numbers of channels.
        allow_missing_keys: skip keys that a case does not have.
    """
