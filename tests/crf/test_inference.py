"""The lattices against the definition, against each other, and against another implementation's results."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.crf import mean_field, mean_field_batch
from tests.crf.scenes import OPTIONS, compute_label_iou, make_scene

REFERENCES = Path(__file__).parents[2].parent / "shared/data/crf_reference"
PATHS = ("numba", "torch")


def compute_by_hand(prob: Any, image: Any, **p: Any) -> Any:
    """The definition, written as loops over pairs of points."""
    labels, shape = len(prob), prob.shape[1:]
    places = list(np.ndindex(shape))
    n = len(places)

    def kernel(weigh: Any) -> Any:
        k = np.array([[np.exp(-weigh(a, b) / 2) for b in places] for a in places])
        d = k.sum(1)
        return np.array([[k[i, j] / np.sqrt(d[i] * d[j]) for j in range(n)] for i in range(n)])

    def apart(a: Any, b: Any, width: float) -> float:
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / width**2

    def unlike(a: Any, b: Any) -> float:
        return float(((image[a].astype(float) - image[b].astype(float)) ** 2).sum()) / p["bilateral_intensity"] ** 2

    near = kernel(lambda a, b: apart(a, b, p["spatial_width"]))
    alike = kernel(lambda a, b: apart(a, b, p["bilateral_width"]) + unlike(a, b))
    unary = np.array([[np.log(max(prob[(label, *place)], 1e-5)) for place in places] for label in range(labels)])
    state = np.exp(unary) / np.exp(unary).sum(0)
    for _ in range(p["iterations"]):
        logits = unary + p["spatial_weight"] * state @ near + p["bilateral_weight"] * state @ alike
        state = np.exp(logits - logits.max(0))
        state /= state.sum(0)
    return state.reshape(prob.shape)


@pytest.mark.parametrize(("shape", "labels"), [((5, 4), 2), ((3, 2, 4), 3)])
def test_exact_path_is_the_definition(shape: tuple[int, ...], labels: int) -> None:
    prob, image = make_scene(shape, labels)
    for iterations in (1, 3):
        options = {**OPTIONS, "iterations": iterations}
        ours = mean_field(prob, image, backend="exact", **options)
        np.testing.assert_allclose(ours, compute_by_hand(prob, image, **options), atol=1e-8, rtol=1e-6)


@functools.cache
def compute_exactly(shape: tuple[int, ...], labels: int, seed: int, iterations: int) -> np.ndarray:
    """Compute a scene by comparing all pairs, once for all backends: it is slow."""
    prob, image = make_scene(shape, labels, seed=seed)
    return mean_field(prob, image, backend="exact", **{**OPTIONS, "iterations": iterations})


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("labels", [2, 3, 5])
@pytest.mark.parametrize("shape", [(32, 32), (12, 12, 12)], ids=["2d", "3d"])
def test_lattice_is_near_the_definition(shape: tuple[int, ...], labels: int, backend: str) -> None:
    for seed in range(3):
        prob, image = make_scene(shape, labels, seed=seed)
        for iterations, largest, mean in ((1, 0.1, 1e-3), (5, 1e-2, 1e-5), (10, 1e-2, 1e-5)):
            options = {**OPTIONS, "iterations": iterations}
            exact = compute_exactly(shape, labels, seed, iterations)
            q = mean_field(prob, image, backend=backend, **options)
            assert compute_label_iou(q, exact) >= 0.999
            assert np.abs(q - exact).max() <= largest
            assert np.abs(q - exact).mean() <= mean
        # The scene is no trivial one: the CRF changes labels, and most changes are right.
        assert (prob.argmax(0) != exact.argmax(0)).mean() > 0.05


def list_scenes() -> list[Any]:
    """List shapes, labels and channels: every pair of two of them, and in the slow tests every three."""
    shapes = [(70, 50), (17, 23, 29), (1, 40), (40, 1), (1, 1), (200, 131)]
    scenes = itertools.product(enumerate(shapes), enumerate([2, 3, 4, 6, 9]), enumerate([1, 3, 4]))
    return [
        pytest.param(shape, labels, channels, marks=[] if (i + j + k) % 3 == 0 else pytest.mark.slow)
        for (i, shape), (j, labels), (k, channels) in scenes
    ]


@pytest.mark.parametrize(("shape", "labels", "channels"), list_scenes())
def test_compiled_and_torch_agree(shape: tuple[int, ...], labels: int, channels: int) -> None:
    prob, image = make_scene(shape, labels, channels, seed=labels)
    for iterations in (1, 5):
        options = {**OPTIONS, "iterations": iterations}
        left = mean_field(prob, image, backend="numba", **options)
        right = mean_field(prob, image, backend="torch", **options)
        assert left.dtype == right.dtype == np.float32
        np.testing.assert_allclose(left, right, atol=1e-4)


@pytest.mark.parametrize("backend", PATHS)
def test_narrow_kernels(backend: str) -> None:
    # Nearly every corner is a vertex of its own: bricks are full, tables grow.
    prob, image = make_scene((150, 140), 2, 3)
    options = {**OPTIONS, "spatial_width": 0.6, "bilateral_width": 1.5, "bilateral_intensity": 2.0}
    q = mean_field(prob, image, backend=backend, **options)
    np.testing.assert_allclose(q, mean_field(prob, image, backend="torch", **options), atol=1e-4)
    np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)


@pytest.mark.skipif(not REFERENCES.is_dir(), reason="no reference results beside the repository")
@pytest.mark.parametrize("name", ["syn256_L2", "syn256_L2_tight", "syn256_L4", "exact64_L2"])
@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.realdata
def test_reference_results(name: str, backend: str) -> None:
    with np.load(REFERENCES / f"{name}.npz") as stored:
        data = {key: stored[key] for key in stored}
    words = json.loads(str(data["params"]))
    options = {
        "spatial_weight": words["g_w"],
        "spatial_width": words["g_sxy"],
        "bilateral_weight": words["b_w"],
        "bilateral_width": words["b_sxy"],
        "bilateral_intensity": words["b_srgb"],
    }
    for iterations in (1, 5, 10):
        expected = data[f"Q{iterations}"]
        q = mean_field(data["prob"], data["image"], iterations=iterations, backend=backend, **options)
        assert compute_label_iou(q, expected) >= 0.999
        if name.startswith("exact"):
            if backend == PATHS[0]:  # once, for it is slow
                exact = mean_field(data["prob"], data["image"], iterations=iterations, backend="exact", **options)
                assert np.abs(exact - expected).max() <= 1e-6
            # After one iteration the lattice (pydensecrf's as well) is 0.013 off at one pixel.
            assert np.abs(q - expected).max() <= (2e-2 if iterations == 1 else 1e-2)
            assert np.abs(q - expected).mean() <= 1e-5
        else:
            assert np.abs(q - expected).max() <= 1e-3
    if name.startswith("exact"):
        q = mean_field(data["prob"], data["image"], iterations=5, backend=backend, **options)
        assert np.abs(q - data["Q5_pydensecrf"]).max() <= 1e-3


def test_widths_in_mm_and_for_each_axis() -> None:
    prob, image = make_scene((12, 20, 24), 2, 1)
    voxels = mean_field(
        prob, image, **{**OPTIONS, "spatial_width": (1.0, 2.0, 4.0), "bilateral_width": (3.0, 6.0, 12.0)}
    )
    options = {**OPTIONS, "spatial_width": 4.0, "bilateral_width": 12.0}
    mm = mean_field(prob, image, spacing=(4.0, 2.0, 1.0), **options)
    np.testing.assert_array_equal(mm, voxels)
    exact = mean_field(prob, image, spacing=(4.0, 2.0, 1.0), backend="exact", **options)
    assert compute_label_iou(mm, exact) >= 0.999
    assert np.abs(mm - mean_field(prob, image, **options)).max() > 0.01, "spacing would not matter"


def test_tensors_stay_tensors() -> None:
    prob, image = make_scene((20, 30), 3)
    expected = mean_field(prob, image, **OPTIONS)
    for backend in ("auto", "torch"):
        q = mean_field(torch.from_numpy(prob).requires_grad_(), torch.from_numpy(image), backend=backend, **OPTIONS)
        assert isinstance(q, torch.Tensor)
        assert type(q) is torch.Tensor
        assert q.dtype == torch.float32
        assert not q.requires_grad
        np.testing.assert_allclose(q.numpy(), expected, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu() -> None:
    for shape, labels in (((64, 70), 2), ((20, 22, 24), 4)):
        prob, image = make_scene(shape, labels)
        q = mean_field(torch.from_numpy(prob).cuda(), torch.from_numpy(image).cuda(), **OPTIONS)
        assert q.is_cuda
        np.testing.assert_allclose(q.cpu().numpy(), mean_field(prob, image, **OPTIONS), atol=1e-4)


@pytest.mark.parametrize("backend", PATHS)
def test_batch_is_case_by_case(backend: str) -> None:
    cases = [make_scene((24, 20), 3, seed=seed) for seed in range(5)]
    prob, image = (np.stack(items) for items in zip(*cases, strict=True))
    together = mean_field_batch(prob, image, backend=backend, **OPTIONS)
    for q, (one, picture) in zip(together, cases, strict=True):
        np.testing.assert_array_equal(q, mean_field(one, picture, backend=backend, **OPTIONS))
    tensors = mean_field_batch(torch.from_numpy(prob), torch.from_numpy(image), backend=backend, threads=2, **OPTIONS)
    np.testing.assert_array_equal(tensors.numpy(), together)


def test_layout_and_dtype_of_the_input_do_not_matter() -> None:
    prob, image = make_scene((33, 21), 3)
    expected = mean_field(prob, image, **OPTIONS)
    assert expected.flags.c_contiguous
    wide = np.zeros((33, 42, 6), np.uint8)
    wide[:, ::2, ::2] = image
    turned = np.ascontiguousarray(prob.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert not turned.flags.c_contiguous
    np.testing.assert_array_equal(mean_field(turned, wide[:, ::2, ::2], **OPTIONS), expected)
    for kind in (np.uint8, np.int32, np.float32, np.float64):
        q = mean_field(prob.astype(np.float64), image.astype(kind), **OPTIONS)
        assert q.dtype == np.float32
        np.testing.assert_allclose(q, expected, atol=1e-6)
    foreign = image.astype(">i2")
    assert np.array_equal(foreign, image)
    for backend in PATHS:
        np.testing.assert_allclose(
            mean_field(prob.astype(">f4"), foreign, backend=backend, **OPTIONS), expected, atol=1e-4
        )
    flipped = mean_field(prob[:, ::-1], image[::-1], **OPTIONS)
    np.testing.assert_array_equal(flipped, mean_field(prob[:, ::-1].copy(), image[::-1].copy(), **OPTIONS))
    tensor = torch.from_numpy(prob).half()
    np.testing.assert_allclose(mean_field(tensor, torch.from_numpy(image), **OPTIONS).numpy(), expected, atol=1e-2)
    before = prob.copy(), image.copy()
    mean_field(prob, image, **OPTIONS)
    np.testing.assert_array_equal(prob, before[0])
    np.testing.assert_array_equal(image, before[1])
