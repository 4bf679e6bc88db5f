"""Changes of the intensities of a batch, drawn for each image."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.networks.layers.convutils import gaussian_1d
from monai.transforms import (
    RandAdjustContrastd,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from pipeline.transforms.batched.sampling import put, take
from pipeline.transforms.intensity.neighbours import NeighbourSlicesToChannelsd
from pipeline.transforms.intensity.random_channels import RandCopyChanneld, RandGammaByChanneld

Batch = dict[Any, torch.Tensor]


def scale(step: RandScaleIntensityd, batch: Batch) -> None:
    """Multiply each drawn image, or each of its channels, by 1 + factor."""
    factors = _draw_numbers(step, step.scaler, lambda: step.scaler.factor, batch)
    if factors is not None:
        for images in _get_items(step, batch):
            images.mul_(1 + _align(factors, images))


def shift(step: RandShiftIntensityd, batch: Batch) -> None:
    """Add an offset to each drawn image, or to each of its channels."""
    offsets = _draw_numbers(step, step.shifter, lambda: step.shifter._offset, batch)
    if offsets is not None:
        for images in _get_items(step, batch):
            images.add_(_align(offsets, images))


def adjust_contrast(step: RandAdjustContrastd, batch: Batch) -> None:
    """Raise the intensities of each drawn image, scaled to 0 to 1, to a power."""
    adjuster, gammas = step.adjuster, []
    chosen = list(_draw(step, batch, lambda _: adjuster.randomize(None), lambda: gammas.append(adjuster.gamma_value)))
    sign = -1 if adjuster.invert_image else 1
    for key in step.key_iterator(batch) if chosen else ():
        images = take(batch[key], chosen)
        rows = apply_gamma(images.flatten(1).mul_(sign), gammas, retain_stats=adjuster.retain_stats).mul_(sign)
        batch[key] = put(batch[key], chosen, rows.reshape(images.shape))


def adjust_channels(step: RandGammaByChanneld, batch: Batch) -> None:
    """Raise the intensities of each drawn channel to a power; its mean and standard deviation stay."""
    transform, gammas = step.transform, []
    items = _get_items(step, batch)
    for images in items[:1]:
        for _ in images:
            transform.randomize(images.shape[1])
            gammas.append(transform._gammas)
    chosen = [(n, c) for n, row in enumerate(gammas) for c, gamma in enumerate(row) if gamma != 1.0]
    on_cpu = all(images.device.type == "cpu" and images.is_contiguous() for images in items)
    for part in [[one] for one in chosen] if on_cpu else [chosen] * bool(chosen):
        numbers, channels = [n for n, _ in part], [c for _, c in part]
        powers = [gammas[n][c] for n, c in part]
        for images in items:
            if on_cpu:  # a view
                apply_gamma(images[part[0]].view(1, -1), powers, retain_stats=True)
            else:
                rows = apply_gamma(images[numbers, channels].flatten(1), powers, retain_stats=True)
                images[numbers, channels] = rows.reshape(len(part), *images.shape[2:])


def apply_gamma(rows: torch.Tensor, gammas: Sequence[float], *, retain_stats: bool) -> torch.Tensor:
    """Scale rows ``(N, V)`` to 0 to 1, raise each to its power and scale it back, in place; return them.

    With ``retain_stats`` each row gets its mean and standard deviation back. A constant row stays as it is, as zero to
    any power is zero.
    """
    before = _describe(rows) if retain_stats else None
    # Faster on a CPU than `torch.aminmax` with a dimension.
    low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
    spread = high - low
    # The logarithm and the exponential function are faster than a power on the CPU.
    powers = rows.new_tensor(gammas)[:, None]
    rows.sub_(low).div_(spread + 1e-7).log_().mul_(powers).exp_()
    if before is None:
        return rows.mul_(spread).add_(low)
    after = _describe(rows)
    return rows.sub_(after[0]).mul_(before[1] / after[1].clamp_min(1e-8)).add_(before[0])


def _describe(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # Faster on a CPU than `torch.std` of a row.
    mean = rows.mean(dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(rows - mean, dim=1, keepdim=True)
    return mean, norm / math.sqrt(max(1, rows.shape[1] - 1))


def add_noise(step: RandGaussianNoised, batch: Batch) -> None:
    """Add Gaussian noise to each drawn image.

    The numbers come from torch's generator of the device, whose seed the transform draws. They are faster to
    get than NumPy's, which MONAI takes.
    """
    noise, random = step.rand_gaussian_noise, step.rand_gaussian_noise.R
    items = _get_items(step, batch)
    for number in _draw(step, batch, lambda _: None):
        deviation = random.uniform(0, noise.std) if noise.sample_std else noise.std
        drawn = torch.empty_like(items[0][number])
        drawn.normal_(noise.mean, deviation, generator=_seed(random.randint(2**31 - 1), drawn.device))
        for images in items:
            images[number] += drawn


def _seed(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def smooth(step: RandGaussianSmoothd, batch: Batch) -> None:
    """Smooth each drawn image by a Gaussian with its own width on each axis. Beyond the border are zeros."""
    smoother = step.rand_smooth
    for number in _draw(step, batch, lambda _: smoother.randomize(None)):
        for images in _get_items(step, batch):
            image = images[number]
            for axis, sigma in enumerate((smoother.x, smoother.y, smoother.z)[: image.ndim - 1], start=1):
                image = _smooth_axis(image, axis, gaussian_1d(torch.tensor(sigma), approx=smoother.approx).tolist())
            images[number] = image


def _smooth_axis(image: torch.Tensor, axis: int, kernel: Sequence[float]) -> torch.Tensor:
    # Sums of shifted images: faster on a CPU than a convolution of single channels.
    tail, length = len(kernel) // 2, image.shape[axis]
    result = image * kernel[tail]
    for distance in range(1, min(tail, length - 1) + 1):
        if kernel[tail - distance] == kernel[tail + distance] == 0:
            continue
        near, far = image.narrow(axis, 0, length - distance), image.narrow(axis, distance, length - distance)
        result.narrow(axis, distance, length - distance).add_(near, alpha=kernel[tail - distance])
        result.narrow(axis, 0, length - distance).add_(far, alpha=kernel[tail + distance])
    return result


def drop_regions(step: RandCoarseDropoutd, batch: Batch) -> None:
    """Fill boxes of each drawn image, or all but the boxes, with a value or with uniform noise."""
    dropper, items = step.dropper, _get_items(step, batch)
    for number in _draw(step, batch, lambda images: dropper.randomize(images.shape[2:])):
        for images in items:
            _fill(dropper, images[number])


def _fill(dropper: Any, image: torch.Tensor) -> None:
    fill, filled = dropper.fill_value, image
    # Minimum and maximum are those of the image without holes.
    low, high = (
        image.aminmax() if fill is None else map(image.new_tensor, fill if isinstance(fill, tuple) else (fill,) * 2)
    )

    def draw(shape: torch.Size) -> torch.Tensor:
        if isinstance(fill, (int, float)):
            return low
        return low + (high - low) * torch.from_numpy(dropper.R.random_sample(tuple(shape))).to(image)

    if not dropper.dropout_holes:
        filled = torch.empty_like(image)
        filled[...] = draw(image.shape)
    for hole in dropper.hole_coords:
        filled[hole] = draw(image[hole].shape) if dropper.dropout_holes else image[hole]
    if filled is not image:
        image.copy_(filled)


def copy_channels(step: RandCopyChanneld, batch: Batch) -> None:
    """Replace drawn channels of each image by a copy of another one."""
    transform, items = step.transform, _get_items(step, batch)
    for number in range(len(items[0]) if items else 0):
        transform.randomize()
        for images in items:
            for target in transform._chosen:
                images[number, target] = images[number, transform.source]


def join_slices(step: NeighbourSlicesToChannelsd, batch: Batch) -> None:
    """Give each slice, or the one in the middle alone, its neighbours as channels."""
    for key in step.key_iterator(batch):
        joined = [step.transform(image)[None] for image in batch[key]]
        batch[key] = joined[0] if len(joined) == 1 else torch.cat(joined)


def _get_items(step: Any, batch: Batch) -> list[torch.Tensor]:
    return [batch[key] for key in step.key_iterator(batch)]


def _draw(
    step: Any, batch: Batch, randomize: Callable[[torch.Tensor], Any], note: Callable[[], Any] = lambda: None
) -> Iterable[int]:
    """Yield the numbers of the images that are drawn; then the array transform inside ``step`` holds the draw."""
    items = _get_items(step, batch)
    for number in range(len(items[0]) if items else 0):
        step.randomize(None)
        if step._do_transform:
            randomize(items[0])
            note()
            yield number


def _draw_numbers(step: Any, inner: Any, read: Callable[[], Any], batch: Batch) -> torch.Tensor | None:
    """Return the draws ``(N, 1 or C)``, 0 for images that are not drawn; None if none is drawn."""
    items = _get_items(step, batch)
    if not items:
        return None
    count, channels = items[0].shape[:2]
    numbers = torch.zeros(count, channels if inner.channel_wise else 1)
    is_drawn = False
    for number in range(count):
        step.randomize(None)
        if step._do_transform:
            inner.randomize(items[0][number])
            numbers[number], is_drawn = torch.tensor(read()), True
    return numbers.to(items[0].device) if is_drawn else None


def _align(numbers: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return numbers.reshape(*numbers.shape, *[1] * (images.ndim - 2))
