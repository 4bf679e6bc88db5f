"""What holds for any input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.crf import mean_field
from tests.crf.scenes import OPTIONS, compute_label_iou, make_scene

PATHS = ("numba", "torch", "exact")
EXAMPLES = settings(max_examples=25, deadline=None)


@st.composite
def problems(draw: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Noise on any small grid, with any parameters."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    labels, channels = draw(st.integers(2, 6)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    powers = np.exp(rng.normal(0, draw(st.sampled_from([0.1, 2.0, 30.0])), (labels, *shape)))
    image = rng.integers(0, draw(st.sampled_from([1, 3, 256])), (*shape, channels))
    options = {
        "spatial_weight": draw(st.sampled_from([0.0, 0.5, 3.0, 20.0])),
        "spatial_width": draw(st.floats(0.4, 20)),
        "bilateral_weight": draw(st.sampled_from([0.0, 1.0, 10.0])),
        "bilateral_width": draw(st.floats(0.4, 60)),
        "bilateral_intensity": draw(st.floats(1, 100)),
        "iterations": draw(st.integers(0, 6)),
    }
    return (powers / powers.sum(0)).astype(np.float32), image.astype(np.float32), options


@pytest.mark.parametrize("backend", PATHS)
@EXAMPLES
@given(problem=problems())
def test_probabilities_sum_to_one(backend: str, problem: Any) -> None:
    prob, image, options = problem
    q = mean_field(prob, image, backend=backend, **options)
    assert q.shape == prob.shape
    assert np.isfinite(q).all()
    assert q.min() >= 0
    np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("backend", PATHS)
@EXAMPLES
@given(problem=problems())
def test_without_weights_the_unary_comes_back(backend: str, problem: Any) -> None:
    prob, image, options = problem
    q = mean_field(prob, image, backend=backend, **{**options, "spatial_weight": 0.0, "bilateral_weight": 0.0})
    clipped = np.clip(prob, 1e-5, 1)
    np.testing.assert_allclose(q, clipped / clipped.sum(0), atol=2e-6)


@pytest.mark.parametrize("backend", PATHS)
@EXAMPLES
@given(problem=problems(), seed=st.integers(0, 100))
def test_labels_may_change_places(backend: str, problem: Any, seed: int) -> None:
    prob, image, options = problem
    order = np.random.default_rng(seed).permutation(len(prob))
    q = mean_field(prob, image, backend=backend, **options)
    swapped = mean_field(prob[order], image, backend=backend, **options)
    # A tie between labels is decided by rounding, and then every iteration moves further from it.
    firm = np.sort(q, 0)[-1] - np.sort(q, 0)[-2] > 1e-2
    np.testing.assert_allclose(swapped[:, firm], q[order][:, firm], atol=1e-3)


@EXAMPLES
@given(problem=problems(), data=st.data())
def test_a_mirror_mirrors_the_result(problem: Any, data: Any) -> None:
    prob, image, options = problem
    axis = data.draw(st.integers(0, image.ndim - 2))
    q = mean_field(prob, image, backend="exact", **options)
    mirrored = mean_field(np.flip(prob, axis + 1), np.flip(image, axis), backend="exact", **options)
    np.testing.assert_allclose(np.flip(mirrored, axis + 1), q, atol=1e-7)


@pytest.mark.parametrize("shape", [(40, 48), (14, 16, 18)])
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_mirror_hardly_disturbs_a_lattice(shape: tuple[int, ...], backend: str) -> None:
    # A lattice has no mirror symmetry of its own, so its error differs, and nothing more.
    for seed, axis in ((0, 0), (1, len(shape) - 1)):
        prob, image = make_scene(shape, 2, seed=seed)
        q = mean_field(prob, image, backend=backend, **OPTIONS)
        mirrored = mean_field(np.flip(prob, axis + 1), np.flip(image, axis), backend=backend, **OPTIONS)
        back = np.flip(mirrored, axis + 1)
        assert compute_label_iou(back, q) >= 0.999
        assert np.abs(back - q).max() <= 2e-2
        assert np.abs(back - q).mean() <= 2e-5


@EXAMPLES
@given(problem=problems())
def test_on_a_constant_image_the_appearance_kernel_is_spatial(problem: Any) -> None:
    prob, image, options = problem
    width = options["bilateral_width"]
    appearance = {**options, "spatial_weight": 0.0, "bilateral_weight": 4.0}
    spatial = {**options, "spatial_weight": 4.0, "spatial_width": width, "bilateral_weight": 0.0}
    flat = np.full_like(image, 77)
    left = mean_field(prob, flat, backend="exact", **appearance)
    right = mean_field(prob, image, backend="exact", **spatial)
    np.testing.assert_allclose(left, right, atol=1e-9)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_on_a_constant_image_a_lattice_of_appearance_is_nearly_spatial(backend: str) -> None:
    prob, image = make_scene((40, 48), 2)
    flat = np.full_like(image, 77)
    options = {**OPTIONS, "spatial_weight": 0.0, "bilateral_width": 5.0, "bilateral_weight": 6.0}
    left = mean_field(prob, flat, backend=backend, **options)
    spatial = {**options, "spatial_weight": 6.0, "spatial_width": 5.0, "bilateral_weight": 0.0}
    right = mean_field(prob, image, backend=backend, **spatial)
    assert compute_label_iou(left, right) >= 0.98
    assert np.abs(left - right).mean() <= 1e-2
