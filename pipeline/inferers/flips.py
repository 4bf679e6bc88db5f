"""Test-time augmentation by flips and quarter turns, as a wrapper around any MONAI inferer."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.inferers import Inferer

from pipeline.inferers.averaging import Activation, PredictionMean

_BEFORE = 2  # axes before the spatial ones: batch and channels
_PLANE = (_BEFORE, _BEFORE + 1)


@dataclass(eq=False, repr=False)
class FlipAverageInferer(Inferer):
    """Run another inferer on the image and on flipped and rotated copies, and average the outputs, transformed back.

    The copies combine every rotation with every flip: ``flips=[[1]]`` and ``rotations=[1, 2, 3]`` give the eight
    symmetries of a square, the image and the "7 rotated versions" of Ronneberger et al. (2015). Time grows with the
    number of copies, memory does not.

    Raises:
        ValueError: an entry of ``flips`` is empty, negative, names an axis twice or one that images lack, an entry of
            ``rotations`` is not 1, 2 or 3, or the activation is unknown.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> inferer = FlipAverageInferer(SimpleInferer(), flips=[[1]])
        >>> inferer(torch.tensor([[[[1.0, 2.0]]]]), lambda image: image * torch.tensor([1.0, 3.0])).tolist()
        [[[[2.0, 4.0]]]]
    """

    inferer: Inferer  #: the inferer to run
    #: one entry per flipped copy: the spatial axes to flip together; 0 is the first axis after the channels
    flips: Sequence[Sequence[int]] = ()
    #: one entry per rotated copy: quarter turns, 1 to 3, in the plane of the spatial axes 0 and 1
    rotations: Sequence[int] = ()
    #: None averages the network's outputs (logits). "sigmoid" and "softmax" average probabilities, see
    #: `pipeline.inferers.averaging.PredictionMean`.
    activation: Activation | None = None

    def __post_init__(self) -> None:
        if any(len(axes) == 0 or min(axes) < 0 for axes in self.flips):
            raise ValueError(f"every entry of flips must list spatial axes from 0, got {list(self.flips)}")
        if any(len(set(axes)) < len(axes) for axes in self.flips):
            raise ValueError(f"an entry of flips names an axis twice, got {list(self.flips)}")
        if any(turns not in (1, 2, 3) for turns in self.rotations):
            raise ValueError(f"rotations must list quarter turns, 1 to 3, got {list(self.rotations)}")
        PredictionMean(self.activation)  # raises if it is unknown
        dims: list[tuple[int, ...]] = [tuple(axis + _BEFORE for axis in axes) for axes in self.flips]
        self.copies = list(itertools.product([0, *self.rotations], [(), *dims]))

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the mean of ``inferer(inputs, network)`` over all copies of the inputs ``(B, C, *spatial)``."""
        highest, known = max((axis for axes in self.flips for axis in axes), default=0), inputs.ndim - _BEFORE
        if highest >= known:
            raise ValueError(f"flips names axis {highest}, but images have the spatial axes 0 to {known - 1}")
        mean = PredictionMean(self.activation)
        for turns, dims in self.copies:
            if not turns and not dims:
                mean.add(self.inferer(inputs, network, *args, **kwargs))
                continue
            copy = torch.flip(torch.rot90(inputs, turns, _PLANE), dims)
            output = self.inferer(copy, network, *args, **kwargs)
            mean.add(torch.rot90(torch.flip(output, dims), -turns, _PLANE))
        return mean.compute()
