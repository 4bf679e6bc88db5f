"""Properties of the kernels: sums over all pairs, wide and narrow widths, shifted intensities, exchanged axes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.crf import estimate_memory, mean_field, mean_field_batch
from pipeline.crf.lattice_geometry import measure_lattice
from pipeline.crf.torch_inference import _build
from tests.crf.scenes import OPTIONS, compute_label_iou, make_scene

BACKENDS = ("numba", "torch", "exact")
EXAMPLES = settings(max_examples=20, deadline=None)


def sum_over_pairs(values: Any, shape: tuple[int, ...], widths: Any, colours: Any, intensity: float) -> Any:
    """Filter values (n, L) by the normalised Gaussian of all pairs of points."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(len(values), -1) / widths
    features = np.concatenate([places, colours / intensity], 1)
    kernel = np.exp(-((features[:, None] - features[None]) ** 2).sum(-1) / 2)
    norm = 1 / np.sqrt(kernel.sum(1))
    return norm[:, None] * kernel * norm @ values


def make_noise(shape: tuple[int, ...], labels: int = 2, seed: int = 0) -> Any:
    powers = np.random.default_rng(seed).random((labels, *shape)) + 0.1
    return (powers / powers.sum(0)).astype(np.float32)


@EXAMPLES
@given(
    shape=st.lists(st.integers(2, 9), min_size=1, max_size=3),
    width=st.floats(1.5, 6),
    channels=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_a_lattice_filters_nearly_as_the_sum_over_all_pairs(
    shape: list[int], width: float, channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    points = int(np.prod(shape))
    # Smooth intensities, as images have: a lattice is poor at points that differ from all others.
    colours = np.cumsum(rng.normal(0, 2, (points, channels)), 0).astype(np.float32)
    values = rng.random((points, 2)).astype(np.float32)
    widths, lows, highs = [width] * len(shape), colours.min(0).tolist(), colours.max(0).tolist()
    lattice = _build(measure_lattice(shape, widths, 20.0, lows, highs), torch.from_numpy(colours))
    filtered = lattice.filter(torch.from_numpy(values)).numpy()
    expected = sum_over_pairs(values, tuple(shape), widths, colours, 20.0)
    assert np.abs(filtered - expected).max() <= 0.2
    assert np.abs(filtered - expected).mean() <= 0.06
    # Linear, and positive where the values are.
    np.testing.assert_allclose(lattice.filter(torch.from_numpy(2 * values)).numpy(), 2 * filtered, rtol=1e-5)
    assert (filtered > 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(24, 20), (10, 9, 8)])
def test_a_wider_kernel_smooths_more(shape: tuple[int, ...], backend: str) -> None:
    prob = make_noise(shape)
    image = np.zeros((*shape, 1), np.float32)
    roughness = []
    for width in (0.5, 1.0, 2.0, 4.0, 8.0):
        options = {**OPTIONS, "spatial_width": width, "spatial_weight": 4.0, "bilateral_weight": 0.0, "iterations": 1}
        q = mean_field(prob, image, backend=backend, **options).astype(np.float64)
        message = np.log(q[1] / q[0]) - np.log(prob[1] / prob[0])
        roughness.append(sum(np.abs(np.diff(message, axis=axis)).mean() for axis in range(len(shape))))
    assert roughness == sorted(roughness, reverse=True)
    assert roughness[-1] < roughness[0] / 4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("labels", [2, 3, 7])
def test_a_kernel_much_wider_than_the_grid_gives_the_plain_mean(labels: int, backend: str) -> None:
    prob = make_noise((9, 11), labels)
    image = np.zeros((9, 11, 1), np.float32)
    options = {**OPTIONS, "spatial_width": 1e4, "spatial_weight": 5.0, "bilateral_weight": 0.0, "iterations": 1}
    q = mean_field(prob, image, backend=backend, **options)
    logits = np.log(prob) + 5.0 * prob.mean((1, 2), keepdims=True)
    powers = np.exp(logits - logits.max(0))
    np.testing.assert_allclose(q, powers / powers.sum(0), atol=2e-3)


@pytest.mark.parametrize(("backend", "largest"), [("exact", 1e-7), ("numba", 2e-2), ("torch", 2e-2)])
@pytest.mark.parametrize("shift", [-300.0, 17.25])
def test_only_differences_of_intensities_matter(shift: float, backend: str, largest: float) -> None:
    prob, image = make_scene((24, 30), 3)
    q = mean_field(prob, image.astype(np.float32), backend=backend, **OPTIONS)
    moved = mean_field(prob, image + np.float32(shift), backend=backend, **OPTIONS)
    assert np.abs(moved - q).max() <= largest
    assert compute_label_iou(moved, q) >= 0.99


@pytest.mark.parametrize(("backend", "largest"), [("exact", 1e-7), ("numba", 2e-2), ("torch", 2e-2)])
def test_axes_may_be_exchanged_with_their_widths(backend: str, largest: float) -> None:
    prob, image = make_scene((10, 12, 14), 2)
    options = {**OPTIONS, "spatial_width": (1.0, 2.0, 3.0), "bilateral_width": (4.0, 8.0, 12.0)}
    q = mean_field(prob, image, backend=backend, **options)
    order = (2, 0, 1)
    turned = {**options, "spatial_width": (3.0, 1.0, 2.0), "bilateral_width": (12.0, 4.0, 8.0)}
    result = mean_field(
        prob.transpose(0, *(axis + 1 for axis in order)), image.transpose(*order, 3), backend=backend, **turned
    )
    back = result.transpose(0, *(1 + order.index(axis) for axis in range(3)))
    assert np.abs(back - q).max() <= largest
    assert compute_label_iou(back, q) >= 0.99


@pytest.mark.parametrize(("backend", "largest"), [("exact", 1e-7), ("numba", 5e-2), ("torch", 5e-2)])
@pytest.mark.parametrize("shape", [(1, 60), (60, 1)])
def test_a_single_row_or_column_is_a_line(shape: tuple[int, int], backend: str, largest: float) -> None:
    prob, image = make_scene((60,), 2, 1)
    line = mean_field(prob, image, backend=backend, **OPTIONS)
    q = mean_field(prob.reshape(2, *shape), image.reshape(*shape, 1), backend=backend, **OPTIONS)
    assert np.abs(q.reshape(2, 60) - line).max() <= largest


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_swapping_channels_changes_little(backend: str) -> None:
    prob, image = make_scene((30, 26), 2, 3)
    q = mean_field(prob, image, backend=backend, **OPTIONS)
    swapped = mean_field(prob, image[..., [2, 0, 1]], backend=backend, **OPTIONS)
    assert np.abs(swapped - q).max() <= 2e-2
    exact = [mean_field(prob, picture, backend="exact", **OPTIONS) for picture in (image, image[..., [2, 0, 1]])]
    np.testing.assert_allclose(*exact, atol=1e-7)


def test_two_labels_as_pair_and_as_many_agree() -> None:
    # With a third label of almost no probability the general kernels compute what the ones for two labels do.
    prob, image = make_scene((40, 36), 2)
    padded = np.concatenate([prob, np.zeros_like(prob[:1])])
    options = {**OPTIONS, "iterations": 3}
    q = mean_field(prob, image, **options)
    np.testing.assert_allclose(mean_field(padded, image, **options)[:2], q, atol=1e-3)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_batch_equals_single_cases_for_any_number_of_threads(threads: int) -> None:
    cases = [make_scene((20, 18), 3, seed=seed) for seed in range(3)]
    prob, image = (np.stack(items) for items in zip(*cases, strict=True))
    together = mean_field_batch(prob, image, threads=threads, **OPTIONS)
    for case, (one, picture) in enumerate(cases):
        np.testing.assert_array_equal(together[case], mean_field(one, picture, **OPTIONS))


def test_more_iterations_settle() -> None:
    prob, image = make_scene((24, 24), 3)
    states = [mean_field(prob, image, **{**OPTIONS, "iterations": count}) for count in (1, 2, 10, 11)]
    assert np.abs(states[3] - states[2]).mean() < np.abs(states[1] - states[0]).mean() / 4


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux counts it")
@pytest.mark.parametrize(("backend", "side"), [("numba", 1600), ("torch", 500)])
def test_the_estimate_of_memory_is_near_the_peak(backend: str, side: int) -> None:
    code = rf"""
import re
from pathlib import Path
import numpy as np
from pipeline.crf import mean_field
from tests.crf.scenes import OPTIONS, make_scene
def read_peak():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
mean_field(*make_scene((16, 16), 2), backend={backend!r}, **OPTIONS)
prob, image = make_scene((100, 100), 2)
prob, image = (np.tile(item, shape) for item, shape in ((prob, (1, {side // 100}, {side // 100})),
                                                        (image, ({side // 100}, {side // 100}, 1))))
before = read_peak()
mean_field(prob, image, backend={backend!r}, threads=1, **OPTIONS | dict(iterations=1))
print(before, read_peak())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    estimate = estimate_memory((side, side), 2, 3, backend=backend)
    assert (after - before) / estimate < 1.5
    assert (after - before) / estimate > 0.2
