"""Inference on whole images in overlapping tiles, for networks without padding."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer


@dataclass(eq=False, repr=False)
class OverlapTileInferer(Inferer):
    """Segment images of any size tile by tile, with mirrored borders (Ronneberger et al. 2015, figure 2).

    A network without padding returns only the centre of its input tile. Here the tiles overlap by that margin, so their
    outputs are adjacent, and pixels outside the image are mirrored, repeatedly if needed. MONAI's
    ``SlidingWindowInferer`` cannot do this: it treats an output smaller than the window as a zoomed window and
    stretches positions instead of leaving out the margin.

    Tiles start at multiples of ``pooling_stride`` from the image's first pixel. So pooling meets the same pixels in
    every tile as in one forward pass of the whole mirrored image: the result is the same up to rounding, without seams.
    The step between tiles is the largest such multiple within ``output_size``, 384 for 388. Overlapping outputs are
    equal, and the later one is kept. The last tile is cropped at the border.

    Raises:
        ValueError: the sizes do not match.

    Example:
        >>> inferer = OverlapTileInferer(input_size=20, output_size=16)
        >>> image = torch.arange(63.0).reshape(1, 1, 9, 7)
        >>> crop_centre = lambda tiles: tiles[:, :, 2:-2, 2:-2]  # a network that only loses its margin
        >>> torch.equal(inferer(image, crop_centre), image)
        True
    """

    #: pixels of an input tile along each spatial axis, or one number for all axes; it must fit the network, see
    #: :meth:`pipeline.networks.UNet2015.fits`. Large tiles are faster, small tiles need less memory.
    input_size: Sequence[int] | int
    #: pixels of the network's output for it; half of the difference is the margin on each side
    output_size: Sequence[int] | int
    sw_batch_size: int = 1  #: number of tiles per forward pass
    pooling_stride: int = 16  #: product of the network's pooling strides: ``2**4`` for four 2x2 poolings

    def __post_init__(self) -> None:
        sizes = [[size] if isinstance(size, int) else list(size) for size in (self.input_size, self.output_size)]
        if self.sw_batch_size < 1 or self.pooling_stride < 1:
            given = f"{self.sw_batch_size} and {self.pooling_stride}"
            raise ValueError(f"sw_batch_size and pooling_stride must be at least 1, got {given}")
        longest = max(len(size) for size in sizes)
        inputs, outputs = (size * longest if len(size) == 1 else size for size in sizes)
        if len(inputs) != len(outputs):
            raise ValueError(f"input_size and output_size need the same number of axes, got {inputs} and {outputs}")
        for n_input, n_output in zip(inputs, outputs, strict=True):
            _check_sizes(n_input, n_output, self.pooling_stride)
        self._input, self._output = inputs, outputs

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return the network's output for every pixel, ``(B, classes, *spatial)``, of inputs ``(B, C, *spatial)``.

        The network returns ``(N, classes, *output_size)`` for tiles ``(N, C, *input_size)``. The result is on the
        inputs' device and has their meta data.

        Raises:
            ValueError: the inputs have another number of axes or no pixels, or the network's output has another size.
        """
        plain = inputs.as_subclass(torch.Tensor)
        size = list(plain.shape[2:])
        tile, output = (self._by_axis(values, plain) for values in (self._input, self._output))
        mirrored, offsets = plain, []
        for axis, (n, n_input, n_output) in enumerate(zip(size, tile, output, strict=True)):
            starts = self._place_tiles(n, n_output)
            index = _mirror(n, (n_input - n_output) // 2, starts[-1] + n_input, plain.device)
            mirrored = mirrored.index_select(axis + 2, index)
            offsets.append(starts)

        result: torch.Tensor | None = None
        for places in _batches(itertools.product(range(len(plain)), *offsets), self.sw_batch_size):
            tiles = torch.stack([_cut(mirrored[place[0]], place[1:], tile) for place in places])
            predicted = network(tiles, *args, **kwargs)
            _check_output(predicted, len(places), tile, output)
            if result is None:
                result = predicted.new_zeros((len(plain), predicted.shape[1], *size), device=plain.device)
            for place, part in zip(places, predicted, strict=True):
                _paste(result[place[0]], place[1:], part)
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result

    def _by_axis(self, values: list[int], inputs: torch.Tensor) -> list[int]:
        """Return a tile's size for every spatial axis of the inputs."""
        n_axes = inputs.ndim - 2
        if n_axes < 1 or min(inputs.shape) < 1 or len(values) not in (1, n_axes):
            raise ValueError(
                f"expected inputs (B, C, *spatial) that fit tiles of {self._input}, got shape {tuple(inputs.shape)}"
            )
        return values * n_axes if len(values) == 1 else values

    def _place_tiles(self, n: int, n_output: int) -> list[int]:
        """Return the first output pixel of each tile along an axis of ``n`` pixels."""
        step = n_output - n_output % self.pooling_stride
        return list(range(0, max(n - n_output, 0) + step, step))


def _check_sizes(n_input: int, n_output: int, pooling_stride: int) -> None:
    if n_output < pooling_stride:
        raise ValueError(
            f"output_size must be at least the pooling_stride of {pooling_stride}, got {n_output}; take a larger tile"
        )
    if n_input < n_output or (n_input - n_output) % 2:
        raise ValueError(
            f"input_size must exceed output_size by an even number, the margins of both sides, got {n_input} and "
            f"{n_output}"
        )


def _mirror(n: int, margin: int, length: int, device: torch.device) -> torch.Tensor:
    """Return the pixel, of ``n``, at each of ``length`` positions from ``-margin`` on, mirrored at both ends.

    The outermost pixels are not repeated: ``2 1 [0 1 2 3] 2 1 0 1 2 ..``. PyTorch pads at most ``n - 1`` pixels.
    """
    places = torch.arange(-margin, length - margin, device=device)
    period = max(2 * (n - 1), 1)
    places = places.remainder(period)
    return torch.minimum(places, period - places) if n > 1 else torch.zeros_like(places)


def _batches(places: Iterator[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    while batch := list(itertools.islice(places, size)):
        yield batch


def _cut(image: torch.Tensor, offsets: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """Return a tile of an image ``(C, *spatial)``."""
    return image[:, *(slice(start, start + n) for start, n in zip(offsets, size, strict=True))]


def _paste(target: torch.Tensor, offsets: Sequence[int], part: torch.Tensor) -> None:
    """Write a part into ``target`` ``(C, *spatial)``, cropped at its border."""
    place = target[:, *(slice(start, start + n) for start, n in zip(offsets, part.shape[1:], strict=True))]
    place.copy_(part[:, *(slice(n) for n in place.shape[1:])])


def _check_output(predicted: Any, n_tiles: int, tile: Sequence[int], output: Sequence[int]) -> None:
    if not isinstance(predicted, torch.Tensor):
        raise ValueError(f"expected one tensor from the network, got a {type(predicted).__name__}")
    shape = tuple(predicted.shape)
    if len(shape) != len(output) + 2 or shape[0] != n_tiles or shape[2:] != tuple(output):
        raise ValueError(
            f"the network returned {shape} for {n_tiles} tiles of {list(tile)}, expected ({n_tiles}, classes, "
            f"{', '.join(map(str, output))}); set output_size to the network's output size"
        )
