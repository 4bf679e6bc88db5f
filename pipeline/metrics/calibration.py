"""Calibration of the probabilities of one case: counts for a reliability diagram, and Brier scores.

Nearly all voxels of an image are background that no network is unsure of, so scores over all voxels are near 0 for any
network. The *band* holds the voxels near the boundary of the truth or of the prediction, where the questions are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from monai.metrics.calibration import calibration_binning

from pipeline.issues import InputError
from pipeline.metrics.label_maps import find_spacing, to_plain

#: Bins of equal width of the probability
BINS = 10
#: What is counted, in the order of the tables
REGIONS = ("band", "all")
#: Half width of the band in mm, where the voxel size is known
BAND_MM = 2.0
#: The same as a share of a picture's diagonal, where it is not (Cheng et al. 2021, CVPR, "Boundary IoU")
BAND_SHARE = 0.02
_MOST = 1 << 20  # pixels of a picture that are counted
_CHUNK = 1 << 17  # voxels at a time, because MONAI counts in single precision, which ends at 2^24


@dataclass(frozen=True)
class Calibration:
    """Counts of one case, or sums of several."""

    #: (K, R, B, 3) by class, region and bin: voxels, sum of their probabilities, voxels that are of the class
    bins: torch.Tensor
    squares: torch.Tensor  #: (K, R), sums of the squared difference of probability and truth

    def brier(self) -> torch.Tensor:
        """Return the Brier score (K, R), from 0 (best) to 1; NaN where there are no voxels."""
        return self.squares / self.bins[..., 0].sum(-1)

    def error(self) -> torch.Tensor:
        """Return the expected calibration error (K, R), as MONAI's ``CalibrationErrorMetric``; NaN without voxels.

        It is the mean over voxels of the distance between mean probability and observed frequency in their bin.
        """
        return (self.bins[..., 1] - self.bins[..., 2]).abs().sum(-1) / self.bins[..., 0].sum(-1)

    def over_confidence(self) -> torch.Tensor:
        """Return mean confidence minus accuracy (K, R): above 0 if probabilities are nearer to 0 and 1 than they may.

        The confidence of a voxel is that of the likelier answer, p or 1 - p.
        """
        count, prob, truth = self.bins.unbind(-1)
        side = torch.ones(count.shape[-1], dtype=count.dtype)
        side[: count.shape[-1] // 2] = -1
        return ((prob - truth) * side).sum(-1) / count.sum(-1)

    def excess(self) -> torch.Tensor:
        """Return mean probability minus frequency (K, R): above 0 if the class is expected too often."""
        return (self.bins[..., 1] - self.bins[..., 2]).sum(-1) / self.bins[..., 0].sum(-1)


def measure_calibration(prob: torch.Tensor, label: torch.Tensor) -> Calibration:
    """Count one case. Of a picture with more than a million pixels, a regular grid of them is counted.

    Args:
        prob: probabilities (L, *spatial). Of several channels the first is background, unless the label has as many.
        label: class ids or numbers of objects (1, *spatial), or a mask per channel (L, *spatial), on the same grid.

    Returns:
        The counts by class, without the background. A class that neither truth nor prediction has, has no band.

    Raises:
        InputError: the grids differ, or there are no probabilities.

    Example:
        >>> prob, truth = torch.tensor([[[0.1, 0.4, 0.8, 0.9]]]), torch.tensor([[[0, 0, 0, 1]]])
        >>> found = measure_calibration(prob, truth)
        >>> [round(score, 4) for score in (found.brier()[0, 1].item(), found.error()[0, 1].item())]
        [0.205, 0.35]
        >>> found.bins[0, 0, :, 0].sum().item()  # the band: within 1 pixel of the boundary of truth or prediction
        3.0
    """
    _require_grid(prob, label)
    radii = find_band_radii(label)
    bins, squares = [], []
    for values, truth in _list_classes(to_plain(prob), to_plain(label).to(prob.device)):
        values, truth, reach = _thin(values, truth, radii)
        band = find_band(truth, values >= 0.5, reach)
        counted = [count_voxels(values[band], truth[band]), count_voxels(values.flatten(), truth.flatten())]
        bins.append(torch.stack([table for table, _ in counted]))
        squares.append([square for _, square in counted])
    return Calibration(torch.stack(bins), torch.tensor(squares, dtype=torch.float64))


def find_band_radii(label: torch.Tensor) -> tuple[int, ...]:
    """Return how many voxels the band reaches along each axis, on both sides of a boundary.

    Where the voxel size is known, `BAND_MM`, and at least one voxel along the finest axis. Else `BAND_SHARE` of the
    diagonal of the first two axes; a third axis counts slices, and each slice has its own band.

    Args:
        label: (C, *spatial).

    Example:
        >>> find_band_radii(torch.zeros(1, 256, 256, 20))
        (7, 7, 0)
    """
    spacing = find_spacing(label[None])
    if spacing is not None:
        reach = max(BAND_MM, min(spacing))
        return tuple(int(reach / size + 1e-6) for size in spacing)
    shape = tuple(label.shape[1:])
    diagonal = sum(length**2 for length in shape[:2]) ** 0.5
    return tuple(max(1, round(BAND_SHARE * diagonal)) if axis < 2 else 0 for axis in range(len(shape)))


def find_band(truth: torch.Tensor, pred: torch.Tensor, radii: tuple[int, ...]) -> torch.Tensor:
    """Return the voxels whose box of ``2 r + 1`` voxels along each axis has both sides of a boundary of either mask.

    A box and not a ball, because its sums take the same time for any size. The edge of the image is no boundary.

    Args:
        truth: bool (*spatial).
        pred: as ``truth``.
        radii: r of each axis.

    Example:
        >>> mask = torch.tensor([[0, 0, 0, 1, 1]]).bool()
        >>> find_band(mask, mask & False, (0, 1)).int().tolist()
        [[0, 0, 1, 1, 0]]
    """
    band = torch.zeros_like(truth)
    box = _find_box(truth | pred, radii)
    if box is not None:
        band[box] = _mix(truth[box], radii) | _mix(pred[box], radii)
    return band


def _find_box(mask: torch.Tensor, radii: tuple[int, ...]) -> tuple[slice, ...] | None:
    """Return the part of the image that the band can lie in."""
    box = []
    for axis, radius in enumerate(radii):
        others = [other for other in range(mask.ndim) if other != axis]
        found = (mask.any(dim=others) if others else mask).nonzero()
        if not len(found):
            return None
        box.append(slice(max(0, int(found[0]) - radius - 1), int(found[-1]) + radius + 2))
    return tuple(box)


def _mix(mask: torch.Tensor, radii: tuple[int, ...]) -> torch.Tensor:
    total, size = mask.to(torch.int32), torch.ones((), dtype=torch.int32, device=mask.device)
    for axis, radius in enumerate(radii):
        length = mask.shape[axis]
        places = torch.arange(length, device=mask.device)
        high, low = (places + radius + 1).clamp(max=length), (places - radius).clamp(min=0)
        sums = torch.nn.functional.pad(total.movedim(axis, -1).cumsum(-1, dtype=torch.int32), (1, 0))
        total = (sums[..., high] - sums[..., low]).movedim(-1, axis)
        size = size * (high - low).reshape([-1 if other == axis else 1 for other in range(mask.ndim)])
    return (total > 0) & (total < size)


def _require_grid(prob: torch.Tensor, label: torch.Tensor) -> None:
    if prob.shape[1:] != label.shape[1:] or label.shape[0] not in (1, prob.shape[0]):
        raise InputError(
            f"calibration: the probabilities have the shape {tuple(prob.shape)} and the label {tuple(label.shape)}, "
            "expected one grid: put Invertd before MeasureProbabilitiesd"
        )
    low, high = to_plain(prob).aminmax()
    if not prob.is_floating_point() or not (low >= -1e-4 and high <= 1 + 1e-4):
        raise InputError(
            f"calibration: pred goes from {low.item():g} to {high.item():g}, expected probabilities from 0 to 1: "
            "put MeasureProbabilitiesd after Activationsd and before AsDiscreted"
        )


def _list_classes(prob: torch.Tensor, label: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield probability and truth (*spatial) of each class but the background."""
    if len(prob) == len(label):
        yield from ((values, truth > 0) for values, truth in zip(prob, label, strict=True))
    else:
        yield from ((prob[number], label[0] == number) for number in range(1, len(prob)))


def _thin(
    values: torch.Tensor, truth: torch.Tensor, radii: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
    """Return every second, third, ... row and column of a large picture."""
    step = 1
    while values.ndim == 2 and values.numel() > _MOST * step**2:
        step += 1
    reach = tuple(max(1, radius // step) if radius else 0 for radius in radii)
    return values[::step, ::step], truth[::step, ::step], reach


def count_voxels(values: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Count voxels by MONAI's ``calibration_binning``.

    Args:
        values: probabilities (N,).
        truth: bool (N,).

    Returns:
        (B, 3) by bin: voxels, sum of their probabilities, voxels that are of the class; and the sum of squares.
    """
    values = values.float().clamp(0, 1)
    table = torch.zeros(BINS, 3, dtype=torch.float64)
    square = 0.0
    for some, there in zip(values.split(_CHUNK), truth.float().split(_CHUNK), strict=True):
        found = calibration_binning(some[None, None], there[None, None], BINS)
        mean, frequency, count = (item[0, 0].double().cpu() for item in found)
        table += torch.stack([count, (mean * count).nan_to_num(0), (frequency * count).nan_to_num(0)], dim=-1)
        square += float((some - there).square().sum(dtype=torch.float64))
    return table, square
