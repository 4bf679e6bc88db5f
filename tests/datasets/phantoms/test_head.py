"""Anatomy of the synthetic head."""

import numpy as np

from pipeline.datasets.phantoms.fields import blend, draw_smooth_noise, soft_step
from pipeline.datasets.phantoms.head import draw_head, render_head


def test_lesion_keeps_its_place_at_another_resolution() -> None:
    head = draw_head(np.random.default_rng(3), slices=10)
    _, coarse = render_head(head, slices=10, size=64)
    _, fine = render_head(head, slices=10, size=128)
    shrunk = fine[0].reshape(10, 64, 2, 64, 2).mean(axis=(2, 4))
    overlap = 2 * np.sum((coarse[0] > 0.5) & (shrunk > 0.5)) / (np.sum(coarse[0] > 0.5) + np.sum(shrunk > 0.5))
    assert overlap > 0.9


def test_signal_is_finite_and_background_dark() -> None:
    head = draw_head(np.random.default_rng(0), slices=8)
    signal, shares = render_head(head, slices=8, size=64)
    assert np.isfinite(signal).all()
    assert signal[:, :, :2, :2].max() < 0.01
    assert signal.max() < 1.5
    assert len(shares) == len(head.lesions)
    assert all(share.min() >= 0 and share.max() <= 1 for share in shares)


def test_border_is_soft() -> None:
    _, shares = render_head(draw_head(np.random.default_rng(0), slices=12), slices=12, size=128)
    partial = np.count_nonzero((shares[0] > 0.1) & (shares[0] < 0.9))
    assert partial > 0.2 * np.count_nonzero(shares[0] >= 0.9)


def test_smooth_noise_is_smooth() -> None:
    noise = draw_smooth_noise(np.random.default_rng(0), (4, 60, 60), (2, 4, 4))
    assert noise.dtype == np.float32
    assert np.abs(np.diff(noise, axis=1)).max() < 0.5


def test_blend_takes_one_or_the_other() -> None:
    below, above = np.float32([1, 1, 1]), np.float32([3, 3, 3])
    np.testing.assert_allclose(blend(below, above, np.float32([0, 0.5, 1])), [1, 2, 3])
    assert soft_step(np.float32([5]), 0.1) == 1
