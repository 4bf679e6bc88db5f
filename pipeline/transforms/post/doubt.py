"""How unsure a network is of each voxel."""

import math

import torch

_SUM = 1e-3


def measure_doubt(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the entropy of the probabilities of each voxel, from 0 (sure) to 1 (all labels are as likely).

    Channels whose sum is 1 everywhere exclude each other (softmax), and their common entropy is divided by its maximum,
    ln L. Others are questions of their own (sigmoid): each has an entropy, divided by ln 2, and the largest counts.

    Args:
        probabilities: ``(L, *spatial)``.

    Returns:
        ``(1, *spatial)``.

    Example:
        >>> measure_doubt(torch.tensor([[[0.5, 1.0, 0.89]]])).squeeze().numpy().round(3).tolist()
        [1.0, 0.0, 0.5]
        >>> measure_doubt(torch.full((3, 1, 1), 1 / 3)).item()
        1.0
    """
    values = torch.as_tensor(probabilities).as_subclass(torch.Tensor).float().clamp(0, 1)
    if len(values) > 1 and bool(((values.sum(dim=0) - 1).abs() < _SUM).all()):
        entropy = torch.special.entr(values).sum(dim=0, keepdim=True) / math.log(len(values))
    else:
        both = torch.special.entr(values) + torch.special.entr(1 - values)
        entropy = both.amax(dim=0, keepdim=True) / math.log(2)
    return entropy.clamp(0, 1)
