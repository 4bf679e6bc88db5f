"""Where the pixels of a moved image come from, and what is read there."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch.nn import functional

#: Modes and paddings of `torch.nn.functional.grid_sample` that MONAI's transforms share
MODES = ("bilinear", "nearest")
PADDINGS = ("border", "reflection", "zeros")


def take(images: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
    """Return the chosen images, all of them without a copy."""
    return images if len(chosen) == len(images) else images[list(chosen)]


def put(images: torch.Tensor, chosen: Sequence[int], changed: torch.Tensor) -> torch.Tensor:
    """Return the images with the chosen ones replaced, in place unless all are replaced."""
    if len(chosen) == len(images):
        return changed
    images[list(chosen)] = changed
    return images


class Origins:
    """Where each pixel of a moved image comes from, for images of one shape.

    Args:
        shape: ``d`` numbers of pixels, before and after.
        matrices: ``(N, d + 1, d + 1)``, from positions after to positions before, in pixels from the centre, as in
            MONAI's ``AffineGrid``; or
        positions: ``(N, d, *shape)``, the positions before.
    """

    def __init__(
        self, shape: Sequence[int], matrices: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> None:
        self._shape, self._matrices, self._positions = tuple(shape), matrices, positions
        self._places: dict[str, torch.Tensor] = {}

    def read(self, images: torch.Tensor, mode: str, padding: str) -> torch.Tensor:
        """Return what the images have there, as MONAI's ``Resample`` does.

        Args:
            images: ``(N, C, *shape)``, float32.
            mode: one of `MODES`; with three axes "bilinear" is trilinear.
            padding: one of `PADDINGS`.
        """
        if len(self._shape) == 3 and images.device.type == "cpu" and padding != "zeros":
            # `grid_sample` of volumes is not vectorised on the CPU: this is faster.
            read = _read_nearest if mode == "nearest" else _read_linear
            return torch.stack([read(*pair) for pair in zip(images, self._bring_inside(padding), strict=True)])
        return functional.grid_sample(images, self._grid, mode=mode, padding_mode=padding, align_corners=False)

    @cached_property
    def _grid(self) -> torch.Tensor:
        """As `torch.nn.functional.grid_sample` wants it: -1 to 1 from edge to edge, the last axis first."""
        grid = self._source.new_empty(len(self._source), *self._shape, len(self._shape), dtype=torch.float32)
        for axis, count in enumerate(self._shape):
            self._locate(axis, 2.0 / max(2, count), 0.0, grid[..., -1 - axis])
        return grid

    def _bring_inside(self, padding: str) -> torch.Tensor:
        """Return indices of voxels ``(N, d, *shape)``, with fractions."""
        if padding not in self._places:
            places = self._source.new_empty(len(self._source), len(self._shape), *self._shape, dtype=torch.float32)
            for axis, count in enumerate(self._shape):
                place = places[:, axis]
                self._locate(axis, 1.0, (count - 1) / 2, place)
                if padding == "reflection":  # at the outer edges of the first and last voxel
                    place.add_(0.5).abs_().remainder_(2 * count)
                    torch.minimum(place, 2 * count - place, out=place).sub_(0.5)
                place.clamp_(0, count - 1)
            self._places[padding] = places
        return self._places[padding]

    @property
    def _source(self) -> torch.Tensor:
        source = self._positions if self._matrices is None else self._matrices
        assert source is not None, "either matrices or positions"
        return source

    def _locate(self, axis: int, scale: float, offset: float, out: torch.Tensor) -> None:
        """Write the positions on one axis, scaled and then moved."""
        if self._matrices is not None:
            self._apply_row(self._matrices[:, axis].float() * scale, offset, out)
        else:
            torch.mul(self._source[:, axis], scale, out=out).add_(offset)

    def _apply_row(self, row: torch.Tensor, offset: float, out: torch.Tensor) -> None:
        each = [1] * len(self._shape)
        terms = []
        for axis, count in enumerate(self._shape):
            places = torch.arange(count, dtype=torch.float32, device=row.device) - (count - 1) / 2
            terms.append(row[:, axis].reshape(-1, *each) * places.reshape(*each[:axis], count, *each[axis + 1 :]))
        terms[0] = terms[0] + (row[:, -1] + offset).reshape(-1, *each)
        torch.add(sum(terms[1:-1], start=terms[0]), terms[-1], out=out)


def _find_indices(places: Sequence[torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
    # Whole numbers up to 2 ** 24 are exact in float32; a patch of a training is smaller.
    is_small = torch.Size(shape).numel() <= 2**24
    index = places[0] if is_small else places[0].double()
    for place, count in zip(places[1:], shape[1:], strict=True):
        index = torch.add(place, index, alpha=count)
    return index.flatten().int() if is_small else index.flatten().long()


def _read_nearest(volume: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    index = _find_indices(places.round().unbind(), volume.shape[1:])
    return volume.flatten(1).index_select(1, index).reshape(-1, *places.shape[1:])


def _read_linear(volume: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    # One more voxel at the far ends, so that the second of two neighbours always exists, at the same distance.
    padded = functional.pad(volume[None], (0, 1, 0, 1, 0, 1), mode="replicate")[0]
    first = [place.floor() for place in places]
    weights = [(place - begin).flatten() for place, begin in zip(places, first, strict=True)]
    index = _find_indices(first, padded.shape[1:])
    flat, (_, _, rows, columns) = padded.flatten(1), padded.shape

    def read(offset: int) -> torch.Tensor:
        left, right = (flat[:, offset + step :].index_select(1, index) for step in (0, 1))
        return left.lerp_(right, weights[2])

    def read_plane(offset: int) -> torch.Tensor:
        return read(offset).lerp_(read(offset + columns), weights[1])

    return read_plane(0).lerp_(read_plane(rows * columns), weights[0]).reshape(-1, *places.shape[1:])
