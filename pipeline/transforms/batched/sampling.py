"""Where the pixels of a moved image come from, and what is read there."""

from collections.abc import Sequence

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


def find_positions(matrices: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return where each pixel of the result comes from.

    Args:
        matrices: ``(N, d + 1, d + 1)``, from positions in the result to positions in the image, in pixels from the
            centre, as MONAI's ``AffineGrid`` has them.
        shape: ``d`` numbers of pixels.

    Returns:
        ``(N, d, *shape)``: positions in pixels from the centre.
    """
    matrices, dimensions = matrices.float(), len(shape)
    each = [1] * dimensions
    positions = matrices.new_empty(len(matrices), dimensions, *shape)
    for row in range(dimensions):
        terms = [
            matrices[:, row, axis].reshape(-1, *each) * _count_from_centre(shape, axis, matrices.device)
            for axis in range(dimensions)
        ]
        terms[0] = terms[0] + matrices[:, row, -1].reshape(-1, *each)
        if dimensions == 3:
            terms[:2] = [terms[0] + terms[1]]
        torch.add(*terms, out=positions[:, row])
    return positions


def _count_from_centre(shape: Sequence[int], axis: int, device: torch.device) -> torch.Tensor:
    count = shape[axis]
    places = torch.arange(count, dtype=torch.float32, device=device) - (count - 1) / 2
    return places.reshape(*(count if other == axis else 1 for other in range(len(shape))))


def sample(image: torch.Tensor, positions: torch.Tensor, mode: str, padding: str) -> torch.Tensor:
    """Return what an image has at positions, as MONAI's ``Resample`` does.

    Args:
        image: ``(N, C, *spatial)``, float32.
        positions: ``(N, d, *shape)``, pixels from the centre.
        mode: one of `MODES`; with three axes "bilinear" is trilinear.
        padding: one of `PADDINGS`.

    Returns:
        ``(N, C, *shape)``.
    """
    if positions.shape[1] == 3 and image.device.type == "cpu" and padding != "zeros":
        return torch.stack([_sample_volume(*pair, mode, padding) for pair in zip(image, positions, strict=True)])
    scales = [2.0 / max(2, count) for count in image.shape[2:]]
    grid = positions.new_empty(len(positions), *positions.shape[2:], positions.shape[1])
    for axis, scale in enumerate(scales):
        torch.mul(positions[:, axis], scale, out=grid[..., -1 - axis])
    return functional.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=False)


def _sample_volume(volume: torch.Tensor, positions: torch.Tensor, mode: str, padding: str) -> torch.Tensor:
    # `grid_sample` of volumes is not vectorised on the CPU: this takes about half the time.
    places = [
        _bring_inside(axis + (count - 1) / 2, count, padding)
        for axis, count in zip(positions, volume.shape[1:], strict=True)
    ]
    return _read_nearest(volume, places) if mode == "nearest" else _read_linear(volume, places)


def _bring_inside(places: torch.Tensor, count: int, padding: str) -> torch.Tensor:
    if padding == "reflection":  # at the outer edges of the first and last voxel
        places = (places + 0.5).abs_().remainder_(2 * count)
        places = torch.minimum(places, 2 * count - places).sub_(0.5)
    return places.clamp_(0, count - 1)


def _find_indices(places: Sequence[torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
    index = places[0]
    for place, count in zip(places[1:], shape[1:], strict=True):
        index = index * count + place
    # Whole numbers up to 2 ** 24 are exact in float32, and a patch of a training is smaller.
    return index.flatten().int() if torch.Size(shape).numel() <= 2**24 else _find_large_indices(places, shape)


def _find_large_indices(places: Sequence[torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
    return _find_indices([place.double() for place in places], [1, *shape[1:]]).long()


def _read_nearest(volume: torch.Tensor, places: Sequence[torch.Tensor]) -> torch.Tensor:
    index = _find_indices([place.round() for place in places], volume.shape[1:])
    return volume.flatten(1).index_select(1, index).reshape(-1, *places[0].shape)


def _read_linear(volume: torch.Tensor, places: Sequence[torch.Tensor]) -> torch.Tensor:
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

    return read_plane(0).lerp_(read_plane(rows * columns), weights[0]).reshape(-1, *places[0].shape)
