"""Loss weights that emphasise the borders between cells."""

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type

from pipeline.flags import read_flag
from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.labels.instances import Ids, read_instances, separate

Floats = npt.NDArray[np.float32]

SMALLEST = 1e-4  # border terms below this are left out, so distances are needed near the cells only


class BorderWeightMap(Transform):
    r"""Compute the weight of every pixel in the loss from instance ids (Ronneberger et al. 2015, equation 2).

    .. math:: w(x) = w_c(x) + w_0 \exp\left(-\frac{(d_1(x) + d_2(x))^2}{2 \sigma^2}\right)

    ``w_c`` balances foreground and background: both have the same sum, and the mean is 1. ``d_1`` and ``d_2`` are the
    distances in pixels to the nearest and the second nearest cell. The second term applies to background, including the
    borders between touching cells that :class:`SeparateInstances` makes; terms below 0.0001 are left out.

    Args:
        w0: weight of the narrowest border, on top of ``w_c``.
        sigma: width in pixels of the weighted border.
        balance: balance the classes within the image by ``w_c``; otherwise, or with one class only, ``w_c`` is 1.
        width: pixels taken from each of two touching cells, as in :class:`SeparateInstances`.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> ids = torch.tensor([[[1, 0, 2, 2, 2, 2]]])
        >>> weights = BorderWeightMap(w0=10, sigma=5, balance=False)(ids)
        >>> weights[0, 0, 0].item(), round(weights[0, 0, 1].item(), 2)  # 1 + 10 exp(-(1 + 1)^2 / 50)
        (1.0, 10.23)
    """

    def __init__(self, w0: float = 10.0, sigma: float = 5.0, balance: bool | str = True, width: int = 1) -> None:
        if w0 < 0 or sigma <= 0 or width < 0:
            raise ValueError(f"w0 and width must be at least 0 and sigma above 0, got {w0}, {width} and {sigma}")
        self.w0 = w0
        self.sigma = sigma
        self.balance = read_flag(balance, "balance")
        self.width = width

    def __call__(self, instances: torch.Tensor) -> torch.Tensor:
        """Compute the weights.

        Args:
            instances: ids ``(1, *spatial)``, 0 for background.

        Returns:
            Weights ``(1, *spatial)`` as float32; meta data is kept.

        Raises:
            ValueError: there is more than one channel, or a value that is not an id.
        """
        cells = separate(read_instances(instances), self.width)
        weights = _balance(cells > 0) if self.balance else np.ones(cells.shape, dtype=np.float32)
        weights += np.where(cells == 0, self._weigh_borders(cells), 0)
        return convert_to_dst_type(torch.from_numpy(weights)[None], dst=instances, dtype=torch.float32)[0]

    def _weigh_borders(self, cells: Ids) -> Floats:
        if self.w0 <= SMALLEST:
            return np.zeros(cells.shape, dtype=np.float32)
        reach = self.sigma * math.sqrt(2 * math.log(self.w0 / SMALLEST))
        nearest, second = _two_distances(cells, math.ceil(reach))
        return (self.w0 * np.exp(-((nearest + second) ** 2) / (2 * self.sigma**2))).astype(np.float32)


def _balance(foreground: npt.NDArray[np.bool_]) -> Floats:
    share = float(foreground.mean())
    if share in (0.0, 1.0):
        return np.ones(foreground.shape, dtype=np.float32)
    return np.where(foreground, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)


def _two_distances(cells: Ids, reach: int) -> tuple[Floats, Floats]:
    """Return the distances to the nearest and the second nearest cell; may be infinite beyond ``reach``."""
    from scipy.ndimage import distance_transform_edt, find_objects

    nearest = np.full(cells.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    for number, box in enumerate(find_objects(cells), 1):
        if box is None:  # an id that does not occur
            continue
        around = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        distance = distance_transform_edt(cells[around] != number).astype(np.float32)
        second[around] = np.minimum(second[around], np.maximum(nearest[around], distance))
        nearest[around] = np.minimum(nearest[around], distance)
    return nearest, second


class BorderWeightMapd(DictTransform, array=BorderWeightMap):
    """Dictionary version of :class:`BorderWeightMap`, with the same further arguments; the weights get a new key.

    Args:
        keys: the one item that holds instance ids ``(1, *spatial)``.
        new_key: item for the weights.
        allow_missing_keys: do nothing for a case without the key.

    Raises:
        ValueError: there is more than one key, or an argument is out of range.
    """

    def prepare(self, new_key: str = "weight") -> None:
        """Store the key of the weights."""
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one item with instance ids, got {list(self.keys)}")
        self.new_key = new_key

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Add the weights."""
        data[self.new_key] = self.transform(data[key])
