"""The component that a network is surest of, instead of the largest one."""

import numpy as np
import torch
from monai.transforms import Transform

from pipeline.transforms.dictionary import DictTransform


class KeepSurestComponent(Transform):
    """Keep the connected component of which a network is surest as a whole, and set the others' probabilities to 0.

    A component weighs the sum of ``p - threshold`` over its voxels. At 0.5 that is half of the number of voxels that
    are expected to be right, minus half of those expected to be wrong. MONAI's ``KeepLargestConnectedComponent`` counts
    voxels only: a large region that is barely above the threshold then displaces a smaller one that is certain.
    It acts on probabilities, so the threshold comes after it.

    Args:
        threshold: voxels from this probability on are foreground, as in MONAI's ``AsDiscrete``.

    Raises:
        ValueError: the threshold is not between 0 and 1.

    Example:
        >>> prob = torch.tensor([[[0.6, 0.6, 0.6, 0.2, 0.9, 0.8]]], dtype=torch.float64)
        >>> KeepSurestComponent()(prob).tolist()
        [[[0.0, 0.0, 0.0, 0.2, 0.9, 0.8]]]
    """

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = float(threshold)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be a number between 0 and 1, got {threshold}")

    def __call__(self, prob: torch.Tensor) -> torch.Tensor:
        """Clean probabilities of one class.

        Args:
            prob: probabilities ``(1, *spatial)``. Components connect along faces, edges and corners.

        Returns:
            Probabilities with the shape, dtype and meta data of the old ones; the same object if there is at most one
            component. Of components that weigh the same the first in memory stays.

        Raises:
            ValueError: there are several channels.
        """
        from scipy.ndimage import label

        if len(prob) != 1:
            raise ValueError(f"expected probabilities of one class (1, *spatial), got shape {tuple(prob.shape)}")
        values = prob.detach().as_subclass(torch.Tensor).cpu().double().numpy()[0]
        components, number = label(values >= self.threshold, structure=np.ones((3,) * values.ndim))
        if number < 2:
            return prob
        weights = np.bincount(components.ravel(), weights=(values - self.threshold).ravel())
        others = components != 1 + weights[1:].argmax()
        others &= components > 0
        return prob.masked_fill(torch.from_numpy(others)[None].to(prob.device), 0)


class KeepSurestComponentd(DictTransform, array=KeepSurestComponent):
    """Dictionary version of :class:`KeepSurestComponent`, with the same further arguments.

    Args:
        keys: items that hold probabilities ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
