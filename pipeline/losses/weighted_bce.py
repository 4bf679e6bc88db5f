"""Binary cross-entropy with a weight for every pixel."""

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss


class WeightMapBCELoss(_Loss):
    """Weighted cross-entropy of a foreground channel (Ronneberger et al. 2015, equation 1, two classes).

    The weights are the second channel of the target: compute them with :class:`pipeline.transforms.BorderWeightMap` and
    join mask and weights with ``ConcatItemsd``.

    Args:
        reduction: "mean" over all pixels, "sum", or "none" for the loss ``(B, 1, *spatial)`` of every pixel.
        normalize: with "mean", divide by the sum of the weights of the batch instead of the number of pixels, so that
            crops with many borders count the same as others.

    Raises:
        ValueError: the reduction is unknown, or ``normalize`` is used without "mean".

    Example:
        >>> logits = torch.zeros(1, 1, 1, 2)  # cross-entropy log(2) everywhere
        >>> target = torch.tensor([[[[0.0, 1.0]], [[1.0, 5.0]]]])
        >>> [round(WeightMapBCELoss(normalize=n)(logits, target).item(), 4) for n in (False, True)]
        [2.0794, 0.6931]
    """

    def __init__(self, reduction: LossReduction | str = LossReduction.MEAN, normalize: bool = False) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        if normalize and self.reduction != LossReduction.MEAN:
            raise ValueError(f'normalize needs the reduction "mean", got "{self.reduction}"')
        self.normalize = normalize

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: logits ``(B, 1, *spatial)``.
            target: ``(B, 2, *spatial)``: the mask (0 and 1), then the weights.

        Raises:
            ValueError: a shape does not match.
        """
        if input.ndim < 3 or input.shape[1] != 1:
            raise ValueError(f"expected logits (B, 1, *spatial), got shape {tuple(input.shape)}")
        expected = (input.shape[0], 2, *input.shape[2:])
        if tuple(target.shape) != expected:
            raise ValueError(
                f"expected a target {expected} of mask and weights for logits {tuple(input.shape)}, got "
                f"{tuple(target.shape)}; join mask and weights with ConcatItemsd"
            )
        mask, weight = target[:, :1].to(input.dtype), target[:, 1:].to(input.dtype)
        loss = F.binary_cross_entropy_with_logits(input, mask, reduction="none") * weight
        if self.reduction == LossReduction.NONE:
            return loss
        if self.reduction == LossReduction.SUM:
            return loss.sum()
        return loss.sum() / weight.sum() if self.normalize else loss.mean()
