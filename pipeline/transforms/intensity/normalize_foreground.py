"""Normalisation of multi-channel images (such as the sequences of an MR study) by their foreground."""

import torch
from monai.transforms import Transform
from monai.transforms.utils_pytorch_numpy_unification import percentile

from pipeline.transforms.dictionary import DictTransform


class NormalizeForeground(Transform):
    """Z-score every channel of a volume by the statistics of its foreground (the head, without the air around it).

    Values above the ``upper`` percentile are clipped first, so that a few bright voxels (vessels, fat) cannot set the
    scale. Voxels above ``threshold`` times that percentile are foreground. All voxels are mapped, so air gets a low
    value. MONAI's ``NormalizeIntensity(nonzero=True)`` leaves air at 0, the mean of the tissue, and counts noise in
    the air as tissue.

    Args:
        upper: percentile at which the channel is clipped.
        threshold: lower limit of the foreground, as a share of that percentile.

    Example:
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


class NormalizeForegroundd(DictTransform, array=NormalizeForeground):
    """Dictionary version of :class:`NormalizeForeground`, with the same further arguments.

    Args:
        keys: items that hold images ``(C, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
