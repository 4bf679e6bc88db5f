"""Bad input gets one clear line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.crf import CaseTooLargeError, estimate_memory, mean_field, mean_field_batch, memory, torch_inference
from tests.crf.scenes import OPTIONS, make_scene

PROB, IMAGE = make_scene((8, 10), 2)


def spoil(array: Any, value: float) -> Any:
    spoilt = array.astype(np.float32)
    spoilt[(0,) * array.ndim] = value
    return spoilt


@pytest.mark.parametrize("backend", ["numba", "torch", "exact"])
@pytest.mark.parametrize(
    ("prob", "image", "message"),
    [
        (spoil(PROB, np.nan), IMAGE, "prob has values that are not finite"),
        (spoil(PROB, np.inf), IMAGE, "prob has values that are not finite"),
        (PROB, spoil(IMAGE, np.nan), "image has values that are not finite"),
        (PROB, spoil(IMAGE, -np.inf), "image has values that are not finite"),
        (PROB, IMAGE[:7], r"on the grid of prob \(8, 10\), got shape \(7, 10, 3\)"),
        (PROB, IMAGE.transpose(2, 0, 1), "channels come last in the image"),
        (PROB, IMAGE[..., 0], r"must be \(\*spatial, channels\)"),
        (PROB[:1], IMAGE, r"1 label .* give the two labels \(1 - p, p\)"),
        (PROB[:, :0], IMAGE[:0], "every axis must have length 1 or more"),
        (PROB, IMAGE[..., :0], "every axis must have length 1 or more"),
        (np.log(PROB), IMAGE, "apply softmax"),
        (PROB * 0.5, IMAGE, "must sum to 1 over the labels, got sums of 0.5 to 0.5"),
        (PROB.astype(complex), IMAGE, "prob must be an array of real numbers, got dtype complex128"),
        (PROB, IMAGE.astype(object), "image must be an array of real numbers, got dtype object"),
        (np.float32([0.5, 0.5]), IMAGE, "one axis of space or more"),
    ],
)
def test_arrays(backend: str, prob: Any, image: Any, message: str) -> None:
    pairs = [(prob, image)]
    if prob.dtype.kind == "f" and image.dtype.kind in "fu":
        pairs.append((torch.from_numpy(prob.copy()), torch.from_numpy(image.copy())))
    for first, second in pairs:
        with pytest.raises(ValueError, match=message) as caught:
            mean_field(first, second, backend=backend, **OPTIONS)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_width": -1.0}, "spatial_width must be greater than 0, got -1.0"),
        ({"bilateral_width": 0}, "bilateral_width must be greater than 0, got 0"),
        ({"bilateral_intensity": -13}, "bilateral_intensity must be greater than 0"),
        ({"spatial_width": float("nan")}, "spatial_width must be greater than 0, got nan"),
        ({"spatial_width": (1, 2, 3)}, "one number, or 2 numbers, one per axis"),
        ({"spacing": (1.0, -1.0)}, "spacing must be greater than 0"),
        ({"spacing": (1.0,)}, "spacing must be one number, or 2 numbers"),
        ({"spatial_weight": -3}, "spatial_weight must be a number, 0 or more, got -3"),
        ({"bilateral_weight": float("inf")}, "bilateral_weight must be a number, 0 or more, got inf"),
        ({"iterations": -1}, "iterations must be a whole number, 0 or more, got -1"),
        ({"iterations": 2.5}, "iterations must be a whole number"),
        ({"threads": 0}, "threads must be a whole number, 1 or more, got 0"),
        ({"backend": "cuda"}, "backend must be one of auto, numba, torch, exact, got 'cuda'"),
        ({"bilateral_width": 1e-7}, "too small for a grid of"),
        ({"bilateral_intensity": 1e-6}, "too small for a grid of .* with intensities from"),
    ],
)
def test_parameters(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        mean_field(PROB, IMAGE, **{**OPTIONS, **options})
    assert "\n" not in str(caught.value)


def test_too_many_channels() -> None:
    image = np.zeros((4, 4, 20), np.uint8)
    with pytest.raises(ValueError, match="20 channels, at most 13 can be filtered together"):
        mean_field(np.full((2, 4, 4), 0.5), image, **OPTIONS)


def test_exact_path_refuses_many_points() -> None:
    with pytest.raises(ValueError, match="at most 8192 points, got 10000; use a lattice"):
        mean_field(np.full((2, 100, 100), 0.5), np.zeros((100, 100, 1)), backend="exact", **OPTIONS)


def test_batch_names_the_case() -> None:
    prob, image = np.stack([PROB] * 3), np.stack([IMAGE] * 3).astype(np.float32)
    image[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="case 2 of 3: image has values that are not finite"):
        mean_field_batch(prob, image, **OPTIONS)
    for wrong in (image[:2], image[0]):
        with pytest.raises(ValueError, match=r"expected prob \(B, L, \*spatial\)"):
            mean_field_batch(prob, wrong, **OPTIONS)
    with pytest.raises(ValueError, match="empty batch"):
        mean_field_batch(prob[:0], image[:0], **OPTIONS)


def test_a_case_that_is_too_large_is_refused_before_it_is_touched() -> None:
    # Arrays without memory of their own: reading their 4e10 values would take minutes.
    shape = (200_000, 200_000)
    prob = np.broadcast_to(np.float32(0.5), (2, *shape))
    image = np.broadcast_to(np.uint8(0), (*shape, 3))
    for backend in ("numba", "torch"):
        with pytest.raises(
            CaseTooLargeError, match=r"200000 x 200000 points, 2 labels .* GiB are free: crop"
        ) as caught:
            mean_field(prob, image, backend=backend, **OPTIONS)
        assert isinstance(caught.value, MemoryError)
    assert 2**41 < estimate_memory(shape, 2, 3) < estimate_memory(shape, 2, 3, backend="torch")


def test_a_full_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ...")

    monkeypatch.setattr(torch_inference, "infer", fail)
    with pytest.raises(CaseTooLargeError, match="8 x 10 points does not fit into the memory of cpu: crop") as caught:
        mean_field(PROB, IMAGE, backend="torch", **OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_lattice_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = estimate_memory(PROB.shape[1:], 2, 3)
    monkeypatch.setattr(memory, "find_free_memory", lambda: needed)
    mean_field(PROB, IMAGE, **{**OPTIONS, "bilateral_width": 80.0, "bilateral_intensity": 200.0, "spatial_width": 20.0})
    with pytest.raises(CaseTooLargeError, match="give larger widths, or crop"):
        mean_field(PROB, IMAGE, **{**OPTIONS, "bilateral_width": 0.7, "bilateral_intensity": 0.5})
    monkeypatch.setattr(memory, "find_free_memory", lambda: None)
    mean_field(PROB, IMAGE, **OPTIONS)


def test_free_memory_is_a_sensible_number() -> None:
    free = memory.find_free_memory()
    assert free is not None
    assert 2**24 < free < 2**46
