"""Refinement of probabilities by the image with a fully connected CRF."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type

from pipeline.crf.arguments import check_parameters
from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import name_item, read_axis, read_spacing

Width = float | Sequence[float]


class DenseCRF(Transform):
    r"""Move the borders of a prediction to edges of the image (Kraehenbuehl and Koltun 2011).

    Mean-field inference in a CRF that connects every pixel with every other one, see `pipeline.crf`. Pixels get the
    same label if they are close (``spatial_*``), and more so if their intensities are similar (``bilateral_*``).

    .. math:: k(i, j) = w_s \exp\Big(-\frac{|p_i - p_j|^2}{2 \theta_s^2}\Big)
        + w_b \exp\Big(-\frac{|p_i - p_j|^2}{2 \theta_b^2} - \frac{|I_i - I_j|^2}{2 \theta_I^2}\Big)

    Args:
        spatial_weight: weight of the spatial kernel, 0 to switch it off.
        spatial_width: its width, in voxels, or in mm with ``use_spacing``; one number, or one per spatial axis.
        bilateral_weight: weight of the bilateral kernel, 0 to switch it off.
        bilateral_width: its width in space, as ``spatial_width``.
        bilateral_intensity: its width in intensity, in the units of the image; the default suits 0 to 255.
        iterations: mean-field iterations; 0 changes nothing.
        slice_axis: spatial axis across slices that are refined separately in 2-D; widths are then for the other axes.
            By default the volume is refined as a whole.
        use_spacing: widths are in mm, by the voxel sizes in the meta data of the probabilities.
        argmax: return an index map instead of probabilities.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> image = torch.cat([torch.zeros(1, 6, 4), torch.full((1, 6, 4), 200.0)], dim=2)
        >>> prob = torch.full((1, 6, 8), 0.2)
        >>> prob[..., 4:] = 0.7
        >>> prob[0, 2, 5] = 0.4  # uncertain, inside a bright region
        >>> DenseCRF(bilateral_width=10, argmax=True)(prob, image)[0, 2].int().tolist()
        [0, 0, 0, 0, 1, 1, 1, 1]
    """

    def __init__(
        self,
        spatial_weight: float = 3.0,
        spatial_width: Width = 3.0,
        bilateral_weight: float = 10.0,
        bilateral_width: Width = 80.0,
        bilateral_intensity: float = 13.0,
        iterations: int = 5,
        *,
        slice_axis: int | None = None,
        use_spacing: bool = False,
        argmax: bool = False,
    ) -> None:
        self.options: dict[str, Any] = {
            "spatial_weight": spatial_weight,
            "spatial_width": spatial_width,
            "bilateral_weight": bilateral_weight,
            "bilateral_width": bilateral_width,
            "bilateral_intensity": bilateral_intensity,
            "iterations": iterations,
        }
        # The number of axes is known only with the image.
        check_parameters(max(len(np.ravel(spatial_width)), len(np.ravel(bilateral_width))), **self.options)
        self.slice_axis = slice_axis
        self.use_spacing = use_spacing
        self.argmax = argmax

    def __call__(self, prob: torch.Tensor, image: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Refine the probabilities.

        Args:
            prob: ``(L, *spatial)`` with sum 1 over L, or ``(1, *spatial)`` of the foreground only.
            image: ``(C, *spatial)`` on the same grid.

        Returns:
            float32 probabilities of the shape of ``prob``; with ``argmax`` an index map ``(1, *spatial)``, in which a
            single channel is foreground from 0.5 on. Meta data are those of ``prob``.

        Raises:
            ValueError: the grids differ, ``prob`` are not probabilities, or the case needs more memory than is free.
        """
        plain = _to_plain(prob)
        _check(plain, image, name_item(prob))
        labels = torch.cat([1 - plain, plain]) if plain.shape[0] == 1 else plain
        try:
            refined = self._refine(labels, _to_plain(image).to(labels.device), prob)
        except (ValueError, MemoryError) as error:
            raise ValueError(f"{name_item(prob)}: CRF: {error}") from error
        if self.argmax:
            # At 0.5 argmax would choose background.
            refined = (refined[1:] >= 0.5).float() if plain.shape[0] == 1 else refined.argmax(0, keepdim=True).float()
        elif plain.shape[0] == 1:
            refined = refined[1:]
        return convert_to_dst_type(refined, dst=prob, dtype=torch.float32)[0]

    def _refine(self, labels: torch.Tensor, image: torch.Tensor, prob: torch.Tensor) -> torch.Tensor:
        from pipeline.crf import mean_field, mean_field_batch

        spacing = read_spacing(prob) if self.use_spacing else None
        if self.slice_axis is None:
            return torch.as_tensor(mean_field(labels, image.movedim(0, -1), spacing=spacing, **self.options))
        axis = read_axis(self.slice_axis, image.ndim - 1)
        if spacing is not None:
            spacing = (*spacing[:axis], *spacing[axis + 1 :])
        slices = labels.movedim(axis + 1, 0), image.movedim(axis + 1, 0).movedim(1, -1)
        refined = mean_field_batch(*slices, spacing=spacing, **self.options)
        return torch.as_tensor(refined).movedim(0, axis + 1)


def _to_plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(torch.Tensor).detach().float()


def _check(prob: torch.Tensor, image: torch.Tensor, name: str) -> None:
    if prob.ndim < 2 or prob.shape[1:] != image.shape[1:] or prob.numel() == 0:
        found, expected = tuple(prob.shape), tuple(image.shape)
        raise ValueError(
            f"{name}: the CRF needs probabilities (L, *spatial) and an image (C, *spatial) on one grid, got {found} and"
            f" {expected}; use Invertd for the probabilities and LoadSourced for the image"
        )


class DenseCRFd(DictTransform, array=DenseCRF):
    """Dictionary version of :class:`DenseCRF`, with the same further arguments.

    Args:
        keys: items that hold probabilities ``(L, *spatial)`` or ``(1, *spatial)``.
        image_key: item that holds the image ``(C, *spatial)`` on their grid, for example from `LoadSourced`.
        allow_missing_keys: skip keys that a case does not have.

    Raises:
        ValueError: an argument is out of range; when called: there is no image.
    """

    def prepare(self, image_key: str) -> None:
        """Store the key of the image."""
        self.image_key = image_key

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Refine the probabilities of one item."""
        if self.image_key not in data:
            raise ValueError(f"the CRF needs the image {self.image_key!r}: put LoadSourced before it")
        data[key] = self.transform(data[key], data[self.image_key])
